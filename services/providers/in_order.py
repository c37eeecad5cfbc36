"""Sends the messages of a batch at the same time, and those between two addresses one after the other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from services.kit.logs import get_logger
from services.providers.base import OutboundMessage, Outcome, Rejected, Unknown

_log = get_logger(__name__)

_Request = TypeVar("_Request")


async def send_in_order(
    provider: str,
    messages: Sequence[OutboundMessage],
    build: Callable[[OutboundMessage], _Request | Rejected],
    send: Callable[[OutboundMessage, _Request], Awaitable[Outcome]],
) -> list[Outcome]:
    """Build and send a request for each message, and return the outcomes in the order of the messages.

    A message begins when the one before it with the same sender and recipient has its outcome. So a call
    may take as long as all of them: `send` must begin nothing that the call has no time left for. Whatever
    is raised concerns its message alone: one that cannot be built is refused, since nothing of it has left.
    """
    chains: dict[tuple[str, str], list[int]] = {}
    for position, message in enumerate(messages):
        chains.setdefault((message.sender, message.recipient), []).append(position)
    outcomes: dict[int, Outcome] = {}

    async def send_chain(chain: Sequence[int]) -> None:
        for position in chain:
            outcomes[position] = await _send_one(provider, messages[position], build, send)

    await asyncio.gather(*map(send_chain, chains.values()))
    return [outcomes[position] for position in range(len(messages))]


async def _send_one(
    provider: str,
    message: OutboundMessage,
    build: Callable[[OutboundMessage], _Request | Rejected],
    send: Callable[[OutboundMessage, _Request], Awaitable[Outcome]],
) -> Outcome:
    try:
        request = build(message)
    except Exception as error:  # noqa: BLE001 - no message may spoil its neighbours
        _log.exception("message_not_built", provider=provider, message_id=message.id)
        return Rejected("unbuildable", type(error).__name__)
    if isinstance(request, Rejected):
        return request
    try:
        return await send(message, request)
    except Exception as error:  # noqa: BLE001 - it may have raised after the request went out
        _log.exception("provider_raised", provider=provider, message_id=message.id)
        return Unknown("provider_error", type(error).__name__)
