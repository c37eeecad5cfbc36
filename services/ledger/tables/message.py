"""Messages, what happened to each, and how often each was tried."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.ledger.states import RARE
from services.ledger.tables.columns import metadata, time_column, uuid_column

_RARE = ", ".join(f"'{state}'" for state in sorted(RARE))

messages = sa.Table(
    "messages",
    metadata,
    uuid_column("id", primary_key=True),
    uuid_column("conversation_id", nullable=False),
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
    time_column("create_time", nullable=False),
    time_column("update_time", nullable=False),
    time_column("message_time", nullable=False),
    time_column("send_time", nullable=True),
    time_column("expire_time", nullable=True),
    time_column("next_attempt_time", nullable=True),
    sa.Column("attempt_count", sa.SmallInteger, nullable=False, server_default="0"),
    # Sequence of the newest row of message_events.
    sa.Column("event_count", sa.Integer, nullable=False, server_default="1"),
    # Sequence of the event that brought the message into its state.
    sa.Column("state_sequence", sa.Integer, nullable=False, server_default="1"),
    # When and by which provider the attempt under way began.
    time_column("attempt_time", nullable=True),
    sa.Column("provider", sa.Text),
    sa.Column("provider_message_id", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    # Inbound: null until it has been looked at; then a confidence of 0 means that nobody could tell.
    sa.Column("language", sa.Text),
    sa.Column("language_confidence", sa.Double),
    # Id of the key that its content is sealed with, see ledger/sealing; null: it is stored as it is.
    sa.Column("sealed_by", sa.Text),
    # E-mail: where it is answered to; null: as the settings say for its sender.
    sa.Column("reply_to", sa.Text),
    sa.Index("messages_conversation", "conversation_id", sa.text("message_time DESC"), sa.text("id DESC")),
    # A message is updated three times on its way: a page has room for a second version of each row.
    postgresql_with={"fillfactor": "45"},
)

message_events = sa.Table(
    "message_events",
    metadata,
    uuid_column("message_id", primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    time_column("create_time", nullable=False),
    time_column("provider_time", nullable=True),
    sa.Column("attempt_number", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("provider", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("detail", sa.Text),
    # For the lists of the states that are rare. It is here since rows of events never change: an index of
    # `messages` that names the state would have every update of a message write to all of its indexes.
    sa.Index(
        "message_events_rare",
        "type",
        "message_id",
        postgresql_where=sa.text(f"type IN ({_RARE})"),
    ),
)

dispatch_attempts = sa.Table(
    "dispatch_attempts",
    metadata,
    uuid_column("message_id", primary_key=True),
    sa.Column("number", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("provider", sa.Text, nullable=False),
    # accepted, retryable, rejected or unknown
    sa.Column("outcome", sa.Text, nullable=False),
    time_column("start_time", nullable=False),
    time_column("end_time", nullable=False),
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

# Which trace each message belongs to, of those that are traced.
trace_contexts = sa.Table(
    "trace_contexts",
    metadata,
    uuid_column("message_id", primary_key=True),
    sa.Column("traceparent", sa.Text, nullable=False),
    time_column("create_time", nullable=False),
    sa.Index("trace_contexts_create_time", "create_time", postgresql_using="brin"),
)
