"""What search looks at, and how far its passes have come."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

from services.ledger.tables.columns import metadata, uuid_column

# What search looks at, one row per message; written by the conversation processes alone, and derived:
# `posthouse search rebuild` makes all of it again.
message_search = sa.Table(
    "message_search",
    metadata,
    uuid_column("message_id", primary_key=True),
    uuid_column("conversation_id"),
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
    uuid_column("position"),
)

# Conversations whose tenant or language has changed since their messages were indexed; a trigger adds them.
search_stale = sa.Table("search_stale", metadata, uuid_column("conversation_id", primary_key=True))
