"""Fixtures of the simulator's tests: a receiver, and simulators that are closed at the end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.kit.ids import new_id
from services.providers.base import OutboundMessage
from services.providers.simulator import SimulatorConfig, SimulatorProvider
from services.providers.simulator_profile import SimulatorProfile
from tests.unit.providers.receiver import SECRET, Receiver

StartSimulator = Callable[..., Awaitable[SimulatorProvider]]

NOWHERE = "http://127.0.0.1:9/nowhere"


def outbound(
    number: int = 0, *, channel: str = "sms", attempt: int = 1, body: str = "Hello"
) -> OutboundMessage:
    """Return a message to the contact of this number, with a new id."""
    return OutboundMessage(
        id=new_id(),
        attempt=attempt,
        channel=channel,
        sender="+15551234567",
        recipient=f"+1555{number:07d}",
        body=body,
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as running:
        yield running


@pytest.fixture
async def start_simulator(tmp_path: Path) -> AsyncIterator[StartSimulator]:
    """Start a simulator: `await start_simulator(url, profile, file="simulator.db")`."""
    async with AsyncExitStack() as stack:

        async def start(
            url: str = NOWHERE, profile: SimulatorProfile | None = None, *, file: str = "simulator.db"
        ) -> SimulatorProvider:
            channels = ("sms", "mms", "email", "voice")
            profiles = {} if profile is None else dict.fromkeys(channels, profile)
            provider = SimulatorProvider(
                SimulatorConfig(path=tmp_path / file, secret=SECRET, webhook_url=url, profiles=profiles)
            )
            await provider.start()
            stack.push_async_callback(provider.close)
            return provider

        yield start
