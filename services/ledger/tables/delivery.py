"""What must still happen outside PostgreSQL, and what was given up."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from services.ledger.tables.columns import metadata, time_column, uuid_column

# What has been committed and must still happen outside PostgreSQL. A dispatch row carries the ids of
# messages and lives until a dispatcher has settled all of them; an event row lives until the broker
# has stored its payload.
outbox = sa.Table(
    "outbox",
    metadata,
    uuid_column("id", primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("message_ids", ARRAY(UUID(as_uuid=False))),
    # Of the inquiry lane: how often its providers have been asked.
    sa.Column("inquiry_count", sa.SmallInteger, nullable=False, server_default="0"),
    time_column("create_time", nullable=False),
    # When the sweeper publishes it: a safety net for what is published after its commit, the due
    # time of a retry or a scheduled send, and the end of the lease of what is claimed.
    time_column("due_time", nullable=False),
    # Number of times the sweeper has published it; part of the broker's deduplication id.
    sa.Column("publish_count", sa.Integer, nullable=False, server_default="0"),
    # Key of the advisory lock of the dispatcher that has claimed it; null: nobody; 0: one that died.
    sa.Column("owner", sa.Integer),
    sa.Index("outbox_due", "due_time"),
    # What is claimed: a few rows, among however many that are scheduled.
    sa.Index("outbox_owned", "owner", postgresql_where=sa.text("owner > 0")),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    uuid_column("message_id", primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("attempt_count", sa.SmallInteger, nullable=False),
    time_column("create_time", nullable=False),
    time_column("replay_time", nullable=True),
    sa.Index("dead_letters_newest", sa.text("create_time DESC"), sa.text("message_id DESC")),
)
