"""Find retries of event deliveries without those that were not tried yet."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "event_deliveries_retry",
        "event_deliveries",
        ["subscription_id", "due_time"],
        postgresql_where=sa.text("due_time IS NOT NULL AND attempt_count > 0"),
    )
    op.drop_index("event_deliveries_due", table_name="event_deliveries")


def downgrade() -> None:
    op.create_index(
        "event_deliveries_due",
        "event_deliveries",
        ["subscription_id", "due_time"],
        postgresql_where=sa.text("due_time IS NOT NULL"),
    )
    op.drop_index("event_deliveries_retry", table_name="event_deliveries")
