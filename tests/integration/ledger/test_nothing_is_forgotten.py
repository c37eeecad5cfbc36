"""Dispatchers do some of their work and die at any point: what is not done has a row to bring it back."""

import random
from collections.abc import Sequence

import pytest

from services.kit.ids import new_id
from services.ledger.cancel import cancel
from services.ledger.claims import ClaimedMessage, claim, keep
from services.ledger.database import Database
from services.ledger.dead_letters import replay
from services.ledger.holding import Hold, hold
from services.ledger.inquiries import claim_inquiries, claim_orphans, postpone
from services.ledger.refusals import refuse_waiting
from services.ledger.resolving import resolve

from .rows import LATER, Book, make_draft, settlement_for

pytestmark = pytest.mark.integration

_STEPS = 120

# What waits must be in an envelope; what is under way in one that somebody holds, or held when he died, since
# only there it is looked for; what is unknown is asked for, or was left to a person.
_FORGOTTEN = """
SELECT m.id::text, m.state, m.attempt_count FROM messages m
WHERE m.state IN ('pending', 'scheduled', 'sending') AND NOT EXISTS (
    SELECT FROM outbox o WHERE o.subject LIKE 'posthouse.dispatch.%%' AND o.subject NOT LIKE '%%.inquiry'
      AND m.id = ANY(o.message_ids) AND (m.state <> 'sending' OR o.owner IS NOT NULL)
  )
  OR m.state = 'unknown' AND NOT EXISTS (
    SELECT FROM outbox o WHERE o.subject LIKE '%%.inquiry' AND m.id = ANY(o.message_ids)
  ) AND NOT EXISTS (SELECT FROM message_events e WHERE e.message_id = m.id AND e.type = 'held')
"""
_FREE = (
    "SELECT id::text FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%' AND coalesce(owner, 0) = 0"
    " AND subject {} LIKE '%%.inquiry' ORDER BY id"
)
_NEWS = {"event_outbox_id": "", "republish_after": LATER}


def _news() -> dict[str, object]:
    return {**_NEWS, "event_outbox_id": new_id()}


class _Town:
    """Some dispatchers, and everybody else who moves messages; each step may be the last of who takes it."""

    def __init__(self, book: Book, database: Database, seed: int) -> None:
        self._book = book
        self._database = database
        self._draw = random.Random(seed)  # noqa: S311 - a seed, no secret
        self._owner = 0

    async def step(self) -> None:
        steps = {
            self._accept: 2,
            self._dispatch: 8,
            self._sweep: 4,
            self._inquire: 3,
            self._tell: 3,
            self._cancel: 1,
            self._expire: 1,
            self._replay: 1,
            self._resolve: 1,
        }
        (chosen,) = self._draw.choices(list(steps), list(steps.values()))
        await chosen()

    async def _accept(self) -> None:
        await self._book.accept(*(make_draft() for _ in range(self._draw.randint(1, 4))))

    async def _some(self, kind: str) -> list[str]:
        """Return up to three envelopes that nobody living holds."""
        found = [row[0] for row in await self._book.rows(_FREE.format(kind))]
        return self._draw.sample(found, min(len(found), self._draw.randint(1, 3)))

    async def _dispatch(self) -> None:
        self._owner += 1
        boxes = await self._some("NOT")
        if boxes:
            await self._work(boxes, self._owner)

    async def _sweep(self) -> None:
        """Find out that a dispatcher has died."""
        owners = await self._book.rows("SELECT DISTINCT owner FROM outbox WHERE owner > 0")
        if owners:
            await self._book.rows("UPDATE outbox SET owner = 0 WHERE owner = %s", *self._draw.choice(owners))

    async def _work(self, boxes: Sequence[str], owner: int) -> None:
        limit = self._draw.choice([None, None, 1, 2])
        size = await self._book.value(
            "SELECT sum(cardinality(message_ids))::int FROM outbox WHERE id = ANY(%s::uuid[])", boxes
        )
        async with self._database.hot() as connection:
            claimed, taken = await claim(connection, boxes, owner=owner, lease=LATER, limit=limit, **_news())  # type: ignore[arg-type]
        if self._dies():
            return
        own = [message.id for message in claimed]
        abandoned = [box for box, was_held in taken.items() if was_held]
        async with self._database.hot() as connection:
            if abandoned:
                await claim_orphans(
                    connection,
                    abandoned,
                    owner=owner,
                    own=own,
                    lease=LATER,
                    inquiry_delay=LATER,
                    event_outbox_id=new_id(),
                )
            if self._dies():
                return
            partly = limit is not None and len(claimed) >= limit
            if len(claimed) < size and not partly:
                await refuse_waiting(connection, list(taken), owner=owner, **_news())  # type: ignore[arg-type]
        if self._dies() or not await self._send(claimed, () if partly else list(taken), owner):
            return
        if partly:
            async with self._database.hot() as connection:
                await keep(connection, list(taken), without=own, owner=owner, delay=LATER)

    async def _send(self, claimed: Sequence[ClaimedMessage], boxes: Sequence[str], owner: int) -> bool:
        """Settle messages one by one; the last closes the envelopes. False where the dispatcher dies."""
        if not claimed:
            await self._book.settle(closing=boxes, owner=owner)
        for number, message in enumerate(claimed, 1):
            if self._dies():
                return False
            state = self._draw.choice(["sent", "pending", "pending", "failed", "unknown"])
            held_back = state == "pending" and self._draw.random() < 0.3
            settlement = settlement_for(
                message,
                state,
                delay=self._draw.choice([0.0, LATER]) if state in {"pending", "unknown"} else None,
                dead_reason="rejected" if state == "failed" else None,
                **({"outcome": None} if held_back else {}),
            )
            await self._book.settle(settlement, closing=boxes if number == len(claimed) else (), owner=owner)
        return True

    async def _inquire(self) -> None:
        self._owner += 1
        boxes = await self._some("")
        async with self._database.hot() as connection:
            messages, taken = await claim_inquiries(connection, boxes, owner=self._owner, lease=LATER)
        settlements, again = [], set()
        for message in messages:
            answer = self._draw.choice(["found", "absent", "held", "nothing"])
            if answer == "held":
                async with self._database.hot() as connection:
                    await hold(connection, [Hold(message.id, message.attempt, "held")], **_news())  # type: ignore[arg-type]
            elif answer == "nothing":
                again.add(message.outbox_id)
            else:
                state = {"found": "sent", "absent": "pending"}[answer]
                outcome = "accepted" if answer == "found" else "unknown"
                delay = 0.0 if answer == "absent" else None
                settlements.append(settlement_for(message, state, outcome=outcome, delay=delay))
        if not self._dies():
            closing = [box for box in taken if box not in again]
            await self._book.settle(*settlements, closing=closing, owner=self._owner)
            if not self._dies():
                async with self._database.hot() as connection:
                    await postpone(connection, list(again), owner=self._owner, delay=LATER, asked=1)

    async def _tell(self) -> None:
        found = await self._book.rows("SELECT id::text, attempt_count FROM messages WHERE attempt_count > 0")
        if found:
            message_id, attempts = self._draw.choice(found)
            await self._book.receive(
                message_id,
                self._draw.choice(["sent", "delivered", "undelivered"]),
                attempt=self._draw.randint(1, attempts),
            )

    async def _one(self, state: str) -> str:
        found = await self._book.rows("SELECT id::text FROM messages WHERE state = %s", state)
        return str(self._draw.choice(found)[0]) if found else new_id()

    async def _cancel(self) -> None:
        async with self._database.hot() as connection:
            await cancel(connection, await self._one("pending"), **_news())  # type: ignore[arg-type]

    async def _expire(self) -> None:
        await self._book.rows(
            "UPDATE messages SET expire_time = now() WHERE id = %s", await self._one("pending")
        )

    async def _replay(self) -> None:
        async with self._database.hot() as connection:
            await replay(connection, [await self._one("failed")], **_news())  # type: ignore[arg-type]

    async def _resolve(self) -> None:
        state = self._draw.choice(["sent", "pending", "failed"])
        async with self._database.hot() as connection:
            await resolve(connection, await self._one("unknown"), state=state, reason="seen", **_news())  # type: ignore[arg-type]

    def _dies(self) -> bool:
        return self._draw.random() < 0.15


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_not_done_has_a_row_that_brings_it_back(
    book: Book, database: Database, seed: int
) -> None:
    town = _Town(book, database, seed)
    for _ in range(_STEPS):
        await town.step()
        assert await book.rows(_FORGOTTEN) == []
