"""Drafts to store, and the book in which a test moves messages by hand and reads what became of them."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from services.kit.ids import new_id
from services.ledger.accept import Acceptance, Intake, accept
from services.ledger.claims import ClaimedMessage, claim
from services.ledger.database import Database
from services.ledger.drafts import Draft
from services.ledger.outcomes import Settled, Settlement, settle
from services.ledger.receipts import AppliedReceipt, ReceiptRow, apply_receipts
from services.ledger.threading import conversation_id, conversation_key, family_of

OURS = "+15551234567"
CONTACT = "+15559876543"

# Long enough that nothing is due before a test says so.
LATER = 600.0


def make_draft(**fields: Any) -> Draft:
    """Return the draft of an SMS from us to the contact, with some fields replaced."""
    channel = fields.setdefault("channel", "sms")
    sender, recipient = fields.setdefault("sender", OURS), fields.setdefault("recipient", CONTACT)
    family = family_of(channel)
    first, second = conversation_key(family, sender, recipient)
    return Draft(
        **{
            "direction": "outbound",
            "body": "hello",
            "conversation_id": conversation_id(family, sender, recipient),
            "family": family,
            "participant_a": first,
            "participant_b": second,
            **fields,
        }
    )


def make_inbound(event_key: str, **fields: Any) -> Draft:
    """Return the draft of the contact's answer, as a provider brought it."""
    given = {"direction": "inbound", "sender": CONTACT, "recipient": OURS, "source": "simulator", **fields}
    return make_draft(event_key=event_key, **given)


def settlement_for(message: ClaimedMessage, state: str, **fields: Any) -> Settlement:
    """Return the settlement of an attempt that brings a message into a state."""
    event, outcome = {
        "sent": ("sent", "accepted"),
        "pending": ("retrying", "retryable"),
        "failed": ("failed", "rejected"),
        "unknown": ("unknown", "unknown"),
    }[state]
    made = Settlement(
        id=message.id,
        attempt=message.attempt,
        channel=message.channel,
        priority=message.priority,
        state=state,
        outcome=outcome,
        event=event,
        start_time=message.attempt_time,
        provider="simulator",
    )
    return replace(made, **fields)


async def eventually(check: Callable[[], Awaitable[Any]], *, within: float = 120.0) -> Any:
    """Return what the check returns as soon as it is true, or fail when the time is up."""
    found: Any = None
    try:
        async with asyncio.timeout(within):
            while True:
                found = await check()
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s; last seen: {found!r}") from None


class Book:
    """The ledger's transactions one at a time, each on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = itertools.count(1)

    async def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        async with self._database.hot() as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def value(self, statement: str, *parameters: object) -> Any:
        ((found,),) = await self.rows(statement, *parameters)
        return found

    async def accept(self, *drafts: Draft, caller: str = "", ids: Sequence[str] = ()) -> Acceptance:
        items = [
            Intake(given or new_id(), draft, caller)
            for draft, given in itertools.zip_longest(drafts, ids, fillvalue=None)
            if draft is not None
        ]
        async with self._database.hot() as connection:
            return await accept(connection, items, republish_after=LATER)

    async def claim(
        self, outbox_ids: Sequence[str], *, owner: int = 1
    ) -> tuple[list[ClaimedMessage], list[str]]:
        async with self._database.hot() as connection:
            claimed, taken = await claim(
                connection,
                outbox_ids,
                owner=owner,
                lease=LATER,
                event_outbox_id=new_id(),
                republish_after=LATER,
            )
        return claimed, list(taken)

    async def claimed(self, *drafts: Draft, owner: int = 1) -> list[ClaimedMessage]:
        """Accept drafts and claim them; they must fit into one envelope."""
        acceptance = await self.accept(*drafts)
        (envelope,) = acceptance.envelopes
        claimed, _ = await self.claim([envelope.outbox_id], owner=owner)
        assert len(claimed) == len(drafts)
        return claimed

    async def settle(
        self, *settlements: Settlement, closing: Sequence[str] = (), owner: int = 1
    ) -> list[Settled]:
        async with self._database.hot() as connection:
            return await settle(
                connection,
                settlements,
                settled_outbox_ids=closing,
                owner=owner,
                event_outbox_id=new_id(),
                republish_after=LATER,
            )

    async def receive(self, message_id: str | None, state: str, **fields: Any) -> AppliedReceipt | None:
        """Apply one receipt under a new key, unless one is given; None when it was no news."""
        row = ReceiptRow(
            provider="simulator",
            event_key=fields.pop("event_key", f"key-{next(self._keys)}"),
            message_id=message_id,
            state=state,
            attempt=1,
            provider_message_id="SM1",
            provider_time=None,
            error_code=None,
            detail=None,
            webhook_log_id=None,
        )
        async with self._database.hot() as connection:
            applied = await apply_receipts(
                connection,
                [replace(row, **fields)],
                event_outbox_id=new_id(),
                republish_after=LATER,
            )
        return applied[0] if applied else None

    async def state(self, message_id: str) -> str:
        return str(await self.value("SELECT state FROM messages WHERE id = %s", message_id))

    async def story(self, message_id: str) -> list[str]:
        """Return the types of a message's events, which are numbered without gaps, as the message says."""
        events = await self.rows(
            "SELECT sequence, type FROM message_events WHERE message_id = %s ORDER BY sequence", message_id
        )
        assert [sequence for sequence, _ in events] == list(range(1, len(events) + 1))
        assert len(events) == await self.value("SELECT event_count FROM messages WHERE id = %s", message_id)
        return [kind for _, kind in events]
