"""Conversations, the people in them, and what changed about them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.ledger.tables.columns import metadata, time_column, uuid_column

conversations = sa.Table(
    "conversations",
    metadata,
    uuid_column("id", primary_key=True),
    sa.Column("channel_family", sa.Text, nullable=False),
    # The two canonical addresses, the smaller first.
    sa.Column("participant_a", sa.Text, nullable=False),
    sa.Column("participant_b", sa.Text, nullable=False),
    time_column("create_time", nullable=False),
    time_column("last_message_time", nullable=False),
    uuid_column("last_message_id", nullable=False),
    sa.Column("message_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("inbound_count", sa.BigInteger, nullable=False, server_default="0"),
    # Value of inbound_count up to which a person has read.
    sa.Column("read_count", sa.BigInteger, nullable=False, server_default="0"),
    time_column("archive_time", nullable=True),
    sa.Column("workflow_type", sa.Text),
    sa.Column("workflow_id", sa.Text),
    sa.Column("tenant_id", sa.Text),
    # en, es or pt; how sure that is, from 0 to 1; and the time of the message that showed it.
    sa.Column("language", sa.Text),
    sa.Column("language_confidence", sa.Double),
    time_column("language_time", nullable=True),
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

# What changed about a conversation that nobody asked for: rows are only ever added.
conversation_events = sa.Table(
    "conversation_events",
    metadata,
    uuid_column("id", primary_key=True),
    uuid_column("conversation_id"),
    # language_changed or tenant_linked
    sa.Column("type", sa.Text, nullable=False),
    time_column("create_time", nullable=False),
    sa.Column("old_value", sa.Text),
    sa.Column("new_value", sa.Text),
    sa.Column("confidence", sa.Double),
    # message, tenant or monitor
    sa.Column("source", sa.Text, nullable=False),
    # The message that showed it.
    uuid_column("message_id", nullable=True),
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
    time_column("language_time", nullable=True),
    # The preference in the register, as it was last read or written.
    sa.Column("preference", sa.Text),
    # When to write ours there; null: nothing to write.
    time_column("push_time", nullable=True),
    sa.Column("push_count", sa.Integer, nullable=False, server_default="0"),
    time_column("create_time", nullable=False),
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
    time_column("last_message_time", nullable=False),
    # When to ask (again); null: known, nothing to ask.
    time_column("lookup_time", nullable=True),
    # Until when somebody is asking.
    time_column("lease_time", nullable=True),
    # The last answer, and how many in a row were failures, or said that nobody has the number.
    time_column("check_time", nullable=True),
    sa.Column("failure_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("miss_count", sa.Integer, nullable=False, server_default="0"),
    time_column("create_time", nullable=False),
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
    uuid_column("id", primary_key=True),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("tenant_id", sa.Text, nullable=False),
    time_column("start_time", nullable=False),
    time_column("end_time", nullable=True),
    sa.Index("tenant_numbers_tenant", "tenant_id"),
    # A number is one tenant's at a time.
    sa.Index("tenant_numbers_current", "address", unique=True, postgresql_where=sa.text("end_time IS NULL")),
)
