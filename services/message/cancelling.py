"""The use case of cancelling: only what no dispatcher has claimed."""

from posthouse.v1 import message_pb2
from services.kit.errors import PreconditionError, Violation
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id
from services.ledger.cancel import cancel
from services.ledger.database import Database
from services.ledger.event_batches import outbound_event
from services.ledger.reads import get_message, message_not_found
from services.ledger.relay import Announcement, Relay


class Canceller:
    """Cancels waiting messages."""

    def __init__(
        self, database: Database, relay: Relay, *, republish_after: float, faults: FaultPoints | None = None
    ) -> None:
        self._faults = faults or FaultPoints()
        self._database = database
        self._relay = relay
        self._republish_after = republish_after

    async def cancel(self, message_id: str) -> message_pb2.Message:
        """Cancel a message and return it; cancelling it again returns it as it is.

        Raises NotFoundError, or PreconditionError when it has been claimed already.
        """
        event_outbox_id = new_id()
        self._faults.reach("message.before_cancel")
        async with self._database.hot() as connection:
            event = await cancel(
                connection, message_id, event_outbox_id=event_outbox_id, republish_after=self._republish_after
            )
        self._faults.reach("message.after_cancel")
        if event is not None:
            self._relay.announce(
                Announcement(
                    [event_outbox_id],
                    lambda: [
                        outbound_event(
                            message_id,
                            event,
                            sequence=event.sequence,
                            type="cancelled",
                            create_time=event.create_time,
                        )
                    ],
                )
            )
        async with self._database.read() as reader:
            message = await get_message(reader, message_id)
        if message is None:
            raise message_not_found(message_id)
        if message.state != message_pb2.MESSAGE_STATE_CANCELLED:
            why = "only a message that waits can be cancelled; this one has moved on"
            raise PreconditionError(why, violations=[Violation("message_id", why)])
        return message
