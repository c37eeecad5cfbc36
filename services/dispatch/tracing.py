"""The spans of dispatch: one of a batch, and one of each attempt in the trace of its message."""

import contextlib
import contextvars
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final

from services.dispatch.lanes import Work
from services.kit.tracing import CONTEXTS, is_sampled, span, tracing
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.outcomes import Settlement
from services.ledger.trace_contexts import load_contexts

_NOTHING: Final = contextlib.nullcontext()

# Traceparents of the messages of the batch that this task works on.
_of_batch: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("traces", default=None)


def traced_batch(
    database: Database, work: Sequence[Work], claimed: Sequence[ClaimedMessage]
) -> AbstractAsyncContextManager[None]:
    """Return the span of a batch, linked to its messages; nothing where nothing is traced."""
    return _NOTHING if tracing() is None else _traced(database, work, claimed)


def trace_attempts(messages: Sequence[ClaimedMessage], settlements: Sequence[Settlement]) -> None:
    """Make a span of each attempt that has ended, in the trace of its message."""
    found, contexts = tracing(), _of_batch.get()
    if found is None or not contexts:
        return
    numbers = {message.id: message.attempt for message in messages}
    for settlement in settlements:
        context = contexts.get(settlement.id)
        if context is None or settlement.outcome is None:
            continue
        attributes: dict[str, str | int] = {
            "posthouse.message_id": settlement.id,
            "posthouse.channel": settlement.channel,
            "posthouse.provider": settlement.provider or "",
            "posthouse.outcome": settlement.outcome,
            "posthouse.attempt": numbers.get(settlement.id, settlement.attempt),
        }
        if settlement.error_code:
            attributes["posthouse.error_code"] = settlement.error_code
        found.record("attempt", context, "client", attributes, (settlement.start_time, datetime.now(UTC)))


@contextlib.asynccontextmanager
async def _traced(
    database: Database, work: Sequence[Work], claimed: Sequence[ClaimedMessage]
) -> AsyncIterator[None]:
    known = dict(pair for item in work for pair in _contexts_of(item))
    missing = [message.id for message in claimed if message.id not in known]
    # What a sweep has published, after a crash or when it was due, has no context with it.
    known |= await load_contexts(database, missing)
    contexts = {message.id: known[message.id] for message in claimed if is_sampled(known.get(message.id, ""))}
    senders = [(item.message.headers or {}).get("traceparent", "") for item in work]
    token = _of_batch.set(contexts)
    try:
        links = [*senders, *contexts.values()] if contexts else []
        with span("dispatch", links, "consumer", message_count=len(claimed), lane=work[0].lane):
            yield
    finally:
        _of_batch.reset(token)


def _contexts_of(item: Work) -> list[tuple[str, str]]:
    """Return the traceparents that an envelope brought, by message; "" for those that are not traced."""
    contexts = (item.message.headers or {}).get(CONTEXTS, "").split(",")
    ids = item.envelope.message_ids
    return list(zip(ids, contexts, strict=True)) if len(ids) == len(contexts) else []
