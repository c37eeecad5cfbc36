"""The record of erasures, which is also the work that is left of them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("masked_address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("end_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancelled_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("message_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("conversation_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("webhook_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    # One erasure of an address at a time.
    op.create_index("erasures_address", "erasures", ["address"], unique=True)


def downgrade() -> None:
    op.drop_table("erasures")
