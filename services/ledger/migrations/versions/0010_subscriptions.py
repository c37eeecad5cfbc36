"""Subscriptions of customers to events, and what is posted to them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.Column("overlap_end_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("rotate_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("fail_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("disable_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("disable_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "event_deliveries",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("subscription_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("message_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("event_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("conversation_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempt_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("create_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subscription_id", "message_id", "sequence"),
    )
    op.create_index(
        "event_deliveries_due",
        "event_deliveries",
        ["subscription_id", "due_time"],
        postgresql_where=sa.text("due_time IS NOT NULL"),
    )
    op.create_index(
        "event_deliveries_untried",
        "event_deliveries",
        ["subscription_id", "conversation_id", "event_time"],
        postgresql_where=sa.text("due_time IS NOT NULL AND attempt_count = 0"),
    )
    op.create_index(
        "event_deliveries_newest",
        "event_deliveries",
        ["subscription_id", sa.text("event_time DESC"), sa.text("id DESC")],
    )
    op.create_index(
        "event_deliveries_create_time", "event_deliveries", ["create_time"], postgresql_using="brin"
    )


def downgrade() -> None:
    for name in ("create_time", "newest", "untried", "due"):
        op.drop_index(f"event_deliveries_{name}", table_name="event_deliveries")
    op.drop_table("event_deliveries")
    op.drop_table("subscriptions")
