"""Callbacks of many messages, shuffled, dropped and repeated: no state goes back, the best one stays."""

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.kit.bus import Bus, BusConfig
from services.kit.fault_points import FaultPoints
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.relay import Relay
from services.message.commit import GroupCommitter
from services.message.forgeries import Forgeries
from services.message.placing import Placer
from services.message.webhooks import Arrived, Ingested, WebhookIngester
from services.providers.base import WebhookRequest
from services.providers.sendgrid import SendGridConfig, SendGridProvider
from services.providers.twilio import TwilioConfig, TwilioProvider
from tests.integration.ledger.rows import LATER, Book, make_draft, settlement_for
from tests.unit.providers.sendgrid_requests import event, events, public_key, signed
from tests.unit.providers.twilio_carrier import ACCOUNT, PUBLIC, TOKEN, WEBHOOK, form_request

pytestmark = pytest.mark.integration

# LONG_RUNS=1: what is promised, in some minutes.
RUNS, STEPS = (200, 50) if os.environ.get("LONG_RUNS") else (8, 25)
# Of each provider.
MESSAGES = 4

# How far a state is, and what each status makes of a message; written down once more on purpose.
RANK = {"sending": 0, "sent": 1, "undelivered": 2, "delivered": 3, "read": 4}
TWILIO = {"queued": "", "sending": "", "partially_delivered": "", "sent": "sent", "failed": "undelivered",
          "undelivered": "undelivered", "canceled": "undelivered", "delivered": "delivered",
          "read": "read"}  # fmt: skip
SENDGRID = {"processed": "sent", "deferred": "", "bounce": "undelivered", "dropped": "undelivered",
            "delivered": "delivered", "open": "", "click": ""}  # fmt: skip
# When it happened, as SendGrid says it: two times, and one that is none.
MOMENTS = (1767323045, 1767323999, "soon")

EMAIL = {"channel": "email", "sender": "desk@example.com", "recipient": "ann@example.org"}


@dataclass(frozen=True)
class News:
    """A callback: of which message it tells what, and whether our ids have come back with it."""

    number: int
    status: str
    moment: int | str = ""
    with_ids: bool = True

    @property
    def state(self) -> str:
        return TWILIO[self.status] if self.number < MESSAGES else SENDGRID[self.status]

    @property
    def time(self) -> datetime | None:
        return datetime.fromtimestamp(self.moment, UTC) if isinstance(self.moment, int) else None

    @property
    def key(self) -> tuple[str, int | str]:
        return self.status, self.moment


@dataclass
class Told:
    """What is known of a message: by us, and by the test."""

    claimed: ClaimedMessage
    sid: str
    provider: str
    answered: bool = False
    state: str = "sending"
    # What has been applied, and what waits for the answer of the send.
    applied: dict[tuple[str, int | str], News] = field(default_factory=dict)
    parked: dict[tuple[str, int | str], News] = field(default_factory=dict)

    @property
    def best(self) -> str:
        seen = {news.state for news in self.applied.values() if news.state}
        return max(seen | {"sent" if self.answered else "sending"}, key=RANK.__getitem__)


SMS_NEWS = st.builds(
    News, st.integers(0, MESSAGES - 1), st.sampled_from(sorted(TWILIO)), st.just(""), st.booleans()
)
EMAIL_NEWS = st.builds(
    News,
    st.integers(MESSAGES, 2 * MESSAGES - 1),
    st.sampled_from(sorted(SENDGRID)),
    st.sampled_from(MOMENTS),
    st.booleans(),
)


class House:
    """The message process's side of webhooks on a ledger, driven from outside any event loop."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._examples = 0
        self.database = Database(url, pool_size=10, timeout=60, name="test")
        self.book = Book(self.database)
        relay = Relay(self.database, Bus(BusConfig(["nats://127.0.0.1:1"], "test")), republish_after=LATER)
        self._committer = GroupCommitter(
            self.database,
            relay,
            batch_size=1000,
            queue_size=5000,
            republish_after=LATER,
            faults=FaultPoints(),
        )
        self.placer = Placer(self.database, self._committer)
        providers = {
            "twilio": TwilioProvider(
                TwilioConfig(account_sid=ACCOUNT, auth_token=TOKEN, webhook_base_url=PUBLIC)
            ),
            "sendgrid": SendGridProvider(SendGridConfig("key", public_key=public_key())),
        }
        self.ingester = WebhookIngester(
            providers, self.database, self._committer, forgeries=Forgeries(1_000_000)
        )

    def __enter__(self) -> Self:
        self.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def next_example(self) -> int:
        self._examples += 1
        return self._examples

    async def _start(self) -> None:
        await self.database.start()
        self._committer.start()

    async def _close(self) -> None:
        await self._committer.close()
        await self.database.close()


class Callbacks(RuleBasedStateMachine):
    """Some messages under way, and what their providers say of them: anything, in any order, or nothing."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self._book = house.book
        self._told: list[Told] = []

    @initialize()
    def claim(self) -> None:
        example = self._house.next_example()
        for provider, fields in (("twilio", {}), ("sendgrid", EMAIL)):
            claimed = self._house.run(self._book.claimed(*(make_draft(**fields) for _ in range(MESSAGES))))
            self._told += [
                Told(message, f"{provider}-{example}-{number}", provider)
                for number, message in enumerate(claimed)
            ]

    @rule(
        news=st.lists(SMS_NEWS, min_size=2, max_size=5), bundle=st.lists(EMAIL_NEWS, min_size=1, max_size=6)
    )
    def tell(self, news: list[News], bundle: list[News]) -> None:
        """Post callbacks at once: Twilio's one by one, SendGrid's in a bundle."""
        requests = [Arrived("twilio", self._callback(each), "") for each in news]
        requests.append(Arrived("sendgrid", signed(events(*map(self._event, bundle))), ""))
        answers = self._house.run(self._house.ingester.ingest(requests))
        assert all(isinstance(answer, Ingested) for answer in answers), answers
        for each in (*news, *bundle):
            told = self._told[each.number]
            known = each.with_ids or told.answered
            (told.applied if known else told.parked).setdefault(each.key, each)

    @precondition(lambda self: not all(told.answered for told in self._told))
    @rule(choice=st.integers(0, 2 * MESSAGES - 1))
    def answer(self, choice: int) -> None:
        """Settle a send: only now do we know the provider's id."""
        unanswered = [told for told in self._told if not told.answered]
        told = unanswered[choice % len(unanswered)]
        told.answered = True
        settlement = settlement_for(
            told.claimed, "sent", provider=told.provider, provider_message_id=told.sid
        )
        self._house.run(self._book.settle(settlement))

    @precondition(lambda self: any(told.answered and told.parked for told in self._told))
    @rule()
    def place(self) -> None:
        """Look for the messages of what is parked."""
        self._house.run(self._book.rows("UPDATE parked_receipts SET check_time = now()"))
        self._house.run(self._house.placer.place())
        for told in self._told:
            if told.answered:
                told.applied = {**told.parked, **told.applied}
                told.parked.clear()

    @invariant()
    def no_state_goes_back_and_the_best_stays(self) -> None:
        found = dict(
            self._house.run(
                self._book.rows(
                    "SELECT id::text, state FROM messages WHERE id = ANY(%s::uuid[])",
                    [told.claimed.id for told in self._told],
                )
            )
        )
        for told in self._told:
            state = found[told.claimed.id]
            assert RANK[state] >= RANK[told.state], (told, state)
            assert state == told.best, (told, state)
            told.state = state

    def teardown(self) -> None:
        """Let the late answers come, and read the whole story."""
        if not self._told:
            return
        while not all(told.answered for told in self._told):
            self.answer(0)
        self.place()
        self.no_state_goes_back_and_the_best_stays()
        assert self._house.run(self._book.value("SELECT count(*) FROM parked_receipts")) == 0
        for told in self._told:
            self._check_story(told)

    def _check_story(self, told: Told) -> None:
        story = self._house.run(self._book.story(told.claimed.id))
        assert story[:2] == ["accepted", "sending"]
        states = [kind for kind in story[1:] if kind != "receipt"]
        assert [RANK[state] for state in states] == sorted({RANK[state] for state in states}), story
        assert states[-1] == told.state
        # Each piece of news once, and the answer of the send.
        assert len(story) == 2 + 1 + len(told.applied), (story, told)
        times = self._house.run(
            self._book.rows(
                "SELECT provider_time, create_time BETWEEN now() - interval '1 hour' AND now()"
                " FROM message_events WHERE message_id = %s AND sequence > 2",
                told.claimed.id,
            )
        )
        assert Counter(time for time, _ in times) == Counter(
            [None, *(news.time for news in told.applied.values())]
        )
        assert all(received for _, received in times)

    def _callback(self, news: News) -> WebhookRequest:
        told = self._told[news.number]
        ours = f"?message_id={told.claimed.id}&attempt=1" if news.with_ids else ""
        return form_request({"MessageSid": told.sid, "MessageStatus": news.status}, url=WEBHOOK + ours)

    def _event(self, news: News) -> dict[str, Any]:
        told = self._told[news.number]
        return event(
            news.status,
            timestamp=news.moment,
            sg_message_id=f"{told.sid}.filter0001.16648.5515E0B88.0",
            message_id=told.claimed.id if news.with_ids else None,
            message_attempt="1" if news.with_ids else None,
        )


def test_no_order_of_callbacks_takes_a_state_back(database_url: str) -> None:
    with House(database_url) as house:
        run_state_machine_as_test(
            lambda: Callbacks(house),
            settings=hypothesis.settings(
                max_examples=RUNS,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(hypothesis.HealthCheck),
            ),
        )
