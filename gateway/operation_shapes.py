"""Shapes of the answers about providers, dead letters, the simulator, and how the gateway is."""

from typing import Literal

from pydantic import Field

from gateway.schemas import ChannelWord, Shape, SimulatorProfile, Time

_DEPENDENCIES = "Services, and whether they answer and are ready."
_REPORTED = "What the services say of what they need."


class Provider(Shape):
    """A configured way out for one channel."""

    name: str
    type: ChannelWord
    route_position: int | None
    breaker: Literal["closed", "open", "half_open"] | None
    healthy: bool


class Providers(Shape):
    """All providers, in route order."""

    providers: list[Provider]


class DeadLetter(Shape):
    """A message that was given up."""

    message_id: str
    type: ChannelWord
    provider: str | None
    reason: str
    error_code: str | None
    error_message: str | None
    attempt_count: int
    created_at: Time
    replayed_at: Time | None


class DeadLetters(Shape):
    """One page, newest first."""

    dead_letters: list[DeadLetter]
    next_page_token: str | None


class Replayed(Shape):
    """Messages put back now; those replayed before are not among them."""

    replayed_message_ids: list[str]
    replayed_count: int
    more: bool = Field(description="More match the filter than one call replays: repeat it.")


class SimulatorProfiles(Shape):
    """Profiles, one per channel."""

    profiles: list[SimulatorProfile]


class Health(Shape):
    """How the gateway and its services are."""

    status: Literal["ok", "degraded"] = Field(description="ok while every dependency answers.")
    version: str = Field(description="Version of Posthouse.")
    dependencies: dict[str, bool] = Field(description=_DEPENDENCIES)
    reported: dict[str, bool] = Field(description=f"{_REPORTED} It decides nothing here.")


class Ready(Shape):
    """Whether traffic may come."""

    ready: bool = Field(description="Whether nothing keeps traffic away.")
    failing: list[str] = Field(
        description="What keeps it away: stopping, message, and what POSTHOUSE_READY_FOLLOWS lists."
    )
    dependencies: dict[str, bool] = Field(description=_DEPENDENCIES)
    reported: dict[str, bool] = Field(description=_REPORTED)
