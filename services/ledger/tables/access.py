"""Callers and what they prove themselves with."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA

from services.ledger.tables.columns import metadata, time_column, uuid_column

# Callers that prove themselves with a secret, of which only digests are kept.
api_keys = sa.Table(
    "api_keys",
    metadata,
    uuid_column("id", primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scopes", ARRAY(sa.Text), nullable=False),
    # First part of the secret, and the HMAC-SHA256 of all of it.
    sa.Column("prefix", sa.Text, nullable=False, unique=True),
    sa.Column("digest", BYTEA, nullable=False),
    # The secret before the last rotation, while it is still taken.
    sa.Column("old_prefix", sa.Text),
    sa.Column("old_digest", BYTEA),
    time_column("overlap_end_time", nullable=True),
    time_column("create_time", nullable=False),
    # Later than that of every change committed before; processes watch the latest of them.
    time_column("update_time", nullable=False),
    time_column("rotate_time", nullable=True),
    time_column("expire_time", nullable=True),
    time_column("revoke_time", nullable=True),
    sa.Index("api_keys_update", "update_time"),
)
