"""Subscriptions of customers to events, and what is posted to them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.ledger.tables.columns import metadata, time_column, uuid_column

# Endpoints of customers that are told of events.
subscriptions = sa.Table(
    "subscriptions",
    metadata,
    uuid_column("id", primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    # Empty: all.
    sa.Column("event_types", ARRAY(sa.Text), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    # Requests are signed with it, so it must be known; and with the one before the last rotation for a while.
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("old_secret", sa.Text),
    time_column("overlap_end_time", nullable=True),
    time_column("create_time", nullable=False),
    time_column("rotate_time", nullable=True),
    # Since when all attempts have failed.
    time_column("fail_time", nullable=True),
    time_column("disable_time", nullable=True),
    # request, failing or gone
    sa.Column("disable_reason", sa.Text),
)

# One event for one subscription; what it says is in `message_events`.
event_deliveries = sa.Table(
    "event_deliveries",
    metadata,
    uuid_column("id", primary_key=True),
    uuid_column("subscription_id"),
    uuid_column("message_id"),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    time_column("event_time", nullable=False),
    uuid_column("conversation_id"),
    # pending, delivered, failed or held
    sa.Column("state", sa.Text, nullable=False),
    # When to try (again), or until when somebody is trying; null: nothing to do.
    time_column("due_time", nullable=True),
    sa.Column("attempt_count", sa.Integer, nullable=False, server_default="0"),
    # Of the last attempt.
    time_column("attempt_time", nullable=True),
    sa.Column("status_code", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("duration_ms", sa.Integer),
    # The newest attempts, oldest first: [end time, status or null, error or null, milliseconds].
    sa.Column("attempts", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
    time_column("create_time", nullable=False),
    sa.UniqueConstraint("subscription_id", "message_id", "sequence"),
    sa.Index(
        "event_deliveries_retry",
        "subscription_id",
        "due_time",
        postgresql_where=sa.text("due_time IS NOT NULL AND attempt_count > 0"),
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
