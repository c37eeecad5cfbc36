"""Reads the body of a request where no framework does."""

from starlette.types import Message, Receive


async def read_body(receive: Receive) -> bytes | None:
    """Return the body, or None when the client has gone."""
    message: Message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole
    parts: list[bytes] = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    return None
