"""Events of one transaction that fill several batches: what the broker refuses comes again, all of it."""

import random
from typing import Any

import nats.errors
import pytest

from posthouse.v1 import event_pb2
from services.kit.ids import new_id
from services.ledger.accept import Intake, accept
from services.ledger.database import Database
from services.ledger.relay import Relay
from services.message.announce import announcement_of

from .rows import LATER, Book, make_draft, make_inbound

pytestmark = pytest.mark.integration

# More than one batch holds.
_MANY = 1_500


class _Broker:
    """Stores what it is given once by its id, as JetStream does, but at first not what ends like this."""

    connected = True

    def __init__(self, refused: str) -> None:
        self.stored: dict[str, bytes] = {}
        self.refuses = True
        self._refused = refused

    async def publish(self, subject: str, payload: bytes, *, message_id: str, **_: Any) -> None:
        if subject.startswith("posthouse.dispatch"):
            return
        if self.refuses and message_id.endswith(self._refused):
            raise nats.errors.TimeoutError
        self.stored.setdefault(message_id, payload)

    def messages(self) -> set[str]:
        batches = [event_pb2.EventBatch.FromString(payload) for payload in self.stored.values()]
        return {event.message_id for batch in batches for event in batch.events}


async def test_no_event_is_lost_when_one_of_several_batches_is_refused(
    book: Book, database: Database
) -> None:
    broker = _Broker(":1")
    relay = Relay(database, broker, republish_after=LATER)  # type: ignore[arg-type]
    ids = [new_id() for _ in range(_MANY)]
    # Calls that were made together are not committed in the order of their ids.
    random.Random(7).shuffle(ids)  # noqa: S311 - the same order each time
    items = [Intake(one, make_draft()) for one in ids]
    async with database.hot() as connection:
        acceptance = await accept(connection, items, republish_after=LATER)
    announcement = announcement_of([acceptance.event_outbox_id], items, [acceptance], [])
    with pytest.raises(nats.errors.TimeoutError):
        await relay._publish_group([announcement])
    assert len(broker.messages()) == 1_000
    broker.refuses = False
    await book.rows("UPDATE outbox SET due_time = now() WHERE id = %s", acceptance.event_outbox_id)
    await relay._sweep_once()
    assert broker.messages() == set(ids)


async def test_no_event_is_lost_when_several_transactions_have_shared_batches(
    book: Book, database: Database
) -> None:
    broker = _Broker("accepted:0")
    relay = Relay(database, broker, republish_after=LATER)  # type: ignore[arg-type]
    earlier, later = new_id(), new_id()
    # Built from the ledger, the events of the first come in the other order.
    first = [Intake(later, make_draft()), Intake(earlier, make_inbound("e1"))]
    second = [Intake(new_id(), make_draft()) for _ in range(1_000)]
    announcements = []
    for items in (first, second):
        async with database.hot() as connection:
            acceptance = await accept(connection, items, republish_after=LATER)
        announcements.append(announcement_of([acceptance.event_outbox_id], items, [acceptance], []))
    with pytest.raises(nats.errors.TimeoutError):
        await relay._publish_group(announcements)
    assert later not in broker.messages()
    broker.refuses = False
    await book.rows("UPDATE outbox SET due_time = now() WHERE subject LIKE '%%event%%'")
    await relay._sweep_once()
    assert broker.messages() == {item.id for item in (*first, *second)}
