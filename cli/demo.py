"""A conversation on every channel through a running stack: what `posthouse demo` does."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx2
from rich.console import Console
from rich.markup import escape

from cli import ports
from cli.datadir import DataDir
from services.kit.config import Settings

_POLL = 0.1
_OVER = frozenset({"failed", "undelivered", "cancelled", "unknown"})
_DELIVERED = frozenset({"delivered", "read"})
_PHONES = {"from": "+15551234567", "to": "+15559876543"}
_MESSAGES: tuple[dict[str, Any], ...] = (
    {**_PHONES, "type": "sms", "body": "Hello! Is Saturday at ten still fine?"},
    {
        **_PHONES,
        "type": "mms",
        "body": "This is the place.",
        "attachments": [{"url": "https://example.com/map.png", "content_type": "image/png"}],
    },
    {
        "from": "desk@example.com",
        "to": "contact@example.org",
        "type": "email",
        "subject": "Saturday at ten",
        "body": "See you on Saturday at ten.",
        "html": "<p>See you on <b>Saturday at ten</b>.</p>",
    },
)


class DemoError(Exception):
    """The demo cannot go on. The text says why, in one line."""


@dataclass(slots=True)
class _Sent:
    id: str
    conversation_id: str
    channel: str
    create_time: str
    state: str = "pending"
    events: int = 0


@dataclass(slots=True)
class _Progress:
    sent: list[_Sent] = field(default_factory=list)
    # Ids of the replies that have been printed.
    replies: set[str] = field(default_factory=set)

    def missing(self) -> list[str]:
        """Return in words what has not happened yet."""
        missing = [f"{item.channel} is {item.state}" for item in self.sent if item.state not in _DELIVERED]
        replies = len(self.sent) - len(self.replies)
        return missing + ([f"{replies} of {len(self.sent)} replies have not come"] if replies > 0 else [])


class Demo:
    """Sends one message per channel and follows them to the contact's replies."""

    def __init__(self, url: str, *, timeout: float, api_key: str = "") -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._console = Console(highlight=False)
        self._progress = _Progress()

    def run(self) -> int:
        """Return 0 once everything is delivered and answered, 1 when it is not in time."""
        try:
            with httpx2.Client(
                base_url=f"{self._url}/api/v1", timeout=5.0, trust_env=False, headers=self._headers
            ) as client:
                self._await_ready(client)
                self._console.print(f"[bold]Sending through {escape(self._url)}[/]", soft_wrap=True)
                for message in _MESSAGES:
                    self._send(client, message)
                    self._follow(client)
                self._follow_all(client)
                self._show_conversations(client)
        except httpx2.TransportError as error:
            return self._fail(f"{self._url} does not answer ({error}); start a stack with: posthouse up")
        except DemoError as error:
            return self._fail(str(error))
        self._console.print("\n[bold green]All delivered and answered.[/]")
        return 0

    def _await_ready(self, client: httpx2.Client) -> None:
        """Give a stack that is still starting the time to."""
        deadline = time.monotonic() + self._timeout
        while not client.get(f"{self._url}/ready").is_success:
            if time.monotonic() > deadline:
                raise DemoError(f"{self._url} is not ready after {self._timeout:g} s")
            time.sleep(_POLL)

    def _send(self, client: httpx2.Client, message: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        answer = _json(client.post("/messages/send", json=message, headers=headers))
        item = _Sent(answer["id"], answer["conversation_id"], answer["type"], answer["created_at"])
        self._progress.sent.append(item)
        text = message.get("subject") or message["body"]
        self._line(item.create_time, item.channel, f"{message['from']} → {message['to']}: {text}")

    def _follow_all(self, client: httpx2.Client) -> None:
        deadline = time.monotonic() + self._timeout
        while self._progress.missing():
            if time.monotonic() > deadline:
                raise DemoError(f"after {self._timeout:g} s {', '.join(self._progress.missing())}")
            self._follow(client)
            time.sleep(_POLL)

    def _follow(self, client: httpx2.Client) -> None:
        """Print what has happened since the last look, in the order it happened."""
        news: list[tuple[str, str, str]] = []
        for item in self._progress.sent:
            if item.state not in _DELIVERED:
                news += self._follow_message(client, item)
        for conversation_id in dict.fromkeys(item.conversation_id for item in self._progress.sent):
            news += self._follow_conversation(client, conversation_id)
        for moment, channel, text in sorted(news):
            self._line(moment, channel, text)
        for item in self._progress.sent:
            if item.state in _OVER:
                raise DemoError(f"the {item.channel} message {item.id} is {item.state}")

    def _follow_message(self, client: httpx2.Client, item: _Sent) -> list[tuple[str, str, str]]:
        item.state = _json(client.get(f"/messages/{item.id}"))["status"]
        # Read after the state, so that the events that led to it are in the answer.
        events = _json(client.get(f"/messages/{item.id}/events"))["events"]
        fresh = [event for event in events if event["sequence"] > item.events]
        item.events = max((event["sequence"] for event in events), default=0)
        return [(event["created_at"], item.channel, _describe(event)) for event in fresh]

    def _follow_conversation(self, client: httpx2.Client, conversation_id: str) -> list[tuple[str, str, str]]:
        since = min(
            item.create_time for item in self._progress.sent if item.conversation_id == conversation_id
        )
        news = []
        for message in _json(client.get(f"/conversations/{conversation_id}/messages"))["messages"]:
            new = message["id"] not in self._progress.replies and message["created_at"] >= since
            if message["direction"] == "inbound" and new:
                self._progress.replies.add(message["id"])
                text = f"reply of {message['from']}: {message['body']}"
                news.append((message["created_at"], message["type"], text))
        return news

    def _show_conversations(self, client: httpx2.Client) -> None:
        self._console.print("\n[bold]Conversations[/]")
        for conversation_id in dict.fromkeys(item.conversation_id for item in self._progress.sent):
            conversation = _json(client.get(f"/conversations/{conversation_id}"))
            parties = " and ".join(conversation["participants"])
            text = (
                f"  {conversation['channel_family']:<5}  {parties}: {conversation['message_count']} messages"
            )
            self._console.print(escape(text), soft_wrap=True)
            self._console.print(
                f"         {self._url}/api/v1/conversations/{conversation_id}", soft_wrap=True
            )

    def _line(self, moment: str, channel: str, text: str) -> None:
        self._console.print(f"  [dim]{moment[11:23]}[/]  {channel:<5}  {escape(text)}", soft_wrap=True)

    def _fail(self, text: str) -> int:
        Console(stderr=True, highlight=False).print(f"[bold red]posthouse:[/] {escape(text)}", soft_wrap=True)
        return 1


def running_url(data: DataDir, settings: Settings) -> str:
    """Return the address of the stack that runs on the data folder, or what the settings say."""
    state = data.read_state()
    host, port = (state.host, state.http_port) if state else (settings.host, settings.http_port)
    return f"http://{ports.join(ports.reachable(host), port)}"


def _json(response: httpx2.Response) -> dict[str, Any]:
    if response.is_success:
        content: dict[str, Any] = response.json()
        return content
    try:
        problem = response.json()
        text = problem.get("detail") or problem.get("title")
    except ValueError:
        text = response.reason_phrase
    path = response.request.url.path
    raise DemoError(f"{response.request.method} {path} answered {response.status_code}: {text}")


def _describe(event: dict[str, Any]) -> str:
    text = str(event["type"])
    if event.get("provider"):
        text += f" ({event['provider']})"
    return f"{text}: {event['detail']}" if event.get("detail") else text
