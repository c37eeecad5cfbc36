"""A provider that does what a test tells it to, and remembers what it was asked to send."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from services.providers.base import (
    Accepted,
    CannotTell,
    LookupResult,
    OutboundMessage,
    Outcome,
    Provider,
    WebhookContent,
    WebhookRequest,
)
from services.providers.simulator_webhook import parse_events


class Hang:
    """The request goes out and no answer ever comes back."""


class ScriptedProvider(Provider):
    """Follows the script of a message's body, an outcome for each attempt; the last one goes on for ever.

    An exception in a script is raised, which the whole call then fails with.
    """

    name = "scripted"
    channels = frozenset({"sms", "mms", "email", "voice"})
    batch_size = 50
    send_timeout = 30.0
    inquiry_delay = 0.05

    def __init__(self) -> None:
        self.scripts: dict[str, Sequence[Outcome | Exception | Hang]] = {}
        self.answers: dict[str, Sequence[LookupResult]] = {}
        self.sent: list[OutboundMessage] = []
        self.asked: list[OutboundMessage] = []
        self.batches: list[list[OutboundMessage]] = []
        # The most messages of a batch, 0: as many as ever.
        self.share = 0
        # Nobody gets past it while it is closed.
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def bodies(self) -> list[str]:
        """Return the bodies of what it was asked to send, in order."""
        return [message.body for message in self.sent]

    @property
    def batch_share(self) -> int:
        return self.share or self.batch_size

    def attempts(self) -> Counter[str]:
        """Return how often it was asked to send each body."""
        return Counter(self.bodies)

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        self.sent += messages
        self.batches.append(list(messages))
        await self.gate.wait()
        outcomes: list[Outcome] = []
        for message in messages:
            script = self.scripts.get(message.body, ())
            step = script[min(message.attempt, len(script)) - 1] if script else Accepted(f"P-{message.id}")
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Hang):
                await asyncio.Event().wait()
            else:
                outcomes.append(step)
        return outcomes

    async def lookup(self, messages: Sequence[OutboundMessage]) -> list[LookupResult]:
        self.asked += messages
        times = Counter(message.id for message in self.asked)
        results: list[LookupResult] = []
        for message in messages:
            answers = self.answers.get(message.body, ())
            results.append(answers[min(times[message.id], len(answers)) - 1] if answers else CannotTell())
        return results

    def verify(self, request: WebhookRequest) -> bool:
        return request.headers.get("x-signed") == "yes"

    def parse(self, request: WebhookRequest) -> WebhookContent:
        return parse_events(request.body)
