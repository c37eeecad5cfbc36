"""A fake of Twilio: its REST API on loopback, and requests signed as Twilio signs its webhooks."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
import pytest
from twilio.request_validator import RequestValidator

from services.providers.base import WebhookRequest
from services.providers.twilio import TwilioConfig
from tests.unit.providers.contract.adapter import Behaviour
from tests.unit.providers.contract.fake_http import FakeHttpCarrier, HttpAnswer, HttpRequest
from tests.unit.providers.contract.patience import TIMEOUT

# The SDK hands aiohttp its credentials in a way that aiohttp 4 will not take.
OLD_BASIC_AUTH = [
    pytest.mark.filterwarnings("ignore:The 'auth' parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
]

ACCOUNT = "AC" + "0123456789abcdef" * 2
SERVICE = "MG" + "fedcba9876543210" * 2
TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SENDER = "+15551234567"
PUBLIC = "https://hooks.example.com"
WEBHOOK = f"{PUBLIC}/api/v1/webhooks/twilio"
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"


class TwilioCarrier(FakeHttpCarrier):
    """Twilio on loopback; what it accepted is in its list, newest first. `page_size` records a page."""

    def __init__(self) -> None:
        super().__init__(
            {
                Behaviour.ACCEPT: self._accept,
                Behaviour.RATE_LIMIT: lambda _: failure(
                    429, 20429, "Too Many Requests", {"Retry-After": "7"}
                ),
                Behaviour.SERVER_ERROR: lambda _: failure(500, 20500, "Internal Server Error"),
                Behaviour.REJECT: lambda _: failure(400, 21211, "Invalid 'To' Phone Number"),
                Behaviour.GARBAGE: lambda _: HttpAnswer(200, b"<html>\xff\xfe</html>"),
            }
        )
        self.records: list[dict[str, Any]] = []
        self.page_size = 100

    def answer_with(self, answer: Callable[[HttpRequest], HttpAnswer]) -> None:
        self.answers[Behaviour.ACCEPT] = answer

    def config(self, **changes: Any) -> TwilioConfig:
        values: dict[str, Any] = {
            "account_sid": ACCOUNT,
            "auth_token": TOKEN,
            "webhook_base_url": PUBLIC,
            "base_url": self.url,
            "timeout": TIMEOUT,
        }
        return TwilioConfig(**(values | changes))

    def record(self, fields: Mapping[str, str], *, created: datetime | None = None) -> str:
        """Add to the list what Twilio would show of a message, and return its SID."""
        sid = "SM" + hashlib.md5(repr((sorted(fields.items()), len(self.records))).encode()).hexdigest()  # noqa: S324
        self.records.insert(
            0,
            {
                "sid": sid,
                "direction": fields.get("Direction", "outbound-api"),
                "to": fields["To"],
                "from": fields["From"],
                "body": fields.get("Body", ""),
                "status": "queued",
                "date_created": format_datetime(created or datetime.now(UTC)),
                "date_sent": None,
            },
        )
        return sid

    def _accept(self, request: HttpRequest) -> HttpAnswer:
        if request.method == "GET":
            return self._list(request)
        fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        answer = {"sid": self.record(fields), "status": "queued", "error_code": None}
        return HttpAnswer(201, orjson.dumps(answer), {"Content-Type": "application/json"})

    def _list(self, request: HttpRequest) -> HttpAnswer:
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
        first = int(query.get("Page", "0")) * self.page_size
        found = [r for r in self.records if (r["to"], r["from"]) == (query["To"], query["From"])]
        more = len(found) > first + self.page_size
        following = urlencode(query | {"Page": int(query.get("Page", "0")) + 1})
        answer = {
            "messages": found[first : first + self.page_size],
            "next_page_uri": f"{MESSAGES}?{following}" if more else None,
        }
        return HttpAnswer(200, orjson.dumps(answer), {"Content-Type": "application/json"})


def failure(status: int, code: int, text: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """Return an error as Twilio words it."""
    body = {"code": code, "message": text, "more_info": "https://twilio.example/docs", "status": status}
    return HttpAnswer(status, orjson.dumps(body), {"Content-Type": "application/json", **(headers or {})})


def form_request(
    fields: Mapping[str, str] | list[tuple[str, str]], *, url: str = WEBHOOK, token: str = TOKEN
) -> WebhookRequest:
    """Return a form-encoded request, signed by the SDK over the fields as Twilio does."""
    pairs = list(fields.items()) if isinstance(fields, Mapping) else fields
    signature = RequestValidator(token).compute_signature(url, Values(pairs))
    return WebhookRequest(
        "POST",
        url,
        {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature},
        urlencode(pairs).encode(),
    )


def json_request(fields: object, *, url: str = WEBHOOK, token: str = TOKEN) -> WebhookRequest:
    """Return a request with a JSON body, whose digest is in the signed URL."""
    body = orjson.dumps(fields)
    url += ("&" if "?" in url else "?") + "bodySHA256=" + hashlib.sha256(body).hexdigest()
    signature = RequestValidator(token).compute_signature(url, {})
    return WebhookRequest(
        "POST", url, {"content-type": "application/json", "x-twilio-signature": signature}, body
    )


class Values(dict[str, list[str]]):
    """Pairs as web frameworks hand them to the SDK."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in pairs:
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        return self[name]
