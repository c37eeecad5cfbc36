"""Values that must not be read anywhere, put into every field of every call, and the search for them."""

import base64
import functools
import hashlib
import hmac
import importlib
import json
import pkgutil
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import httpx2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import posthouse.v1
from posthouse.v1 import conversation_service_pb2

TEXT = "canary-body-4hq7x"
SUBJECT = "canary-subject-9tk2m"
SECRET = "canary-secret-w8r3zc5vn1y6b0d2"
# A contact's number as people spell it, and the digits that give it away.
NUMBERS = (
    "+15558675309", "15558675309", "+1 (555) 867-5309", "(555) 867-5309", "555-867-5309", "555.867.5309",
    "+1.555.867.5309", "001 555 867 5309", "tel:+15558675309", "+447700900461", "+44 7700 900 461",
)  # fmt: skip
MAILS = ("wren.canary@example.org", "Wren.Canary@Example.ORG", "Wren <wren.canary@example.org>")
OURS = ("+15551230000", "desk.canary@example.com")
KEY_NAME = "x-api-key"

# Seven digits suffice: nobody's log may narrow a number down to one.
_SIGNS: Mapping[str, re.Pattern[str]] = {
    "body": re.compile(TEXT, re.IGNORECASE),
    "subject": re.compile(SUBJECT, re.IGNORECASE),
    "secret": re.compile(SECRET, re.IGNORECASE),
    "body in base64": re.compile(re.escape(base64.b64encode(TEXT.encode()).decode()[:20])),
    "number": re.compile(
        r"8\W{0,2}6\W{0,2}7\W{0,2}5\W{0,2}3\W{0,2}0\W{0,2}9|7\W?7\W?0\W?0\W?9\W?0\W?0\W?4\W?6\W?1"
    ),
    "our number": re.compile(r"5\W{0,2}5\W{0,2}5\W{0,2}1\W{0,2}2\W{0,2}3\W{0,2}0\W{0,2}0\W{0,2}0\W{0,2}0"),
    "e-mail": re.compile(r"(wren|desk)[._%]{1,3}canary", re.IGNORECASE),
}


def leaks(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that have a canary in them, with its kind."""
    for line in lines:
        for kind, sign in _SIGNS.items():
            if sign.search(line):
                yield f"{kind}: {line[:600]}"


def log_lines(folder: Path) -> Iterator[str]:
    """Yield every line that the processes have written."""
    for path in sorted(folder.glob("*.log*")):
        with path.open(errors="replace") as lines:
            yield from lines


class Driver:
    """Puts canaries into every field of every route and RPC; `key` is a credential with every scope."""

    def __init__(
        self, http: httpx2.Client, channels: Mapping[str, grpc.Channel], key: str, signing: str
    ) -> None:
        self._http = http
        self._channels = channels
        self._key = key
        self._signing = signing
        self._turn = 0
        self.answers: list[str] = []

    def sends(self) -> None:
        """Send messages of every channel between every spelling, so that providers and contacts get them."""
        http = self._http
        for number in NUMBERS:
            self._note(
                http.post(
                    "/api/v1/messages/send",
                    json=self._sms(number),
                    headers={"Idempotency-Key": number.replace(" ", "")},
                )
            )
        for mail in MAILS:
            body = {"from": OURS[1], "to": mail, "subject": SUBJECT, "body": TEXT, "html": f"<p>{TEXT}</p>"}
            self._note(http.post("/api/v1/messages/send", json=body))
        picture = {
            "url": f"https://user:{SECRET}@example.com/{TEXT}.jpg?key={SECRET}",
            "content_type": "image/jpeg",
        }
        self._note(
            http.post("/api/v1/messages/send", json={**self._sms(NUMBERS[0]), "attachments": [picture]})
        )
        self._note(http.post("/api/v1/messages/batch", json={"messages": [self._sms(n) for n in NUMBERS]}))

    def crowd(self, batches: int) -> None:
        """Send batches of a thousand, for many lines of what happens to messages."""
        for _ in range(batches):
            # From another number each time: one of the routes opts contacts out.
            self._turn += 1
            own = {"from": f"+1555999{self._turn % 10_000:04}"}
            messages = [self._sms(NUMBERS[number % len(NUMBERS)]) | own for number in range(1000)]
            self._note(self._http.post("/api/v1/messages/batch", json={"messages": messages}))

    def routes(self) -> None:
        """Call every route of the document with canaries in path, query, headers and body."""
        document = self._http.get("/api/v1/openapi.json").json()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if "text/event-stream" in json.dumps(operation.get("responses", {})):
                    continue
                self._route(document, path, method, operation)

    def rpcs(self) -> None:
        """Call every RPC with canaries in every text, with and without a good credential."""
        for method in _methods():
            request = GetMessageClass(method.input_type)()
            self._fill(request, method.input_type, 3)
            for credential in (self._key, SECRET):
                self._call(method, request, credential)

    def watches(self) -> None:
        """Watch over HTTP and gRPC what happens to every address, and by every other word that is none."""
        stream = functools.partial(self._http.stream, "GET", "/api/v1/events")
        for address in (*NUMBERS, *MAILS, f"{TEXT} {NUMBERS[2]}"):
            for params in ({"participant": address}, {"conversation_id": address}):
                headers = {"Last-Event-ID": f"{SECRET} {address}"} if address is MAILS[0] else {}
                with stream(params=params, headers=headers) as response:
                    if response.status_code >= 400:
                        response.read()
                        self._note(response)
        with stream(params={"participant": NUMBERS[0]}) as response:
            self._note(self._http.post("/api/v1/messages/send", json=self._sms(NUMBERS[0])))
            # The beginning of the stream, and an event, or signs of life where none comes.
            assert list(islice(response.iter_lines(), 6))
        (watch,) = (method for method in _methods() if method.server_streaming)
        for address in (*NUMBERS, *MAILS):
            request = conversation_service_pb2.WatchEventsRequest(participant=address)
            self._call(watch, request, self._key)

    def subscribe(self, port: int) -> None:
        """Have events posted to where nobody listens, under an address with a secret in it."""
        url = f"http://127.0.0.1:{port}/{TEXT}?key={SECRET}"
        response = self._http.post("/api/v1/subscriptions", json={"url": url, "description": TEXT})
        assert response.status_code == 201, response.text

    def _call(self, method: MethodDescriptor, request: Message, credential: str) -> None:
        channel = self._channels[method.containing_service.name]
        path = f"/{method.containing_service.full_name}/{method.name}"
        content, metadata = request.SerializeToString(), ((KEY_NAME, credential),)
        try:
            if method.server_streaming:
                call = channel.unary_stream(path)(content, timeout=30, metadata=metadata)
                next(call)
                call.cancel()
            else:
                channel.unary_unary(path)(content, timeout=30, metadata=metadata)
        except grpc.RpcError as error:
            self.answers.append(str(error.details()))  # type: ignore[attr-defined]  # of calls

    def webhooks(self, count: int = 1) -> None:
        """Bring news with canaries in them: forged, malformed, and such that the simulator vouches for."""
        event = {
            "event": "reply", "channel": "sms", "from": NUMBERS[0], "to": OURS[0], "body": TEXT,
            "provider_message_id": f"SM{time.time_ns()}", "timestamp": "2026-11-22T03:00:00Z",
        }  # fmt: skip
        form = {
            "MessageSid": f"SM{time.time_ns()}",
            "From": NUMBERS[0],
            "To": OURS[0],
            "Body": TEXT,
            "NumMedia": "0",
        }
        good = json.dumps([event]).encode()
        for content in (
            good,
            json.dumps([{**event, "timestamp": TEXT}]).encode(),
            f"[{TEXT} {NUMBERS[2]}".encode(),
        ):
            self._note(
                self._http.post("/api/v1/webhooks/simulator", content=content, headers=self._signed(content))
            )
        for _ in range(count):
            self._http.post(
                "/api/v1/webhooks/simulator", content=good, headers={"X-Note": f"{TEXT} {NUMBERS[2]}"}
            )
        for path in ("/webhook/twilio/sms", "/webhook/twilio/status", "/api/v1/webhooks/twilio"):
            self._note(self._http.post(path, data=form, headers={"X-Twilio-Signature": SECRET}))
        self._note(
            self._http.post(
                f"/api/v1/webhooks/sendgrid?token={SECRET}", json=[{"email": MAILS[0], "event": TEXT}]
            )
        )

    def _sms(self, number: str) -> dict[str, Any]:
        return {"from": OURS[0], "to": number, "body": TEXT, "metadata": {"note": f"{TEXT} {MAILS[0]}"}}

    def _signed(self, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signature = hmac.new(self._signing.encode(), now.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {"X-Posthouse-Simulator-Timestamp": now, "X-Posthouse-Simulator-Signature": signature}

    def _note(self, response: httpx2.Response) -> None:
        if response.status_code >= 400:
            self.answers.append(_without_instance(response.text))

    def _route(
        self, document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
    ) -> None:
        schema: dict[str, Any] = {}
        for kind in operation.get("requestBody", {}).get("content", {}).values():
            schema = kind.get("schema", {})
        for good in (True, False):
            place = re.sub(r"{(\w+)}", lambda found: self._value(found[1]), path)
            query = {
                p["name"]: self._value(p["name"])
                for p in operation.get("parameters", ())
                if p["in"] == "query"
            }
            headers = {KEY_NAME: self._key if good else SECRET, "Idempotency-Key": f"{SECRET}{self._turn}"}
            if not good:
                headers["Authorization"] = f"Bearer {SECRET}"
            body = self._shape(document, schema, 4) if schema else None
            response = self._http.request(
                method.upper(), place, params=query, headers=headers,
                content=None if body is None else json.dumps(body).encode(),
            )  # fmt: skip
            self._note(response)

    def _value(self, name: str) -> str:
        """Return what a text field of this name is filled with; each call another spelling."""
        self._turn += 1
        lower = name.lower()
        if lower in ("from", "sender", "source"):
            return OURS[self._turn % 2]
        if lower in ("to", "recipient", "participant", "phone", "phone_number", "participants", "address"):
            return (*NUMBERS, *MAILS)[self._turn % (len(NUMBERS) + len(MAILS))]
        if any(word in lower for word in ("secret", "token", "key", "request_id")):
            return SECRET
        if "subject" in lower:
            return SUBJECT
        return f"{TEXT} {NUMBERS[self._turn % len(NUMBERS)]} {MAILS[0]}"

    def _shape(
        self, document: Mapping[str, Any], schema: Mapping[str, Any], depth: int, name: str = ""
    ) -> Any:
        if "$ref" in schema:
            return self._shape(
                document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], depth, name
            )
        choice = next((word for word in ("anyOf", "oneOf", "allOf") if word in schema), None)
        if choice is not None:
            return self._shape(document, schema[choice][0], depth, name)
        kind = schema.get("type")
        if kind == "object":
            fields = schema.get("properties", {"note": {"type": "string"}})
            return (
                {key: self._shape(document, inner, depth - 1, key) for key, inner in fields.items()}
                if depth
                else {}
            )
        if kind == "array":
            return [self._shape(document, schema.get("items", {}), depth, name)]
        plain = {"integer": 1, "number": 0.5, "boolean": True}
        return plain[kind] if kind in plain else schema.get("enum", [self._value(name)])[0]

    def _fill(self, message: Message, descriptor: Descriptor, depth: int) -> None:
        for field in descriptor.fields:
            repeated = field.is_repeated
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                if depth and not (field.message_type.GetOptions().map_entry):
                    target = getattr(message, field.name)
                    inner = target.add() if repeated else target
                    if field.message_type.full_name.startswith("posthouse."):
                        self._fill(inner, field.message_type, depth - 1)
            elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                value: Any = self._value(field.name)
                if field.type == FieldDescriptor.TYPE_BYTES:
                    value = value.encode()
                getattr(message, field.name).append(value) if repeated else setattr(
                    message, field.name, value
                )
            elif field.type == FieldDescriptor.TYPE_ENUM and not repeated:
                setattr(message, field.name, field.enum_type.values[-1].number)


def _methods() -> Iterator[MethodDescriptor]:
    for module in pkgutil.iter_modules(posthouse.v1.__path__):
        if module.name.endswith("_service_pb2"):
            found = importlib.import_module(f"posthouse.v1.{module.name}")
            for service in found.DESCRIPTOR.services_by_name.values():
                yield from service.methods


def _without_instance(text: str) -> str:
    """Return a problem without `instance`, which is the path the caller has just called."""
    try:
        problem = json.loads(text)
    except ValueError:
        return text
    if isinstance(problem, dict):
        problem.pop("instance", None)
    return json.dumps(problem)
