"""Hands claimed messages to their providers, and turns what comes of it into settlements."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime

from services.dispatch.retry import RetryPolicy, Route, expiry_of, settlement_of, unsent
from services.dispatch.routing import Router
from services.kit.logs import get_logger
from services.ledger.claims import ClaimedMessage
from services.ledger.outcomes import Settlement
from services.providers.base import OutboundMessage, Outcome, Provider, Unknown

_log = get_logger(__name__)


class Postman:
    """Sends messages over the routes of their channels."""

    def __init__(self, router: Router, providers: Mapping[str, Provider], policy: RetryPolicy) -> None:
        self._router = router
        self._providers = providers
        self._policy = policy
        self._draw = random.Random()  # noqa: S311 - jitter is no secret

    async def send(
        self, messages: Sequence[ClaimedMessage], *, may_send: Callable[[], bool]
    ) -> AsyncIterator[tuple[Sequence[ClaimedMessage], list[Settlement]]]:
        """Send messages and yield them with their settlements, a provider's batch at a time.

        Before each batch `may_send` is asked; when it says no, the rest is left alone.
        """
        routed: dict[str, list[tuple[ClaimedMessage, Route]]] = {}
        hopeless: list[Settlement] = []
        for message in messages:
            route = self._router.choose(message)
            if route is None:
                hopeless.append(
                    unsent(message, "no_route", f"no provider carries {message.channel}", "no_route")
                )
            else:
                routed.setdefault(route.provider, []).append((message, route))
        if hopeless:
            yield messages, hopeless
        for name, pairs in routed.items():
            provider = self._providers[name]
            for start in range(0, len(pairs), provider.batch_size):
                now = datetime.now(UTC)
                batch = pairs[start : start + provider.batch_size]
                # Batches before this one may have kept some waiting past their time.
                late = [message for message, _ in batch if _is_late(message, now)]
                if late:
                    yield late, [expiry_of(message) for message in late]
                    batch = [pair for pair in batch if not _is_late(pair[0], now)]
                if not batch:
                    continue
                if not may_send():
                    return
                chunk = [message for message, _ in batch]
                outcomes = await _send(provider, chunk)
                yield (
                    chunk,
                    [
                        settlement_of(message, outcome, route, self._policy, self._draw)
                        for (message, route), outcome in zip(batch, outcomes, strict=True)
                    ],
                )


def _is_late(message: ClaimedMessage, now: datetime) -> bool:
    return message.expire_time is not None and message.expire_time <= now


def outbound(message: ClaimedMessage) -> OutboundMessage:
    """Return a message as a provider gets it."""
    return OutboundMessage(
        id=message.id,
        attempt=message.attempt,
        channel=message.channel,
        sender=message.sender,
        recipient=message.recipient,
        body=message.body,
        subject=message.subject or "",
        html=message.html or "",
        attachments=message.attachments or (),
        attempt_time=message.attempt_time,
    )


async def _send(provider: Provider, messages: Sequence[ClaimedMessage]) -> list[Outcome]:
    """Send one batch; whatever goes wrong beyond the provider's own answers leaves it unknown."""
    unknown: Outcome
    try:
        async with asyncio.timeout(provider.send_timeout):
            outcomes = await provider.send([outbound(message) for message in messages])
    except TimeoutError:
        unknown = Unknown("timeout", f"no answer within {provider.send_timeout:g} s")
    except Exception as error:  # noqa: BLE001 - it may have raised after the request went out
        _log.exception("provider_raised", provider=provider.name)
        unknown = Unknown("provider_error", type(error).__name__)
    else:
        if len(outcomes) == len(messages):
            return outcomes
        unknown = Unknown("provider_error", f"{len(outcomes)} outcomes for {len(messages)} messages")
    return [unknown] * len(messages)
