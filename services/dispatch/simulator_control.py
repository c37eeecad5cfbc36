"""Shows and changes the simulator's behaviour at run time."""

import dataclasses

from posthouse.v1 import dispatch_pb2
from services.kit import enum_names
from services.kit.errors import InvalidRequestError, NotFoundError, Violation
from services.providers.base import Provider
from services.providers.simulator import SimulatorProvider
from services.providers.simulator_profile import SimulatorProfile

_FIELDS = tuple(field.name for field in dataclasses.fields(SimulatorProfile))


class SimulatorControl:
    """The simulator among the providers, if it is one of them."""

    def __init__(self, simulator: Provider | None) -> None:
        self._simulator = simulator if isinstance(simulator, SimulatorProvider) else None

    async def profiles(self, channel: str) -> list[dispatch_pb2.SimulatorProfile]:
        """Return the profile of a channel, or of all when it is empty."""
        profiles = await self._get().profiles()
        if channel and channel not in profiles:
            raise InvalidRequestError.field("channel", "is not a channel of the simulator")
        return [_to_proto(name, profiles[name]) for name in sorted(profiles) if channel in ("", name)]

    async def set_profile(
        self, profile: dispatch_pb2.SimulatorProfile
    ) -> list[dispatch_pb2.SimulatorProfile]:
        """Replace the profile of a channel, or of all when it has none; return what holds now."""
        try:
            read = SimulatorProfile(**{name: getattr(profile, name) for name in _FIELDS})
        except InvalidRequestError as error:
            raise InvalidRequestError.of(
                [Violation(f"profile.{v.field}", v.description) for v in error.violations]
            ) from None
        changed = await self._get().set_profile(enum_names.CHANNEL.word(profile.channel), read)
        return [_to_proto(name, changed[name]) for name in sorted(changed)]

    def _get(self) -> SimulatorProvider:
        if self._simulator is None:
            raise NotFoundError(
                "the simulator is not among the routed providers", reason="PROVIDER_NOT_FOUND"
            )
        return self._simulator


def _to_proto(channel: str, profile: SimulatorProfile) -> dispatch_pb2.SimulatorProfile:
    return dispatch_pb2.SimulatorProfile(
        channel=enum_names.CHANNEL.number(channel), **{name: getattr(profile, name) for name in _FIELDS}
    )
