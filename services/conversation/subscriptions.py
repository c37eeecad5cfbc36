"""The use cases of subscriptions: making, changing and rotating them, and posting events again."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from posthouse.v1 import subscription_pb2
from services.conversation import event_deliveries, subscription_rows
from services.conversation.webhook_signature import make_secret
from services.kit.callers import current_caller
from services.kit.errors import InvalidRequestError, NotFoundError, PreconditionError, Violation
from services.kit.ids import new_id, parse_id
from services.kit.logs import get_logger
from services.kit.public_targets import TargetPolicy
from services.ledger.database import Database
from services.ledger.event_batches import EVENT_TYPES

_log = get_logger(__name__)

# Each event is noted once for each of them.
MOST_SUBSCRIPTIONS: Final = 100
_LONGEST_DESCRIPTION: Final = 200
_LONGEST_OVERLAP: Final = timedelta(days=30)
_REPLAY: Final = 20_000
_EVENT_ID: Final = re.compile(r"(.+)\.([0-9]{1,10})")
# A PostgreSQL integer.
_LARGEST_SEQUENCE: Final = 2**31 - 1

CHANGEABLE: Final = ("url", "event_types", "description", "disabled")


class Replayed(NamedTuple):
    """How many events are posted again, and where to go on if there are more."""

    number: int
    resume_time: datetime | None


class SubscriptionKeeper:
    """The subscriptions of a ledger.

    `wake` is called when there is something to post, `disabled` with the id of a subscription that was
    disabled, and why.
    """

    def __init__(
        self,
        database: Database,
        targets: TargetPolicy,
        *,
        wake: Callable[[], None],
        disabled: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._database = database
        self._targets = targets
        self._wake = wake
        self._disabled = disabled

    async def create(
        self, url: str, event_types: Sequence[str], description: str
    ) -> tuple[subscription_pb2.Subscription, str]:
        """Return a new subscription and its secret, which nobody can show again."""
        self._check(url=url, event_types=event_types, description=description)
        secret = make_secret()
        async with self._database.write() as connection:
            if await subscription_rows.count(connection) >= MOST_SUBSCRIPTIONS:
                raise PreconditionError(
                    f"there are {MOST_SUBSCRIPTIONS} subscriptions, as many as there may be"
                )
            made = await subscription_rows.insert(
                connection,
                id=new_id(),
                url=url,
                event_types=sorted(set(event_types)),
                description=description,
                secret=secret,
            )
        _note("subscription_created", made.id)
        return made, secret

    async def change(
        self, given: subscription_pb2.Subscription, paths: Sequence[str]
    ) -> subscription_pb2.Subscription:
        """Change what the paths name."""
        subscription_id = parse_id("subscription.id", given.id)
        if not paths or set(paths) - set(CHANGEABLE):
            raise InvalidRequestError.field("update_mask", f"must name some of {', '.join(CHANGEABLE)}")
        values: dict[str, Any] = {
            "url": given.url,
            "event_types": sorted(set(given.event_types)),
            "description": given.description,
        }
        values = {name: value for name, value in values.items() if name in paths}
        self._check(prefix="subscription.", **values)
        disabled = given.disabled if "disabled" in paths else None
        if not values and disabled is None:
            raise InvalidRequestError.field("update_mask", "must not be empty")
        async with self._database.write() as connection:
            before = await subscription_rows.get(connection, subscription_id)
            changed = await subscription_rows.change(connection, subscription_id, disabled=disabled, **values)
        _note("subscription_changed", subscription_id, fields=sorted(set(paths)))
        if changed.disabled and not before.disabled:
            await self._disabled(subscription_id, changed.disable_reason)
        self._wake()
        return changed

    async def rotate(
        self, subscription_id: str, overlap: timedelta
    ) -> tuple[subscription_pb2.Subscription, str]:
        """Return a subscription with its new secret; the one before signs as well for `overlap` longer."""
        subscription_id = parse_id("subscription_id", subscription_id)
        if not timedelta(0) <= overlap <= _LONGEST_OVERLAP:
            raise InvalidRequestError.field("overlap", f"must be 0 to {_LONGEST_OVERLAP.days} days")
        secret = make_secret()
        async with self._database.write() as connection:
            rotated = await subscription_rows.rotate(
                connection, subscription_id, secret=secret, overlap=overlap
            )
        _note("subscription_secret_rotated", subscription_id)
        return rotated, secret

    async def delete(self, subscription_id: str) -> bool:
        """Delete a subscription, and tell whether there was one."""
        subscription_id = parse_id("subscription_id", subscription_id)
        async with self._database.write() as connection:
            deleted = await subscription_rows.delete(connection, subscription_id)
        if deleted:
            _note("subscription_deleted", subscription_id)
        return deleted

    async def replay_one(self, subscription_id: str, event_id: str) -> Replayed:
        """Have one event posted again, or for the first time."""
        subscription_id = parse_id("subscription_id", subscription_id)
        found = _EVENT_ID.fullmatch(event_id)
        if found is None or not 0 < int(found[2]) <= _LARGEST_SEQUENCE:
            raise InvalidRequestError.field("event_id", "must be a message's id, a dot and a number")
        message_id = parse_id("event_id", found[1])
        await self._check_enabled(subscription_id)
        async with self._database.hot() as connection:
            count = await event_deliveries.replay_one(connection, subscription_id, message_id, int(found[2]))
        if not count:
            raise NotFoundError("no event has this id", reason="EVENT_NOT_FOUND")
        return self._replayed(subscription_id, Replayed(count, None))

    async def replay_range(
        self, subscription_id: str, since: datetime, until: datetime, *, undelivered_only: bool
    ) -> Replayed:
        """Have the events of a range that are in the log posted again, up to a number of them."""
        subscription_id = parse_id("subscription_id", subscription_id)
        if until <= since:
            raise InvalidRequestError.field("until_time", "must be after the beginning")
        await self._check_enabled(subscription_id)
        async with self._database.hot() as connection:
            count, last = await event_deliveries.replay_range(
                connection, subscription_id, since, until, undelivered_only=undelivered_only, limit=_REPLAY
            )
        return self._replayed(subscription_id, Replayed(count, last if count == _REPLAY else None))

    async def _check_enabled(self, subscription_id: str) -> None:
        async with self._database.read_primary() as connection:
            found = await subscription_rows.get(connection, subscription_id)
        if found.disabled:
            raise PreconditionError("the subscription is disabled; enable it first")

    def _replayed(self, subscription_id: str, replayed: Replayed) -> Replayed:
        _note("events_replayed", subscription_id, count=replayed.number)
        self._wake()
        return replayed

    def _check(
        self,
        *,
        prefix: str = "",
        url: str | None = None,
        event_types: Sequence[str] = (),
        description: str = "",
    ) -> None:
        faults: list[Violation] = []
        wrong = None if url is None else self._targets.wrong_with(url)
        if wrong:
            faults.append(Violation(f"{prefix}url", wrong))
        unknown = sorted(set(event_types) - EVENT_TYPES)
        if unknown:
            known = ", ".join(sorted(EVENT_TYPES))
            faults.append(Violation(f"{prefix}event_types", f"must be some of {known}"))
        if len(description) > _LONGEST_DESCRIPTION or "\0" in description:
            wrong = f"must not be longer than {_LONGEST_DESCRIPTION} characters, nor contain NUL"
            faults.append(Violation(f"{prefix}description", wrong))
        if faults:
            raise InvalidRequestError.of(faults)


def _note(event: str, subscription_id: str, **fields: Any) -> None:
    caller = current_caller()
    _log.info(event, subscription_id=subscription_id, caller=caller.id if caller else None, **fields)
