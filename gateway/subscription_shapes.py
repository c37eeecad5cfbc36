"""Shapes of requests and answers about subscriptions."""

from typing import Literal

from pydantic import ConfigDict, Field

from gateway.schemas import Flag, Shape, Time

DeliveryWord = Literal["pending", "delivered", "failed", "held"]

_URL = "Where events are posted to: http or https, public, without credentials."
_TYPES = "Types of events: accepted, received, sent, delivered, …; null: all."


class SubscriptionRequest(Shape):
    """An endpoint that is to be told of events."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://example.com/events", "event_types": ["received", "delivered"]}]
        }
    )

    url: str = Field(description=_URL)
    event_types: list[str] | None = Field(None, description=_TYPES)
    description: str | None = Field(None, description="For people, at most 200 characters.")


class SubscriptionUpdate(Shape):
    """What to change; fields that are not given stay as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"disabled": False}]})

    url: str | None = Field(None, description=_URL)
    event_types: list[str] | None = Field(None, description=_TYPES)
    description: str | None = Field(None, description="For people; null clears it.")
    disabled: Flag = Field(False, description="True: nothing is posted. False: it is enabled again.")


class RotateRequest(Shape):
    """How to change to a new secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 3600}]})

    overlap_seconds: int | None = Field(
        None,
        ge=0,
        le=2_592_000,
        description="How long requests are signed with the present secret too; null: a day.",
    )


class ReplayEventsRequest(Shape):
    """Events to post again: one, or those of a range of time."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"since": "2026-11-22T03:00:00Z", "undelivered_only": True}]}
    )

    event_id: str | None = Field(None, description="One event, posted before or not.")
    since: Time | None = Field(None, description="Or those at or after this time that are in the log.")
    until: Time | None = Field(None, description="And before this time; null: until now.")
    undelivered_only: Flag = Field(False, description="Of a range, leave out what was delivered.")


class Subscription(Shape):
    """An endpoint that is told of events."""

    id: str
    url: str
    event_types: list[str] | None
    description: str | None
    disabled: bool
    disabled_at: Time | None
    disabled_reason: Literal["request", "failing", "gone"] | None
    failing_since: Time | None
    created_at: Time
    rotated_at: Time | None
    overlap_ends_at: Time | None


class NewSubscription(Subscription):
    """A subscription with its secret, which is shown this once."""

    secret: str = Field(description="whsec_ and base64, as Standard Webhooks has it.")


class Subscriptions(Shape):
    """One page, newest first."""

    subscriptions: list[Subscription]
    next_page_token: str | None


class Deleted(Shape):
    """What the deletion did."""

    deleted: bool = Field(description="False when there was none (any more).")


class ReplayedEvents(Shape):
    """What is posted again."""

    replayed_count: int
    resume_at: Time | None = Field(description="since of the next call; null: that was all.")


class EventDeliveryAttempt(Shape):
    """One request that carried an event."""

    ended_at: Time
    status_code: int | None = Field(description="HTTP status; null: no answer came.")
    error: str | None = Field(description="Why it failed; null: it did not.")
    duration_ms: int


class EventDelivery(Shape):
    """One event on its way to a subscription."""

    id: str
    event_id: str
    webhook_id: str
    event_type: str
    conversation_id: str
    event_at: Time
    status: DeliveryWord
    attempt_count: int
    attempted_at: Time | None
    next_attempt_at: Time | None
    status_code: int | None = Field(description="HTTP status of the last attempt.")
    error: str | None
    duration_ms: int | None
    attempts: list[EventDeliveryAttempt] = Field(description="The last 50, oldest first.")


class EventDeliveries(Shape):
    """One page, newest event first."""

    deliveries: list[EventDelivery]
    next_page_token: str | None
