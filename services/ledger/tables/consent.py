"""Who is to get no more messages, and who had their data erased."""

import sqlalchemy as sa

from services.ledger.tables.columns import metadata, time_column, uuid_column

# Who is to get no more messages, and from which address of ours; what holds now and nothing else. The
# pair of addresses decides, whatever the channel.
opt_outs = sa.Table(
    "opt_outs",
    metadata,
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("sender", sa.Text, primary_key=True),
    # The row of consent_events that brought it; UUIDv7, the order of lists.
    uuid_column("event_id"),
    sa.Column("channel_family", sa.Text, nullable=False),
    # contact, provider or api
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("keyword", sa.Text),
    sa.Column("reason", sa.Text),
    uuid_column("message_id", nullable=True),
    time_column("create_time", nullable=False),
    sa.Index("opt_outs_event", "event_id", unique=True),
)

# The history of consent; rows are only ever added.
consent_events = sa.Table(
    "consent_events",
    metadata,
    uuid_column("id", primary_key=True),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("channel_family", sa.Text, nullable=False),
    # opted_out, opted_in, help or overridden
    sa.Column("change", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("keyword", sa.Text),
    sa.Column("reason", sa.Text),
    uuid_column("message_id", nullable=True),
    # Who called; empty when calls are not authenticated, and for what was no call.
    sa.Column("caller", sa.Text, nullable=False, server_default=""),
    # False: it was said before already, or is older than what the contact said last.
    sa.Column("effective", sa.Boolean, nullable=False),
    time_column("event_time", nullable=False),
    time_column("create_time", nullable=False),
    sa.Index("consent_events_pair", "recipient", "sender", sa.text("event_time DESC")),
    # However often a message is looked at, its override is one event.
    sa.Index(
        "consent_events_overridden",
        "message_id",
        unique=True,
        postgresql_where=sa.text("change = 'overridden'"),
    ),
)

# Who had what erased: the record outlives the data.
erasures = sa.Table(
    "erasures",
    metadata,
    uuid_column("id", primary_key=True),
    # While it is under way; null afterwards.
    sa.Column("address", sa.Text),
    sa.Column("masked_address", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # Who asked; empty when calls are not authenticated.
    sa.Column("caller", sa.Text, nullable=False),
    time_column("create_time", nullable=False),
    time_column("end_time", nullable=True),
    sa.Column("cancelled_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("message_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("conversation_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("webhook_count", sa.BigInteger, nullable=False, server_default="0"),
    # One erasure of an address at a time.
    sa.Index("erasures_address", "address", unique=True),
)
