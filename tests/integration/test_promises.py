"""Sends, repeats, cancellations, schedules and crashes in any order keep what Posthouse promises."""

import asyncio
import contextlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from posthouse.v1 import message_service_pb2 as pb
from services.dispatch.inquiry import verdict
from services.dispatch.retry import Route
from services.kit.bus import Bus, BusConfig
from services.kit.errors import PosthouseError, PreconditionError
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id
from services.kit.rate_limit_clients import Client
from services.kit.routes import parse_routes
from services.ledger import outbox
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.inquiries import claim_inquiries, claim_orphans
from services.ledger.relay import Relay
from services.message.cancelling import Canceller
from services.message.commit import GroupCommitter
from services.message.route_health import RouteHealth
from services.message.sender_pools import SenderPools
from services.message.sending import Sender
from services.message.submission_limits import SubmissionLimiter
from services.providers.base import Absent, Found
from tests.integration.ledger.rows import CONTACT, LATER, OURS, Book, settlement_for

CALLER = Client(key="", address="127.0.0.1")
KEYS = st.integers(0, 5)
ROUTE = Route("scripted", "the only one", 0.0)
PAYLOADS = st.sampled_from(["hello", "bye"])


class Promises(RuleBasedStateMachine):
    """One intake process, one dispatcher and a provider that remembers; both processes may die anywhere."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.database = Database(url, pool_size=8, timeout=60, name="promises")
        self.book = Book(self.database)
        # What the caller knows: the payload first used with a key, and the id it was answered with.
        self.asked: dict[int, str] = {}
        self.answered: dict[int, str] = {}
        self.cancelled: set[str] = set()
        self.scheduled: set[str] = set()
        # What the provider has been given, and under which attempts.
        self.given: Counter[str] = Counter()
        self.owner = 1
        self._run(self._open())

    def _run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _open(self) -> None:
        await self.database.start()
        await self.book.rows(
            "TRUNCATE messages, message_events, conversations, outbox, idempotency_keys, dispatch_attempts,"
            " dead_letters, provider_events"
        )
        self._start_intake()

    def _start_intake(self) -> None:
        # The broker never answers: whatever is to happen must come from the ledger alone.
        relay = Relay(self.database, Bus(BusConfig([], "none")), republish_after=LATER)
        self.committer = GroupCommitter(
            self.database,
            relay,
            batch_size=100,
            queue_size=1000,
            republish_after=LATER,
            faults=FaultPoints(),
        )
        self.committer.start()
        routes = parse_routes("sms=simulator")
        self.sender = Sender(
            self.database,
            self.committer,
            routes=routes,
            health=RouteHealth(routes, cool_down=1.0),
            pools=SenderPools(self.database, {}, strict_phones=False),
            strict_phones=False,
            limits=SubmissionLimiter(None, requests=1, sender_requests=1, ip_requests=1),
        )
        self.canceller = Canceller(self.database, relay, republish_after=LATER)

    def teardown(self) -> None:
        self._run(self.committer.close())
        self._run(self.database.close())
        self.runner.close()

    async def _send(self, key: int, payload: str, *, later: bool) -> pb.AcceptedMessage | PosthouseError:
        request = pb.SendMessageRequest(sender=OURS, recipient=CONTACT, body=payload, request_id=f"key-{key}")
        if later:
            request.send_time.FromDatetime(datetime.now(UTC).replace(microsecond=0) + timedelta(days=1))
        (answer,) = await self.sender.send([request], caller="ann", client=CALLER)
        return answer

    @rule(key=KEYS, payload=PAYLOADS)
    def send(self, key: int, payload: str) -> None:
        answer = self._run(self._send(key, payload, later=False))
        if self.asked.setdefault(key, payload) != payload:
            assert isinstance(answer, PreconditionError)
            assert answer.reason == "IDEMPOTENCY_KEY_REUSED"
            return
        assert isinstance(answer, pb.AcceptedMessage), answer
        assert self.answered.setdefault(key, answer.id) == answer.id

    @rule(key=st.integers(6, 9))
    def schedule(self, key: int) -> None:
        if key in self.asked:
            return
        answer = self._run(self._send(key, "later", later=True))
        assert isinstance(answer, pb.AcceptedMessage), answer
        self.asked[key] = "later"
        self.answered[key] = answer.id
        self.scheduled.add(answer.id)

    @rule(key=KEYS, payload=PAYLOADS, steps=st.integers(0, 12))
    def send_and_crash(self, key: int, payload: str, steps: int) -> None:
        """The intake process dies while a send is on its way; the caller gets no answer."""

        async def crash() -> None:
            sending = asyncio.create_task(self._send(key, payload, later=False))
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in (*self.committer._tasks, sending):
                task.cancel()
            await asyncio.gather(*self.committer._tasks, sending, return_exceptions=True)
            self._start_intake()
            stored = await self.book.value(
                "SELECT count(*) FROM idempotency_keys WHERE request_id = %s", f"key-{key}"
            )
            if stored:
                self.asked.setdefault(key, payload)

        self._run(crash())

    @rule(key=st.integers(0, 9))
    def cancel(self, key: int) -> None:
        message_id = self.answered.get(key)
        if message_id is None:
            return
        with contextlib.suppress(PreconditionError):
            self._run(self.canceller.cancel(message_id))
            self.cancelled.add(message_id)

    @rule(dies=st.sampled_from(["never", "before sending", "after sending"]))
    def dispatch(self, dies: str) -> None:
        self._run(self._dispatch(dies))

    async def _dispatch(self, dies: str) -> None:
        due = await self.book.rows(
            "SELECT id::text FROM outbox"
            " WHERE subject = 'posthouse.dispatch.sms' AND due_time < now() + interval '1 hour'"
        )
        claimed, taken = await self.book.claim([row[0] for row in due], owner=self.owner)
        await self._adopt(taken, claimed)
        if dies == "before sending":
            self.owner += 1
            return
        self.given.update(message.id for message in claimed)
        if dies == "after sending":
            self.owner += 1
            return
        await self.book.settle(*(settlement_for(m, "sent") for m in claimed), closing=taken)

    async def _adopt(self, taken: list[str], claimed: list[ClaimedMessage]) -> None:
        async with self.database.hot() as connection:
            await claim_orphans(
                connection,
                taken,
                owner=self.owner,
                own=[message.id for message in claimed],
                lease=0,
                inquiry_delay=0,
                event_outbox_id=new_id(),
            )

    @rule()
    def sweep(self) -> None:
        """The sweeper frees the work of dispatchers that are gone; nobody here holds a lock."""

        async def sweep() -> None:
            async with self.database.hot() as connection:
                await outbox.sweep(connection, republish_after=LATER)

        self._run(sweep())

    @rule()
    def inquire(self) -> None:
        self._run(self._inquire())

    async def _inquire(self) -> None:
        rows = await self.book.rows("SELECT id::text FROM outbox WHERE subject LIKE '%%.inquiry'")
        async with self.database.hot() as connection:
            messages, taken = await claim_inquiries(
                connection, [row[0] for row in rows], owner=self.owner, lease=LATER
            )
        settlements = [
            verdict(
                m, [(ROUTE, Found("SM1") if self.given[m.id] >= m.attempt else Absent())], max_attempts=99
            )
            for m in messages
        ]
        assert None not in settlements
        await self.book.settle(*[one for one in settlements if one], closing=list(taken))

    @invariant()
    def a_key_is_one_message(self) -> None:
        rows = self._run(self.book.value("SELECT count(*) FROM messages"))
        keys = self._run(self.book.value("SELECT count(*) FROM idempotency_keys"))
        assert rows == keys

    @invariant()
    def what_was_answered_is_stored(self) -> None:
        stored = self._run(self.book.rows("SELECT id::text FROM messages"))
        assert set(self.answered.values()) <= {row[0] for row in stored}

    @invariant()
    def nothing_is_sent_twice_without_the_record_saying_why(self) -> None:
        for message_id, times in self.given.items():
            assert times == 1, f"{message_id} was sent {times} times, though its absence was never proved"

    @invariant()
    def cancelled_and_early_messages_are_not_sent(self) -> None:
        assert not self.cancelled & self.given.keys()
        assert not self.scheduled & self.given.keys()

    @invariant()
    def what_waits_is_in_the_outbox(self) -> None:
        lost = self._run(
            self.book.rows(
                "SELECT id::text, state FROM messages m"
                " WHERE state IN ('pending', 'scheduled', 'sending', 'unknown') AND NOT EXISTS ("
                "   SELECT FROM outbox o"
                "   WHERE o.subject LIKE 'posthouse.dispatch.%%' AND m.id = ANY(o.message_ids))"
            )
        )
        assert not lost

    @invariant()
    def histories_have_no_gaps(self) -> None:
        broken = self._run(
            self.book.rows(
                "SELECT m.id FROM messages m JOIN message_events e ON e.message_id = m.id GROUP BY m.id"
                " HAVING count(*) <> m.event_count OR max(e.sequence) <> m.event_count"
            )
        )
        assert not broken


def test_the_promises_hold_in_any_order(database_url: str) -> None:
    run_state_machine_as_test(
        lambda: Promises(database_url),
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
