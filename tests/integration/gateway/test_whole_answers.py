"""Answers that are written past the server's own layer: connections live, wait and end as with any other."""

import json
from typing import Any

import pytest

from tests.integration.gateway.test_connections import BODY, URL, Peer, head, serving
from tests.unit.gateway.fakes import ingested
from tests.unit.gateway.samples import SEND

CALLBACK = "/webhook/twilio/status"


async def send(peer: Peer, *lines: str) -> dict[str, str]:
    await peer.write(head(URL, *lines) + BODY)
    answer = await peer.read()
    assert answer.status == 202
    assert answer.body["to"] == SEND["to"]
    return answer.headers


async def test_a_connection_is_kept() -> None:
    async with serving() as house, house.connected() as peer:
        for _ in range(3):
            headers = await send(peer)
            assert "connection" not in headers
            assert headers["content-type"] == "application/json"
            assert {"date", "x-request-id"} <= headers.keys()
        # What is answered by the server's own layer may come between.
        await peer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await peer.read()).status == 200
        await send(peer)


@pytest.mark.parametrize(
    ("version", "line", "closes"),
    [("1.1", "Connection: close", True), ("1.0", "X-A: b", True), ("1.1", "X-A: b", False)],
)
async def test_a_connection_is_closed_where_the_caller_wants_that(
    version: str, line: str, closes: bool
) -> None:
    async with serving() as house, house.connected() as peer:
        await peer.write(head(URL, line).replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + BODY)
        answer = await peer.read()
        assert answer.status == 202
        assert (answer.headers.get("connection") == "close") is closes
        if closes:
            assert await peer.is_closed()


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with serving() as house, house.connected() as peer:
        bodies = [json.dumps({**SEND, "body": str(number)}).encode() for number in range(5)]
        ids = [f"request-{number}" for number in range(5)]
        await peer.write(
            b"".join(
                head(URL, f"X-Request-ID: {given}", length=len(body)) + body
                for given, body in zip(ids, bodies, strict=True)
            )
        )
        assert [(await peer.read()).headers["x-request-id"] for _ in ids] == ids


async def test_who_expects_a_continue_gets_one() -> None:
    async with serving() as house, house.connected() as peer:
        await peer.write(head(URL, "Expect: 100-continue"))
        assert await peer.line() == b"HTTP/1.1 100 Continue\r\n"
        assert await peer.line() == b"\r\n"
        await peer.write(BODY)
        assert (await peer.read()).status == 202


async def test_who_has_gone_takes_nothing_from_others() -> None:
    async with serving() as house:
        async with house.connected() as gone:
            await gone.write(head() + BODY)
        async with house.connected() as peer:
            await send(peer)


async def test_repeats_say_so_and_callbacks_are_answered() -> None:
    async with serving() as house, house.connected() as peer:
        accept_all: Any = house.fakes.answers["SendMessages"]

        async def repeat(request: Any) -> Any:
            response = await accept_all(request)
            for result in response.results:
                result.message.replayed = True
            return response

        house.fakes.answers["SendMessages"] = repeat
        assert (await send(peer, "Idempotency-Key: a"))["idempotent-replayed"] == "true"
        house.fakes.answers["IngestWebhooks"] = ingested(content_type="application/json", body=b"[1]")
        await peer.write(head(CALLBACK))
        await peer.write(BODY)
        answer = await peer.read()
        assert (answer.status, answer.body) == (200, [1])
        assert answer.headers["content-type"] == "application/json"
