"""The tables. Migrations must agree with them; a test compares the two.

Words (channels, states, …) are stored in lower case as in JSON. Every time is UTC. Tables whose rows
are updated on the hot path keep mutable columns out of their indexes and leave room in each page, so
that updates stay heap-only.
"""

from services.ledger.tables.access import api_keys
from services.ledger.tables.columns import metadata
from services.ledger.tables.consent import consent_events, erasures, opt_outs
from services.ledger.tables.conversation import (
    contacts,
    conversation_events,
    conversations,
    tenant_numbers,
    tenants,
)
from services.ledger.tables.delivery import dead_letters, outbox
from services.ledger.tables.intake import idempotency_keys, parked_receipts, provider_events, webhook_logs
from services.ledger.tables.message import dispatch_attempts, message_events, messages, trace_contexts
from services.ledger.tables.search import message_search, search_progress, search_stale
from services.ledger.tables.subscription import event_deliveries, subscriptions

__all__ = [
    "api_keys",
    "consent_events",
    "contacts",
    "conversation_events",
    "conversations",
    "dead_letters",
    "dispatch_attempts",
    "erasures",
    "event_deliveries",
    "idempotency_keys",
    "message_events",
    "message_search",
    "messages",
    "metadata",
    "opt_outs",
    "outbox",
    "parked_receipts",
    "provider_events",
    "search_progress",
    "search_stale",
    "subscriptions",
    "tenant_numbers",
    "tenants",
    "trace_contexts",
    "webhook_logs",
]
