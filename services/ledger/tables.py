"""The tables. Migrations must agree with them; a test compares the two.

Words (channels, states, …) are stored in lower case as in JSON. Every time is UTC. Tables whose rows
are updated on the hot path keep mutable columns out of their indexes and leave room in each page, so
that updates stay heap-only.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TSVECTOR, UUID

metadata = sa.MetaData()


def _uuid(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, UUID(as_uuid=False), primary_key=primary_key, nullable=nullable)


def _time(name: str, *, nullable: bool) -> sa.Column[datetime]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


conversations = sa.Table(
    "conversations",
    metadata,
    _uuid("id", primary_key=True),
    sa.Column("channel_family", sa.Text, nullable=False),
    # The two canonical addresses, the smaller first.
    sa.Column("participant_a", sa.Text, nullable=False),
    sa.Column("participant_b", sa.Text, nullable=False),
    _time("create_time", nullable=False),
    _time("last_message_time", nullable=False),
    _uuid("last_message_id", nullable=False),
    sa.Column("message_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("inbound_count", sa.BigInteger, nullable=False, server_default="0"),
    # Value of inbound_count up to which a person has read.
    sa.Column("read_count", sa.BigInteger, nullable=False, server_default="0"),
    _time("archive_time", nullable=True),
    sa.Column("workflow_type", sa.Text),
    sa.Column("workflow_id", sa.Text),
    sa.Column("tenant_id", sa.Text),
    # en, es or pt; how sure that is, from 0 to 1; and the time of the message that showed it.
    sa.Column("language", sa.Text),
    sa.Column("language_confidence", sa.Double),
    _time("language_time", nullable=True),
    sa.Column("metadata", JSONB),
    sa.Index("conversations_last_message", sa.text("last_message_time DESC"), sa.text("id DESC")),
    sa.Index("conversations_participant_a", "participant_a", "participant_b"),
    sa.Index("conversations_participant_b", "participant_b"),
    sa.Index("conversations_tenant", "tenant_id", postgresql_where=sa.text("tenant_id IS NOT NULL")),
    sa.Index(
        "conversations_workflow",
        "workflow_type",
        "workflow_id",
        postgresql_where=sa.text("workflow_type IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

messages = sa.Table(
    "messages",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("conversation_id", nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    # As written; null when the same as the canonical address.
    sa.Column("sender_original", sa.Text),
    sa.Column("recipient_original", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("html", sa.Text),
    # A list of objects with content_type, filename, and either url or content (base64).
    sa.Column("attachments", JSONB),
    sa.Column("metadata", JSONB),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("segment_count", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("segment_encoding", sa.Text),
    # E-mail that goes out even to a recipient who has opted out.
    sa.Column("transactional", sa.Boolean, nullable=False, server_default=sa.text("false")),
    # Who asked for it: the API key's or token's subject; empty when calls are not authenticated.
    sa.Column("caller", sa.Text, nullable=False, server_default=""),
    _time("create_time", nullable=False),
    _time("update_time", nullable=False),
    _time("message_time", nullable=False),
    _time("send_time", nullable=True),
    _time("expire_time", nullable=True),
    _time("next_attempt_time", nullable=True),
    sa.Column("attempt_count", sa.SmallInteger, nullable=False, server_default="0"),
    # Sequence of the newest row of message_events.
    sa.Column("event_count", sa.Integer, nullable=False, server_default="1"),
    # Sequence of the event that brought the message into its state.
    sa.Column("state_sequence", sa.Integer, nullable=False, server_default="1"),
    # When and by which provider the attempt under way began.
    _time("attempt_time", nullable=True),
    sa.Column("provider", sa.Text),
    sa.Column("provider_message_id", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    # Inbound: null until it has been looked at; then a confidence of 0 means that nobody could tell.
    sa.Column("language", sa.Text),
    sa.Column("language_confidence", sa.Double),
    sa.Index("messages_conversation", "conversation_id", sa.text("message_time DESC"), sa.text("id DESC")),
    # A message is updated three times on its way: a page has room for a second version of each row.
    postgresql_with={"fillfactor": "45"},
)

message_events = sa.Table(
    "message_events",
    metadata,
    _uuid("message_id", primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    _time("create_time", nullable=False),
    _time("provider_time", nullable=True),
    sa.Column("attempt_number", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("provider", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("detail", sa.Text),
)

dispatch_attempts = sa.Table(
    "dispatch_attempts",
    metadata,
    _uuid("message_id", primary_key=True),
    sa.Column("number", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("provider", sa.Text, nullable=False),
    # accepted, retryable, rejected or unknown
    sa.Column("outcome", sa.Text, nullable=False),
    _time("start_time", nullable=False),
    _time("end_time", nullable=False),
    sa.Column("provider_message_id", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("route_reason", sa.Text),
    sa.Index(
        "dispatch_attempts_provider_message",
        "provider_message_id",
        postgresql_where=sa.text("provider_message_id IS NOT NULL"),
    ),
)

webhook_logs = sa.Table(
    "webhook_logs",
    metadata,
    _uuid("id", primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    _time("create_time", nullable=False),
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
    # Bytes of the body as it came; null: as many as are kept.
    sa.Column("body_size", sa.Integer),
    # When it was last replayed by hand.
    _time("replay_time", nullable=True),
    sa.Index("webhook_logs_create_time", "create_time", postgresql_using="brin"),
)

# One row per news a provider has brought, so that bringing it again changes nothing.
provider_events = sa.Table(
    "provider_events",
    metadata,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("event_key", sa.Text, primary_key=True),
    _uuid("message_id", nullable=True),
    _uuid("webhook_log_id", nullable=True),
    _time("create_time", nullable=False),
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
    _time("provider_time", nullable=True),
    sa.Column("error_code", sa.Text),
    sa.Column("detail", sa.Text),
    _uuid("webhook_log_id", nullable=True),
    # When it came.
    _time("create_time", nullable=False),
    # When to look for its message next.
    _time("check_time", nullable=False),
    sa.Index("parked_receipts_check", "check_time"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("caller", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("request_hash", BYTEA, nullable=False),
    _uuid("message_id", nullable=False),
    _time("create_time", nullable=False),
    sa.Index("idempotency_keys_create_time", "create_time", postgresql_using="brin"),
)

# What has been committed and must still happen outside PostgreSQL. A dispatch row carries the ids of
# messages and lives until a dispatcher has settled all of them; an event row lives until the broker
# has stored its payload.
outbox = sa.Table(
    "outbox",
    metadata,
    _uuid("id", primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("message_ids", ARRAY(UUID(as_uuid=False))),
    sa.Column("payload", BYTEA),
    _time("create_time", nullable=False),
    # When the sweeper publishes it: a safety net for what is published after its commit, the due
    # time of a retry or a scheduled send, and the end of the lease of what is claimed.
    _time("due_time", nullable=False),
    # Number of times the sweeper has published it; part of the broker's deduplication id.
    sa.Column("publish_count", sa.Integer, nullable=False, server_default="0"),
    # Key of the advisory lock of the dispatcher that has claimed it; null: nobody; 0: one that died.
    sa.Column("owner", sa.Integer),
    sa.Index("outbox_due", "due_time"),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    _uuid("message_id", primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("attempt_count", sa.SmallInteger, nullable=False),
    _time("create_time", nullable=False),
    _time("replay_time", nullable=True),
    sa.Index("dead_letters_newest", sa.text("create_time DESC"), sa.text("message_id DESC")),
)

# Who is to get no more messages, and from which address of ours; what holds now and nothing else. The
# pair of addresses decides, whatever the channel.
opt_outs = sa.Table(
    "opt_outs",
    metadata,
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("sender", sa.Text, primary_key=True),
    # The row of consent_events that brought it; UUIDv7, the order of lists.
    _uuid("event_id"),
    sa.Column("channel_family", sa.Text, nullable=False),
    # contact, provider or api
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("keyword", sa.Text),
    sa.Column("reason", sa.Text),
    _uuid("message_id", nullable=True),
    _time("create_time", nullable=False),
    sa.Index("opt_outs_event", "event_id", unique=True),
)

# The history of consent; rows are only ever added.
consent_events = sa.Table(
    "consent_events",
    metadata,
    _uuid("id", primary_key=True),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("channel_family", sa.Text, nullable=False),
    # opted_out, opted_in, help or overridden
    sa.Column("change", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("keyword", sa.Text),
    sa.Column("reason", sa.Text),
    _uuid("message_id", nullable=True),
    # Who called; empty when calls are not authenticated, and for what was no call.
    sa.Column("caller", sa.Text, nullable=False, server_default=""),
    # False: it was said before already, or is older than what the contact said last.
    sa.Column("effective", sa.Boolean, nullable=False),
    _time("event_time", nullable=False),
    _time("create_time", nullable=False),
    sa.Index("consent_events_pair", "recipient", "sender", sa.text("event_time DESC")),
    # However often a message is looked at, its override is one event.
    sa.Index(
        "consent_events_overridden",
        "message_id",
        unique=True,
        postgresql_where=sa.text("change = 'overridden'"),
    ),
)

# What search looks at, one row per message; written by the conversation processes alone, and derived:
# `posthouse search rebuild` makes all of it again.
message_search = sa.Table(
    "message_search",
    metadata,
    _uuid("message_id", primary_key=True),
    _uuid("conversation_id"),
    # Folded words of addresses, tenant, subject and body, then their stems where the language is known.
    sa.Column("vector", TSVECTOR, nullable=False),
    sa.Index("message_search_conversation", "conversation_id", "message_id"),
    # Rows lie in the order of ids: windows of time are runs of pages.
    sa.Index(
        "message_search_window",
        "message_id",
        postgresql_using="brin",
        postgresql_with={"autosummarize": True, "pages_per_range": 32},
    ),
    # A search reads the whole pending list: it must stay short.
    sa.Index(
        "message_search_vector",
        "vector",
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 512},
    ),
)

# How far each pass over `messages` has come; the row is also the lock of the process that works on it.
search_progress = sa.Table(
    "search_progress",
    metadata,
    # newest, late or rebuild
    sa.Column("name", sa.Text, primary_key=True),
    # Id of the last message that was looked at.
    _uuid("position"),
)

# Conversations whose tenant or language has changed since their messages were indexed; a trigger adds them.
search_stale = sa.Table("search_stale", metadata, _uuid("conversation_id", primary_key=True))

# What changed about a conversation that nobody asked for: rows are only ever added.
conversation_events = sa.Table(
    "conversation_events",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("conversation_id"),
    # language_changed or tenant_linked
    sa.Column("type", sa.Text, nullable=False),
    _time("create_time", nullable=False),
    sa.Column("old_value", sa.Text),
    sa.Column("new_value", sa.Text),
    sa.Column("confidence", sa.Double),
    # message, tenant or monitor
    sa.Column("source", sa.Text, nullable=False),
    # The message that showed it.
    _uuid("message_id", nullable=True),
    sa.Index("conversation_events_conversation", "conversation_id", "id"),
)

# People as the tenant register knows them, and the language that follows them everywhere.
tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("language", sa.Text),
    sa.Column("language_confidence", sa.Double),
    _time("language_time", nullable=True),
    # The preference in the register, as it was last read or written.
    sa.Column("preference", sa.Text),
    # When to write ours there; null: nothing to write.
    _time("push_time", nullable=True),
    sa.Column("push_count", sa.Integer, nullable=False, server_default="0"),
    _time("create_time", nullable=False),
    sa.Index("tenants_push", "push_time", postgresql_where=sa.text("push_time IS NOT NULL")),
)

# The numbers of contacts, whose tenants are asked for.
contacts = sa.Table(
    "contacts",
    metadata,
    sa.Column("address", sa.Text, primary_key=True),
    # As it was received first; null when the same.
    sa.Column("address_original", sa.Text),
    sa.Column("tenant_id", sa.Text),
    # The tenant's most recently used number is the one with the newest message.
    _time("last_message_time", nullable=False),
    # When to ask (again); null: known, nothing to ask.
    _time("lookup_time", nullable=True),
    # Until when somebody is asking.
    _time("lease_time", nullable=True),
    # The last answer, and how many in a row were failures, or said that nobody has the number.
    _time("check_time", nullable=True),
    sa.Column("failure_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("miss_count", sa.Integer, nullable=False, server_default="0"),
    _time("create_time", nullable=False),
    sa.Index("contacts_lookup", "lookup_time", postgresql_where=sa.text("lookup_time IS NOT NULL")),
    sa.Index(
        "contacts_tenant",
        "tenant_id",
        sa.text("last_message_time DESC"),
        postgresql_where=sa.text("tenant_id IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

# Which number was whose, and when; rows are only ever added, and ended once.
tenant_numbers = sa.Table(
    "tenant_numbers",
    metadata,
    _uuid("id", primary_key=True),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("tenant_id", sa.Text, nullable=False),
    _time("start_time", nullable=False),
    _time("end_time", nullable=True),
    sa.Index("tenant_numbers_tenant", "tenant_id"),
    # A number is one tenant's at a time.
    sa.Index("tenant_numbers_current", "address", unique=True, postgresql_where=sa.text("end_time IS NULL")),
)

# Callers that prove themselves with a secret, of which only digests are kept.
api_keys = sa.Table(
    "api_keys",
    metadata,
    _uuid("id", primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scopes", ARRAY(sa.Text), nullable=False),
    # First part of the secret, and the HMAC-SHA256 of all of it.
    sa.Column("prefix", sa.Text, nullable=False, unique=True),
    sa.Column("digest", BYTEA, nullable=False),
    # The secret before the last rotation, while it is still taken.
    sa.Column("old_prefix", sa.Text),
    sa.Column("old_digest", BYTEA),
    _time("overlap_end_time", nullable=True),
    _time("create_time", nullable=False),
    # Later than that of every change committed before; processes watch the latest of them.
    _time("update_time", nullable=False),
    _time("rotate_time", nullable=True),
    _time("expire_time", nullable=True),
    _time("revoke_time", nullable=True),
    sa.Index("api_keys_update", "update_time"),
)

# Which trace each message belongs to, of those that are traced.
trace_contexts = sa.Table(
    "trace_contexts",
    metadata,
    _uuid("message_id", primary_key=True),
    sa.Column("traceparent", sa.Text, nullable=False),
    _time("create_time", nullable=False),
    sa.Index("trace_contexts_create_time", "create_time", postgresql_using="brin"),
)

# Who had what erased: the record outlives the data.
erasures = sa.Table(
    "erasures",
    metadata,
    _uuid("id", primary_key=True),
    # While it is under way; null afterwards.
    sa.Column("address", sa.Text),
    sa.Column("masked_address", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # Who asked; empty when calls are not authenticated.
    sa.Column("caller", sa.Text, nullable=False),
    _time("create_time", nullable=False),
    _time("end_time", nullable=True),
    sa.Column("cancelled_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("message_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("conversation_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("webhook_count", sa.BigInteger, nullable=False, server_default="0"),
    # One erasure of an address at a time.
    sa.Index("erasures_address", "address", unique=True),
)

# Endpoints of customers that are told of events.
subscriptions = sa.Table(
    "subscriptions",
    metadata,
    _uuid("id", primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    # Empty: all.
    sa.Column("event_types", ARRAY(sa.Text), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    # Requests are signed with it, so it must be known; and with the one before the last rotation for a while.
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("old_secret", sa.Text),
    _time("overlap_end_time", nullable=True),
    _time("create_time", nullable=False),
    _time("rotate_time", nullable=True),
    # Since when all attempts have failed.
    _time("fail_time", nullable=True),
    _time("disable_time", nullable=True),
    # request, failing or gone
    sa.Column("disable_reason", sa.Text),
)

# One event for one subscription; what it says is in `message_events`.
event_deliveries = sa.Table(
    "event_deliveries",
    metadata,
    _uuid("id", primary_key=True),
    _uuid("subscription_id"),
    _uuid("message_id"),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    _time("event_time", nullable=False),
    _uuid("conversation_id"),
    # pending, delivered, failed or held
    sa.Column("state", sa.Text, nullable=False),
    # When to try (again), or until when somebody is trying; null: nothing to do.
    _time("due_time", nullable=True),
    sa.Column("attempt_count", sa.Integer, nullable=False, server_default="0"),
    # Of the last attempt.
    _time("attempt_time", nullable=True),
    sa.Column("status_code", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("duration_ms", sa.Integer),
    _time("create_time", nullable=False),
    sa.UniqueConstraint("subscription_id", "message_id", "sequence"),
    sa.Index(
        "event_deliveries_due",
        "subscription_id",
        "due_time",
        postgresql_where=sa.text("due_time IS NOT NULL"),
    ),
    # Those that must not be overtaken.
    sa.Index(
        "event_deliveries_untried",
        "subscription_id",
        "conversation_id",
        "event_time",
        postgresql_where=sa.text("due_time IS NOT NULL AND attempt_count = 0"),
    ),
    sa.Index("event_deliveries_newest", "subscription_id", sa.text("event_time DESC"), sa.text("id DESC")),
    sa.Index("event_deliveries_create_time", "create_time", postgresql_using="brin"),
)
