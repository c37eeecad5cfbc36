"""Which trace each message belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trace_contexts",
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_index("trace_contexts_create_time", "trace_contexts", ["create_time"], postgresql_using="brin")


def downgrade() -> None:
    op.drop_table("trace_contexts")
