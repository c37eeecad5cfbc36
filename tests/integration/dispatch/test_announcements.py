"""Events are the same whether they are announced after their commit or rebuilt from the ledger later."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import event_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.ledger.event_batches import EncodedEvent, rebuild
from services.ledger.outbox import EVENT_SUBJECT, OutboxRow
from services.ledger.relay import Announcement, Relay
from services.providers.base import Absent, Accepted, Found, Rejected, Retryable, Unknown
from tests.integration.ledger.rows import CONTACT, OURS, eventually

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Announcement]:
    """Remember every announcement, and keep the outbox rows behind them."""
    made: list[Announcement] = []
    announce = Relay.announce

    def remember(self: Relay, announcement: Announcement) -> None:
        made.append(announcement)
        announce(self, announcement)

    async def keep(_self: Relay) -> None:
        return

    monkeypatch.setattr(Relay, "announce", remember)
    monkeypatch.setattr(Relay, "_delete_done", keep)
    return made


def _receipt(message_id: str, kind: str, number: int) -> dict[str, object]:
    return {
        "event": kind,
        "message_id": message_id,
        "provider_message_id": f"P-{number}",
        "attempt": 1,
        "timestamp": "2026-03-01T12:00:00+00:00",
        "error_code": "30003" if kind == "undelivered" else "",
    }


def _decoded(events: list[EncodedEvent]) -> list[event_pb2.Event]:
    return [event_pb2.Event.FromString(event.payload) for event in events]


def _in_order(events: list[event_pb2.Event]) -> list[event_pb2.Event]:
    return sorted(events, key=lambda event: event.id)


async def test_what_is_rebuilt_is_what_was_announced(
    announced: list[Announcement], house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {
        "retried": [Retryable("429", "busy"), Accepted("P1")],
        "rejected": [Rejected("21211", "no")],
        "found": [Unknown("timeout")],
        "absent": [Unknown("timeout"), Accepted("P2")],
        "overtaken": [Retryable("503")],
    }
    provider.answers = {"found": [Found("P3")], "absent": [Absent()]}
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    (scheduled,) = await house.send("scheduled", send_time=soon)
    await house.stub.CancelMessage(pb.CancelMessageRequest(message_id=scheduled))
    inbound = pb.InboundMessage(source="crm", event_id="1", sender=CONTACT, recipient=OURS, body="hi")
    await house.stub.ReceiveMessages(pb.ReceiveMessagesRequest(messages=[inbound]))
    provider.gate.clear()
    provider.batch_size = 1
    await house.dispatch(dispatch_concurrency=1)
    overtaken, *ids = await house.send("overtaken", "plain", *(set(provider.scripts) - {"overtaken"}))
    await house.until("sending", overtaken, *ids)
    news = [
        _receipt(overtaken, "delivered", 1),
        _receipt(overtaken, "undelivered", 2),
        _receipt(ids[0], "undelivered", 3),
    ]
    await house.stub.IngestWebhook(
        pb.IngestWebhookRequest(
            provider="scripted",
            method="POST",
            url="https://x.test",
            headers=[pb.Header(name="X-Signed", value="yes")],
            body=orjson.dumps(news),
        )
    )
    provider.gate.set()
    done = "SELECT count(*) FROM messages WHERE direction = 'outbound' AND state IN ('sent', 'failed')"
    await house.until("delivered", overtaken)
    await house.until_true(f"SELECT ({done}) = 4")

    expected = {
        *["accepted", "scheduled", "received", "sending", "sent", "retrying", "failed", "unknown"],
        *["cancelled", "delivered", "undelivered", "receipt"],
    }

    async def all_told() -> bool:
        # The last of them is announced after it can be seen.
        return {event.type for one in announced for event in _decoded(one.make_events())} == expected

    await eventually(all_told)
    for announcement in announced:
        rows = await house.book.rows(
            "SELECT id::text, subject, message_ids::text[], create_time, publish_count FROM outbox"
            " WHERE id = ANY(%s) AND subject = %s",
            list(announcement.event_outbox_ids),
            EVENT_SUBJECT,
        )
        rebuilt: dict[str, event_pb2.Event] = {}
        async with house.database.hot() as connection:
            for row in rows:
                found = _decoded(await rebuild(connection, OutboxRow(*row)))
                rebuilt.update({event.id: event for event in found})
        events = _decoded(announcement.make_events())
        assert _in_order(events) == _in_order(list(rebuilt.values()))
