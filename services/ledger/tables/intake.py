"""What is kept so that nothing is taken in twice: requests of callers, and of providers."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, UUID

from services.ledger.tables.columns import metadata, time_column, uuid_column

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("caller", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("request_hash", BYTEA, nullable=False),
    uuid_column("message_id", nullable=False),
    time_column("create_time", nullable=False),
    sa.Index("idempotency_keys_create_time", "create_time", postgresql_using="brin"),
)

webhook_logs = sa.Table(
    "webhook_logs",
    metadata,
    uuid_column("id", primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    time_column("create_time", nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    # {name: value}, without credentials and signatures
    sa.Column("headers", JSONB, nullable=False),
    sa.Column("body", BYTEA, nullable=False),
    sa.Column("remote_address", sa.Text),
    # accepted, unverified (taken without proof, in development), forged or malformed
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("detail", sa.Text),
    # The messages it told of, as far as they are known; null: none.
    sa.Column("message_ids", ARRAY(UUID(as_uuid=False))),
    # What became of the news in it.
    sa.Column("applied_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("repeated_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("parked_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("refused_count", sa.Integer, nullable=False, server_default="0"),
    # Bytes of the body as it came, where not all of the request is kept; null: all of it is.
    sa.Column("body_size", sa.Integer),
    # When it was last replayed by hand.
    time_column("replay_time", nullable=True),
    # Id of the key that the request is sealed with, see ledger/sealing; null: it is stored as it is.
    sa.Column("sealed_by", sa.Text),
    sa.Index("webhook_logs_create_time", "create_time", postgresql_using="brin"),
)

# One row per news a provider has brought, so that bringing it again changes nothing.
provider_events = sa.Table(
    "provider_events",
    metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("event_key", sa.Text, primary_key=True),
    uuid_column("message_id", nullable=True),
    uuid_column("webhook_log_id", nullable=True),
    time_column("create_time", nullable=False),
    sa.Index("provider_events_create_time", "create_time", postgresql_using="brin"),
)

# Receipts that name a message by the provider's id alone, which no attempt has yet: the provider was faster
# than its own answer. They wait until an attempt has that id, or for too long.
parked_receipts = sa.Table(
    "parked_receipts",
    metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("event_key", sa.Text, primary_key=True),
    sa.Column("provider_message_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    time_column("provider_time", nullable=True),
    sa.Column("error_code", sa.Text),
    sa.Column("detail", sa.Text),
    uuid_column("webhook_log_id", nullable=True),
    # When it came.
    time_column("create_time", nullable=False),
    # When to look for its message next.
    time_column("check_time", nullable=False),
    sa.Index("parked_receipts_check", "check_time"),
)
