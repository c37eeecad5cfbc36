"""Callbacks of many messages, shuffled, dropped and repeated: no state goes back, the best one stays."""

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest

from services.kit.bus import Bus, BusConfig
from services.kit.fault_points import FaultPoints
from services.ledger.database import Database
from services.ledger.relay import Relay
from services.message.commit import GroupCommitter
from services.message.placing import Placer
from services.message.webhooks import Arrived, WebhookIngester
from services.providers.twilio import TwilioConfig, TwilioProvider
from tests.integration.ledger.rows import LATER, Book, make_draft, settlement_for
from tests.unit.providers.twilio_carrier import ACCOUNT, PUBLIC, TOKEN, WEBHOOK, form_request

pytestmark = pytest.mark.integration

# LONG_RUNS=1: what is promised, in some minutes.
RUNS, STEPS = (200, 50) if os.environ.get("LONG_RUNS") else (6, 25)
MESSAGES = 8

# What a carrier may say in the course of a message, in this order.
STORIES = (
    ("queued", "sent", "delivered", "read"),
    ("accepted", "queued", "sending", "sent", "delivered"),
    ("sent", "undelivered"),
    ("sent", "undelivered", "delivered"),
    ("queued", "failed"),
    ("sent", "partially_delivered", "delivered"),
)

# How far a state is; written down once more on purpose.
RANK = {"sending": 0, "sent": 1, "undelivered": 2, "delivered": 3, "read": 4}
STATE_OF = {"sent": "sent", "undelivered": "undelivered", "failed": "undelivered", "delivered": "delivered",
            "read": "read"}  # fmt: skip


@pytest.fixture
async def committer(database: Database) -> AsyncIterator[GroupCommitter]:
    relay = Relay(database, Bus(BusConfig(["nats://127.0.0.1:1"], "test")), republish_after=LATER)
    committer = GroupCommitter(
        database, relay, batch_size=1000, queue_size=5000, republish_after=LATER, faults=FaultPoints()
    )
    committer.start()
    yield committer
    await committer.close()


async def test_no_order_of_callbacks_takes_a_state_back(
    database: Database, committer: GroupCommitter, book: Book
) -> None:
    provider = TwilioProvider(TwilioConfig(account_sid=ACCOUNT, auth_token=TOKEN, webhook_base_url=PUBLIC))
    ingester = WebhookIngester({"twilio": provider}, database, committer)
    placer = Placer(database, committer)
    for run in range(RUNS):
        await _Run(random.Random(run), ingester, placer, book, f"{run:03d}").play()  # noqa: S311 - seeded


class _Run:
    """One run: some messages under way, and what their carrier says of them in whatever order."""

    def __init__(
        self, draw: random.Random, ingester: WebhookIngester, placer: Placer, book: Book, name: str
    ) -> None:
        self._draw = draw
        self._ingester = ingester
        self._placer = placer
        self._book = book
        self._name = name
        self._best: dict[str, set[str]] = {}
        self._states: dict[str, str] = {}

    async def play(self) -> None:
        claimed = await self._book.claimed(*(make_draft() for _ in range(MESSAGES)))
        sids = {message.id: f"SM{self._name}{number}" for number, message in enumerate(claimed)}
        told = [(message.id, status) for message in claimed for status in self._draw.choice(STORIES)]
        self._best = {message.id: {"sending"} for message in claimed}
        unanswered = list(claimed)
        for _ in range(STEPS):
            if unanswered and self._draw.random() < 0.2:
                message = unanswered.pop(self._draw.randrange(len(unanswered)))
                await self._book.settle(
                    settlement_for(message, "sent", provider="twilio", provider_message_id=sids[message.id])
                )
                self._best[message.id].add("sent")
            # Some are never told, some several times, several at once.
            posts = [self._draw.choice(told) for _ in range(self._draw.randrange(1, 5))]
            await asyncio.gather(*(self._post(*post, sids) for post in posts))
            await self._check(final=False)
        for message in unanswered:
            await self._book.settle(
                settlement_for(message, "sent", provider="twilio", provider_message_id=sids[message.id])
            )
            self._best[message.id].add("sent")
        await self._book.rows("UPDATE parked_receipts SET check_time = now()")
        await self._placer.place()
        assert await self._book.value("SELECT count(*) FROM parked_receipts") == 0
        await self._check(final=True)

    async def _post(self, message_id: str, status: str, sids: dict[str, str]) -> None:
        # Every other one has lost our ids on its way.
        ours = f"?message_id={message_id}&attempt=1" if self._draw.random() < 0.5 else ""
        request = form_request({"MessageSid": sids[message_id], "MessageStatus": status}, url=WEBHOOK + ours)
        await self._ingester.ingest([Arrived("twilio", request, "")])
        if status in STATE_OF:
            self._best[message_id].add(STATE_OF[status])

    async def _check(self, *, final: bool) -> None:
        found = await self._book.rows(
            "SELECT id::text, state FROM messages WHERE id = ANY(%s::uuid[])", list(self._best)
        )
        for message_id, state in found:
            before = self._states.get(message_id, "sending")
            assert state == before or RANK[state] > RANK[before], (message_id, before, state)
            assert state in self._best[message_id]
            if final:
                assert RANK[state] == max(RANK[seen] for seen in self._best[message_id]), (message_id, state)
            self._states[message_id] = state
