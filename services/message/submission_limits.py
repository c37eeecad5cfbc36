"""Limits on submitted messages: per client, per sender and per network address, a message a token."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from services.kit.errors import RateLimitedError
from services.kit.networks import limited_address
from services.kit.rate_limit_clients import Client
from services.kit.rate_limits import UNLIMITED, RateLimiter, Verdict
from services.kit.sliding_window import Quota


class SubmissionLimiter:
    """Admits the messages of a call one by one, with few takings however large the batch is.

    A bulk client's own limit raises all three. Its counts are apart from everyone else's, so that it
    uses up neither its sender nor its address for others. Without a limiter nothing is limited.
    """

    def __init__(
        self, limiter: RateLimiter | None, *, requests: int, sender_requests: int, ip_requests: int
    ) -> None:
        self._limiter = limiter
        self._requests = requests
        self._sender_requests = sender_requests
        self._ip_requests = ip_requests

    async def take(self, client: Client, senders: Sequence[str]) -> list[RateLimitedError | None]:
        """Take a token for a message of each sender; return in order None, or why it may not pass."""
        answers: list[RateLimitedError | None] = [None] * len(senders)
        if self._limiter is None:
            return answers
        admitted: dict[str, int] = {}
        refusals: dict[str, RateLimitedError] = {}
        # Senders first: what they refuse is not to cost the client anything.
        for sender, count in Counter(senders).items():
            admitted[sender], verdict = await self._limiter.take([self._sender(client, sender)], count)
            if admitted[sender] < count:
                refusals[sender] = self._limiter.refusal(verdict)
        passing: Sequence[int] = range(len(senders))
        if refusals:
            passing = []
            for position, sender in enumerate(senders):
                if admitted[sender]:
                    admitted[sender] -= 1
                    passing.append(position)
                else:
                    answers[position] = refusals[sender]
        if passing:
            had, verdict = await self._limiter.take(self._shared(client), len(passing))
            if had < len(passing):
                refusal = self._limiter.refusal(verdict)
                for position in passing[had:]:
                    answers[position] = refusal
                await self._return_senders(client, [senders[position] for position in passing[had:]])
        return answers

    async def give_back(self, client: Client, senders: Sequence[str]) -> None:
        """Return the tokens of messages that were not stored after all: repeats and failures."""
        if self._limiter is not None and senders:
            await self._limiter.give_back(self._shared(client), len(senders))
            await self._return_senders(client, senders)

    async def peek(self, client: Client, sender: str, ip: str = "") -> Verdict:
        """Return what a message would meet, and take nothing.

        `sender` is canonical, "" when there is none; `ip` is the client's own address unless it is given.
        """
        if self._limiter is None:
            return UNLIMITED
        quotas = self._shared(replace(client, address=limited_address(ip)) if ip else client)
        if sender:
            quotas.append(self._sender(client, sender))
        return await self._limiter.peek(quotas)

    def refusal(self, verdict: Verdict) -> RateLimitedError:
        """Return what a message would be refused with for a verdict that does not allow it."""
        assert self._limiter is not None  # noqa: S101 - without one everything is allowed
        return self._limiter.refusal(verdict)

    async def _return_senders(self, client: Client, senders: Sequence[str]) -> None:
        assert self._limiter is not None  # noqa: S101 - both callers have one
        for sender, count in Counter(senders).items():
            await self._limiter.give_back([self._sender(client, sender)], count)

    def _sender(self, client: Client, sender: str) -> Quota:
        return Quota("sender", sender, max(self._sender_requests, client.limit))

    def _shared(self, client: Client) -> list[Quota]:
        return [
            Quota("client", client.key, max(self._requests, client.limit)),
            Quota("address", client.address, max(self._ip_requests, client.limit)),
        ]
