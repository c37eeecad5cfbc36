"""The messages that all measurements send: short texts from one number to many."""

import base64
import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence

import orjson

from posthouse.v1 import message_service_pb2 as pb

# The limits hold here too: `posthouse up` on this machine raises them for keys that begin like this.
API_KEY = "bulk-benchmark"
# What callbacks are signed with.
TWILIO_TOKEN = "token-of-the-benchmark"  # noqa: S105 - of nobody
SENDER = "+15551234567"
BODY = "Your table for two is booked for Saturday at eight. Reply C to cancel."
# Conversations the messages fall into.
RECIPIENTS = 10_000


def recipient(number: int) -> str:
    """Return one of the recipients, all of them in turn."""
    return f"+1555{2_000_000 + number % RECIPIENTS}"


def batches(size: int) -> Iterator[bytes]:
    """Yield the serialised SendMessages requests that name every recipient once."""
    for start in range(0, RECIPIENTS, size):
        requests = [
            pb.SendMessageRequest(sender=SENDER, recipient=recipient(number), body=BODY)
            for number in range(start, start + size)
        ]
        yield pb.SendMessagesRequest(requests=requests).SerializeToString()


def singles() -> Iterator[bytes]:
    """Yield serialised SendMessage requests."""
    for number in range(RECIPIENTS):
        yield pb.SendMessageRequest(sender=SENDER, recipient=recipient(number), body=BODY).SerializeToString()


def http_requests(port: int) -> Iterator[bytes]:
    """Yield whole HTTP requests that send one message each."""
    for number in range(RECIPIENTS):
        body = orjson.dumps({"from": SENDER, "to": recipient(number), "body": BODY})
        yield (
            f"POST /api/v1/messages/send HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"X-API-Key: {API_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


def callback_requests(port: int, message_ids: Sequence[str], count: int) -> Iterator[bytes]:
    """Yield whole HTTP requests that are a status callback of Twilio's each, and news each."""
    for number in range(count):
        sid = "SM" + os.urandom(16).hex()
        target = f"/webhook/twilio/status?message_id={message_ids[number % len(message_ids)]}&attempt=1"
        fields = {"MessageSid": sid, "MessageStatus": "delivered", "To": "15559876543", "From": "15551234567"}
        # HMAC-SHA1 over the URL and the sorted parameters, as Twilio signs.
        parameters = "".join(f"{name}{fields[name]}" for name in sorted(fields))
        signed = f"http://127.0.0.1:{port}{target}{parameters}"
        digest = hmac.new(TWILIO_TOKEN.encode(), signed.encode(), hashlib.sha1).digest()
        body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
        yield (
            f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"X-Twilio-Signature: {base64.b64encode(digest).decode()}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
