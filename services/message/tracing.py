"""The spans of receipts: each in the trace of its message, linked to the webhook that brought it."""

from collections.abc import Sequence

from services.kit.tracing import tracing
from services.ledger.database import Database
from services.ledger.receipts import AppliedReceipt
from services.ledger.trace_contexts import load_contexts


async def trace_receipts(database: Database, applied: Sequence[AppliedReceipt]) -> None:
    """Make a span of each receipt that was applied, where its message is traced."""
    found = tracing()
    ids = [receipt.message_id for receipt in applied if receipt.message_id is not None]
    if found is None or not ids:
        return
    contexts = await load_contexts(database, ids)
    for receipt in applied:
        context = contexts.get(receipt.message_id or "")
        if context is not None:
            attributes = {
                "posthouse.message_id": receipt.message_id or "",
                "posthouse.provider": receipt.provider,
                "posthouse.state": receipt.state,
            }
            found.record("receipt", context, "consumer", attributes)
