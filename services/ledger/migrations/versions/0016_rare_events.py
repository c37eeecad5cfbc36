"""An index of the events that are rare, for the lists of messages in such states."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "message_events_rare",
        "message_events",
        ["type", "message_id"],
        postgresql_where=sa.text("type IN ('cancelled', 'failed', 'undelivered', 'unknown')"),
    )


def downgrade() -> None:
    op.drop_index("message_events_rare", table_name="message_events")
