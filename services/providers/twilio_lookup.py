"""The search for a message among those Twilio lists, where none of them carries our id."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self
from uuid import UUID

import orjson

from services.providers.base import Absent, CannotTell, Found, LookupResult, OutboundMessage

PAGE_SIZE: Final = 100
MAX_PAGES: Final = 5

# How far Twilio's clock, which tells whole seconds, may be from ours.
_SLACK: Final = timedelta(seconds=10)

_UUID_WITH_TIME: Final = 7


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, newest first. `next_uri` is empty on the last."""

    records: Sequence[Mapping[str, Any]]
    next_uri: str


def read_page(text: str) -> Page | None:
    """Return the page of an answer, or None when it cannot be understood."""
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    records = answer.get("messages") if isinstance(answer, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        return None
    next_uri = answer.get("next_page_uri") or ""
    # Credentials go with the next request: it must stay at the same host.
    if not isinstance(next_uri, str) or (next_uri and not next_uri.startswith("/")):
        return None
    return Page(records, next_uri)


@dataclass(slots=True)
class Search:
    """What is known of a message, and which records may be it."""

    body: str
    begin: datetime
    end: datetime | None
    complete: bool = False
    _same: list[str] = field(default_factory=list)
    _different: int = 0

    @classmethod
    def of(cls, message: OutboundMessage, *, longest: float) -> Self | None:
        """Return the search for a message whose attempt took `longest` seconds at most.

        Without the attempt's time, that of the message's id is where its records can begin; None when that
        is not known either.
        """
        if message.attempt_time is not None:
            end = message.attempt_time + timedelta(seconds=longest) + _SLACK
            return cls(message.body, message.attempt_time - _SLACK, end)
        made = _time_of(message.id)
        return None if made is None else cls(message.body, made - _SLACK, None)

    def take(self, records: Sequence[Mapping[str, Any]], known: AbstractSet[str]) -> bool:
        """Take a page in, without the SIDs that are `known` to be other messages'.

        Returns False when a record cannot be understood.
        """
        for record in records:
            created, sid = _date(record.get("date_created")), record.get("sid")
            if created is None or not isinstance(sid, str):
                return False
            if created < self.begin:
                self.complete = True
                return True
            outside = self.end is not None and created > self.end
            if outside or sid in known or not str(record.get("direction", "")).startswith("outbound"):
                continue
            if record.get("body") == self.body:
                self._same.append(sid)
            else:
                self._different += 1
        return True

    def result(self) -> LookupResult:
        """Return what the records prove.

        Trial accounts and smart encoding change bodies, so that absence is proved only when nothing
        went to the recipient in that time.
        """
        if len(self._same) == 1:
            return Found(self._same[0])
        return CannotTell() if self._same or self._different else Absent()


def _time_of(message_id: str) -> datetime | None:
    try:
        number = UUID(message_id)
    except ValueError:
        return None
    if number.version != _UUID_WITH_TIME:
        return None
    return datetime.fromtimestamp((number.int >> 80) / 1000, UTC)


def _date(text: object) -> datetime | None:
    """Return an RFC 2822 date in UTC."""
    try:
        moment = parsedate_to_datetime(str(text))
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
