"""Shapes of requests and answers about opt-outs."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import ConfigDict, Field

from gateway.schemas import FamilyWord, Shape, Time

ChangeWord = Literal["opted_out", "opted_in", "help", "overridden"]
SourceWord = Literal["contact", "provider", "api"]

_PLUS = "A + must be written %2B."
Sender = Annotated[str, Query(alias="from", description=f"Address of ours, in any form. {_PLUS}")]
Recipient = Annotated[str, Query(alias="to", description=f"Address of the contact, in any form. {_PLUS}")]


class OptOutRequest(Shape):
    """Who is to get no more messages, and from which address of ours."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"from": "+15551234567", "to": "+15559876543", "reason": "asked on the phone"}]
        }
    )

    sender: str = Field(alias="from", description="Address of ours.")
    recipient: str = Field(alias="to", description="Address of the contact.")
    reason: str | None = Field(None, description="Why, at most 500 characters; kept in the history.")


class OptOut(Shape):
    """A contact who is to get no messages from one of our addresses, on any channel."""

    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    channel_family: FamilyWord
    source: SourceWord
    keyword: str | None
    reason: str | None
    message_id: str | None
    created_at: Time


class OptOuts(Shape):
    """One page, newest first."""

    opt_outs: list[OptOut]
    next_page_token: str | None


class Removed(Shape):
    """What the removal did."""

    removed: bool = Field(description="False when there was no opt-out.")


class ConsentEvent(Shape):
    """One entry of the history of consent."""

    id: str
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    channel_family: FamilyWord
    change: ChangeWord
    source: SourceWord
    keyword: str | None
    reason: str | None
    message_id: str | None
    effective: bool = Field(description="False when it changed nothing.")
    said_at: Time
    created_at: Time


class ConsentEvents(Shape):
    """One page, newest first."""

    events: list[ConsentEvent]
    next_page_token: str | None
