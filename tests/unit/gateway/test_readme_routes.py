"""The README has an example of every route."""

import re
from pathlib import Path

import httpx2

_README = Path(__file__).parents[3] / "README.md"

# What the examples write for what the routes leave open.
_WRITTEN = {
    "$api": "/api/v1",
    "$url": "",
    "messages/$id": "messages/{message_id}",
    "$conversation": "{conversation_id}",
    "$erasure": "{erasure_id}",
    "$subscription": "{subscription_id}",
    "webhooks/simulator": "webhooks/{provider}",
    "conversations/+15559876543": "conversations/{phone_number}",
}


async def test_every_route_has_an_example(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()
    routes = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert _examples() == routes


def _examples() -> set[tuple[str, str]]:
    section = _README.read_text().split("## Every route")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    commands = [line for block in blocks for line in _joined(block) if line.startswith("curl ")]
    return {_example(command) for command in commands}


def _joined(block: str) -> list[str]:
    """Return a block's lines, with those that go on joined to what they go on from."""
    return re.sub(r"\\\n *", " ", block).splitlines()


def _example(command: str) -> tuple[str, str]:
    path = re.search(r"\$(api|url)[^\s\"?]*", command)
    assert path is not None, command
    text = path[0]
    for written, meant in _WRITTEN.items():
        text = text.replace(written, meant)
    given = re.search(r"-X ([A-Z]+)", command)
    sends = "--json" in command or "--data-binary" in command
    return (given[1] if given else "POST" if sends else "GET"), text
