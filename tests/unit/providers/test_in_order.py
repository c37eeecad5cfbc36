"""Messages between two addresses go one after the other; what one raises is no concern of the others."""

import asyncio

from services.providers.base import Accepted, OutboundMessage, Outcome, Rejected, Unknown
from services.providers.in_order import send_in_order


def message(number: int, recipient: str) -> OutboundMessage:
    return OutboundMessage(
        id=f"m{number}", attempt=1, channel="sms", sender="us", recipient=recipient, body=str(number)
    )


def build(message: OutboundMessage) -> str | Rejected:
    if message.body == "unfit":
        return Rejected("unfit")
    return f"request {int(message.body)}"


async def test_the_next_begins_when_the_one_before_it_has_its_outcome() -> None:
    begun: list[str] = []
    three = asyncio.Event()
    gates = {"request 0": asyncio.Event()}

    async def send(message: OutboundMessage, request: str) -> Outcome:
        begun.append(request)
        if len(begun) == 3:
            three.set()
        if request in gates:
            await gates[request].wait()
        return Accepted(message.id)

    messages = [message(0, "ann"), message(1, "ann"), message(2, "bob"), message(3, "bob")]
    sending = asyncio.create_task(send_in_order("p", messages, build, send))

    await asyncio.wait_for(three.wait(), 30)
    assert begun == ["request 0", "request 2", "request 3"]
    gates["request 0"].set()
    assert await sending == [Accepted(f"m{number}") for number in range(4)]
    assert begun[-1] == "request 1"


async def test_what_one_raises_is_its_own() -> None:
    async def send(message: OutboundMessage, _request: str) -> Outcome:
        if message.id == "m1":
            raise KeyError("late")
        return Accepted(message.id)

    poison, unfit = message(2, "ann"), message(3, "ann")
    poison.body, unfit.body = "poison", "unfit"
    messages = [message(0, "ann"), message(1, "ann"), poison, unfit, message(4, "ann")]
    assert await send_in_order("p", messages, build, send) == [
        Accepted("m0"),
        Unknown("provider_error", "KeyError"),
        Rejected("unbuildable", "ValueError"),
        Rejected("unfit"),
        Accepted("m4"),
    ]
