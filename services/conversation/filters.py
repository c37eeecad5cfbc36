"""The filter of ListConversations: read from a request, and turned into conditions."""

from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation.fields import read_participant_filter
from services.conversation.search_query import Term, read_query
from services.kit.enum_names import FAMILY
from services.kit.errors import InvalidRequestError
from services.kit.fields import read_label, read_range
from services.ledger.tables import conversations


@dataclass(frozen=True, slots=True)
class ConversationFilter:
    """What a list of conversations is narrowed to; empty words and None mean any."""

    participant: str = ""
    channel_family: str = ""
    tenant_id: str = ""
    workflow_type: str = ""
    workflow_id: str = ""
    unread_only: bool = False
    include_archived: bool = False
    since_time: datetime | None = None
    until_time: datetime | None = None
    terms: tuple[Term, ...] = ()
    archived_only: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """Return the values that page tokens are bound to."""
        return astuple(self)

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on `conversations`, but for that of the text."""
        table = conversations.c
        found: list[sa.ColumnElement[bool]] = []
        if self.participant:
            found.append(has_participant(self.participant))
        words = {
            table.channel_family: self.channel_family,
            table.tenant_id: self.tenant_id,
            table.workflow_type: self.workflow_type,
            table.workflow_id: self.workflow_id,
        }
        found += [column == word for column, word in words.items() if word]
        if self.unread_only:
            found.append(table.inbound_count > table.read_count)
        if self.archived_only:
            found.append(table.archive_time.is_not(None))
        elif not self.include_archived:
            found.append(table.archive_time.is_(None))
        if self.since_time is not None:
            found.append(table.last_message_time >= self.since_time)
        if self.until_time is not None:
            found.append(table.last_message_time < self.until_time)
        return found


def has_participant(address: str) -> sa.ColumnElement[bool]:
    """Return the condition that a canonical address takes part.

    An OR of two indexed columns, not a UNION: PostgreSQL joins both index scans for a contact with few
    conversations, and walks conversations_last_message for a number of our own, which has them all.
    """
    return sa.or_(conversations.c.participant_a == address, conversations.c.participant_b == address)


def read_filter(request: pb.ListConversationsRequest, *, region: str) -> ConversationFilter:
    """Return the filter of a request, or raise InvalidRequestError naming the field.

    `region` is where numbers without a country code belong.
    """
    since, until = read_range(request)
    return ConversationFilter(
        participant=read_participant_filter("participant", request.participant, region=region),
        channel_family=read_family("channel_family", request.channel_family),
        tenant_id=read_label("tenant_id", request.tenant_id),
        workflow_type=read_label("workflow_type", request.workflow_type),
        workflow_id=read_label("workflow_id", request.workflow_id),
        unread_only=request.unread_only,
        include_archived=request.include_archived,
        since_time=since,
        until_time=until,
        terms=tuple(read_query("text", request.text)) if request.text else (),
        archived_only=request.archived_only,
    )


def read_family(field: str, number: int) -> str:
    """Return the word of a channel family, "" when it is unspecified."""
    if not FAMILY.knows(number):
        raise InvalidRequestError.field(field, f"{number} is not a channel family")
    return FAMILY.word(number)
