"""What became of each webhook, and receipts that wait for their message."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COUNTS = ("applied_count", "repeated_count", "parked_count", "refused_count")


def upgrade() -> None:
    # Constant defaults are kept in the catalogue: no row is rewritten.
    op.add_column(
        "webhook_logs", sa.Column("message_ids", postgresql.ARRAY(sa.UUID(as_uuid=False)), nullable=True)
    )
    for name in _COUNTS:
        op.add_column("webhook_logs", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.add_column("webhook_logs", sa.Column("body_size", sa.Integer(), nullable=True))
    op.add_column("webhook_logs", sa.Column("replay_time", sa.TIMESTAMP(timezone=True), nullable=True))
    op.create_table(
        "parked_receipts",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("event_key", sa.Text(), nullable=False),
        sa.Column("provider_message_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("provider_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("webhook_log_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("check_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "event_key"),
    )
    op.create_index("parked_receipts_check", "parked_receipts", ["check_time"], unique=False)


def downgrade() -> None:
    op.drop_index("parked_receipts_check", table_name="parked_receipts")
    op.drop_table("parked_receipts")
    for name in ("replay_time", "body_size", *reversed(_COUNTS), "message_ids"):
        op.drop_column("webhook_logs", name)
