"""What people decide about single messages: replay of dead letters, and unknown outcomes settled by hand."""

from collections.abc import Sequence
from typing import Final

from posthouse.v1 import message_pb2
from services.kit.errors import NotFoundError, PreconditionError, Violation
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.database import Database
from services.ledger.dead_letters import DeadLetterFilter, find_replayable, load_dead_letters, replay
from services.ledger.event_batches import outbound_event
from services.ledger.reads import get_message, message_not_found
from services.ledger.relay import Announcement, Relay
from services.ledger.resolving import EVENT_OF, resolve

_log = get_logger(__name__)

# Dead letters of one replay: its transaction and its envelopes stay small beside the traffic.
MOST_REPLAYED: Final = 1000


class Intervener:
    """Does what a person asks for, once."""

    def __init__(self, database: Database, relay: Relay, *, republish_after: float) -> None:
        self._database = database
        self._relay = relay
        self._republish_after = republish_after

    async def replay(self, message_ids: Sequence[str]) -> list[str]:
        """Put given-up messages back into the queue and return the ids of those that were put back now.

        Raises NotFoundError, and puts back none, when one of them has no dead letter.
        """
        async with self._database.read() as reader:
            known = {letter.message_id for letter in await load_dead_letters(reader, message_ids)}
        missing = [message_id for message_id in message_ids if message_id not in known]
        if missing:
            raise NotFoundError(
                f"there is no dead letter of message {missing[0]}", reason="DEAD_LETTER_NOT_FOUND"
            )
        return await self._put_back(message_ids)

    async def replay_some(self, chosen: DeadLetterFilter) -> tuple[list[str], bool]:
        """Put back the eldest MOST_REPLAYED of a filter; return their ids, and whether more match."""
        async with self._database.read_primary() as reader:
            found = await find_replayable(reader, chosen, limit=MOST_REPLAYED + 1)
        return await self._put_back(found[:MOST_REPLAYED]), len(found) > MOST_REPLAYED

    async def _put_back(self, message_ids: Sequence[str]) -> list[str]:
        event_outbox_id = new_id()
        async with self._database.hot() as connection:
            replayed = await replay(
                connection,
                message_ids,
                event_outbox_id=event_outbox_id,
                republish_after=self._republish_after,
            )
        if replayed:
            _log.info("dead_letters_replayed", messages=len(replayed))
            self._relay.announce(
                Announcement(
                    [event_outbox_id],
                    lambda: [
                        outbound_event(
                            message.id,
                            message,
                            sequence=message.event_count,
                            type="replayed",
                            create_time=message.create_time,
                        )
                        for message in replayed
                    ],
                )
            )
        return [message.id for message in replayed]

    async def resolve(self, message_id: str, state: str, reason: str) -> message_pb2.Message:
        """Settle a message whose outcome is unknown and return it as it is then.

        Raises NotFoundError, or PreconditionError when its outcome is not unknown (any more).
        """
        event_outbox_id = new_id()
        async with self._database.hot() as connection:
            resolved = await resolve(
                connection,
                message_id,
                state=state,
                reason=reason,
                event_outbox_id=event_outbox_id,
                republish_after=self._republish_after,
            )
        if resolved is not None:
            _log.info("message_resolved", message_id=message_id, state=state)
            self._relay.announce(
                Announcement(
                    [event_outbox_id],
                    lambda: [
                        outbound_event(
                            message_id,
                            resolved,
                            sequence=resolved.sequence,
                            type=EVENT_OF[state],
                            create_time=resolved.create_time,
                            provider=resolved.provider,
                            attempt_number=resolved.attempt,
                        )
                    ],
                )
            )
        async with self._database.read() as reader:
            message = await get_message(reader, message_id)
        if message is None:
            raise message_not_found(message_id)
        if resolved is None:
            why = "only a message whose outcome is unknown can be resolved"
            raise PreconditionError(why, violations=[Violation("message_id", why)])
        return message
