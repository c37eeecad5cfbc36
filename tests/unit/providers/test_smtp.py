"""SMTP: its replies, connections and secrets are handled with care."""

import asyncio
import quopri
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.kit.ids import new_id
from services.providers.base import (
    Accepted,
    MalformedWebhookError,
    NotBegun,
    OutboundMessage,
    Outcome,
    Rejected,
    Retryable,
    Unknown,
    WebhookRequest,
)
from services.providers.smtp import SmtpProvider, queue_id
from tests.unit.providers.contract.adapter import Behaviour
from tests.unit.providers.contract.patience import SILENCE
from tests.unit.providers.smtp_server import PASSWORD, MailServer, certificate, quick

Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a server and a provider for it: `await start(server_options, tls=...)`."""
    async with AsyncExitStack() as stack:

        async def begin(
            options: dict[str, Any] | None = None, **config: Any
        ) -> tuple[SmtpProvider, MailServer]:
            server = await stack.enter_async_context(MailServer(**(options or {})))
            provider = SmtpProvider(quick(server.port, **config))
            stack.push_async_callback(provider.close)
            return provider, server

        yield begin


def email(**more: Any) -> OutboundMessage:
    message = OutboundMessage(
        id=new_id(), attempt=1, channel="email", sender="desk@posthouse.example",
        recipient="ann@example.com", body="Hello", subject="Rent",
    )  # fmt: skip
    return replace(message, **more)


async def test_a_reply_at_each_step_means(start: Start) -> None:
    provider, server = await start()
    cases = [
        ("MAIL", "450 4.2.0 later", Retryable("4.2.0", "4.2.0 later")),
        ("MAIL", "421 4.7.0 too many connections", Retryable("4.7.0", "4.7.0 too many connections")),
        ("MAIL", "530 5.7.0 log in first", Rejected("5.7.0", "5.7.0 log in first", provider_fault=True)),
        ("MAIL", "550 no such sender", Rejected("550", "no such sender")),
        ("RCPT", "451 greylisted", Retryable("451", "greylisted")),
        ("RCPT", "550 5.1.1 no such user", Rejected("5.1.1", "5.1.1 no such user")),
        ("RCPT", "554 5.7.1 relay denied", Rejected("5.7.1", "5.7.1 relay denied", provider_fault=True)),
        ("DATA", "452 4.3.1 full", Retryable("4.3.1", "4.3.1 full")),
        ("DATA", "550 5.7.1 looks like spam", Rejected("5.7.1", "5.7.1 looks like spam")),
        ("DATA", "535 5.7.8 log in again", Rejected("5.7.8", "5.7.8 log in again", provider_fault=True)),
        ("DATA", "251 hm", Unknown("unreadable_answer", "the reply cannot be understood")),
        ("MAIL", "what?", Retryable("unreadable_answer", "the reply cannot be understood")),
        ("RCPT", "999 what?", Retryable("unreadable_answer", "the reply cannot be understood")),
    ]
    for command, reply, expected in cases:
        server.replies = {command: reply}
        assert await provider.send([email()]) == [expected], reply
        server.replies = {}
        (after,) = await provider.send([email()])
        assert isinstance(after, Accepted), reply


@pytest.mark.parametrize("fault", [Behaviour.HANG, Behaviour.RESET])
@pytest.mark.parametrize(
    ("command", "expected"), [("MAIL", Retryable), ("RCPT", Retryable), ("DATA", Unknown)]
)
async def test_a_connection_lost_before_the_content_is_safe_to_repeat(
    start: Start, command: str, expected: type, fault: Behaviour
) -> None:
    provider, server = await start()
    server.faults = {command: fault}
    (outcome,) = await provider.send([email()])
    assert type(outcome) is expected
    assert server.commands.count(command) == 1


async def test_connections_are_used_again_and_bounded(start: Start) -> None:
    provider, server = await start(connections=3)
    for _ in range(3):
        outcomes = await provider.send([email(recipient=f"{n}@example.org") for n in range(20)])
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert len(server.mails) == 60
    assert len(server.connections) == 3


async def test_a_refused_message_does_not_cost_the_connection(start: Start) -> None:
    provider, server = await start()
    server.replies = {"RCPT": "550 5.1.1 no such user"}
    await provider.send([email()])
    server.replies = {}
    await provider.send([email()])
    assert len(server.connections) == 1
    assert server.commands == ["MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA"]


async def test_a_connection_the_server_has_dropped_is_replaced(start: Start) -> None:
    provider, server = await start()
    await provider.send([email()])
    await server.drop_connections()
    (outcome,) = await provider.send([email()])
    assert isinstance(outcome, Accepted)
    assert len(server.mails) == 2


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
async def test_a_connection_that_dies_in_use_is_replaced_once(start: Start, command: str) -> None:
    provider, server = await start()
    await provider.send([email()])
    server.replies = {command: "421 4.4.2 idle for too long"}
    (outcome,) = await provider.send([email()])
    assert outcome == Retryable("4.4.2", "4.4.2 idle for too long")
    assert server.commands.count(command) == 3  # the first message's, the dead connection's, the new one's
    assert len(server.mails) == 1


async def test_a_connection_is_not_kept_for_long(start: Start) -> None:
    provider, server = await start(idle_timeout=0.9)
    await provider.send([email()])
    (connection,) = provider._pool._idle
    connection.idle_since -= 1
    await provider.send([email()])
    assert len(server.connections) == 2


async def test_a_connection_ends_after_many_messages(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.providers.smtp_pool._MAX_MESSAGES", 2)
    provider, server = await start()
    for _ in range(4):
        await provider.send([email()])
    assert len(server.connections) == 2


async def test_messages_a_slow_server_leaves_no_time_for_are_not_begun(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("services.providers.smtp.time", SimpleNamespace(monotonic=lambda: loop.time() + 0))
    # Less to begin in than the silence takes.
    monkeypatch.setattr(SmtpProvider, "send_timeout", 60.0 + SILENCE)
    provider, server = await start(connections=1)
    server.faults = {"DATA": Behaviour.HANG}
    outcomes = await provider.send([email(), email()])
    assert [type(outcome) for outcome in outcomes] == [Unknown, NotBegun]
    assert len(server.mails) == 1


async def test_batches_follow_the_share_of_the_connections(start: Start) -> None:
    provider, _ = await start(connections=4)

    def share(among: int) -> int:
        provider.shared_by(lambda: among)
        return provider.batch_share

    assert [share(dispatchers) for dispatchers in (1, 2, 4, 10)] == [20, 10, 5, 5]


async def test_starttls_is_required(start: Start, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    provider, server = await start(
        {"tls_context": made.server, "require_starttls": True},
        tls="starttls", tls_context=made.client, username="posthouse", password=PASSWORD,
    )  # fmt: skip
    assert isinstance((await provider.send([email()]))[0], Accepted)
    assert server.connections[0].session.authenticated

    provider, server = await start(tls="starttls", tls_context=made.client)
    (outcome,) = await provider.send([email()])
    assert isinstance(outcome, Retryable)
    assert "STARTTLS" in outcome.error_message
    assert not server.commands


async def test_tls_from_the_first_byte(start: Start, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    provider, server = await start(
        {"implicit_tls": made.server}, tls="tls", tls_context=made.client,
    )  # fmt: skip
    assert isinstance((await provider.send([email()]))[0], Accepted)
    assert len(server.mails) == 1


@pytest.mark.parametrize("tls", ["tls", "starttls"])
async def test_a_certificate_nobody_vouches_for_is_refused(start: Start, tmp_path: Path, tls: str) -> None:
    made = certificate(tmp_path)
    options = {"implicit_tls": made.server} if tls == "tls" else {"tls_context": made.server}
    provider, server = await start(options, tls=tls, username="posthouse", password=PASSWORD)
    (outcome,) = await provider.send([email()])
    assert isinstance(outcome, Retryable)
    assert not server.mails
    assert not server.commands


async def test_a_wrong_password_is_the_providers_fault(start: Start) -> None:
    provider, _ = await start({"auth_require_tls": False}, username="posthouse", password="wrong")
    (outcome,) = await provider.send([email()])
    assert isinstance(outcome, Rejected)
    assert outcome.provider_fault
    assert (outcome.error_code, "wrong" in outcome.error_message) == ("5.7.8", False)


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
async def test_a_server_that_wants_a_login_and_gets_none(start: Start) -> None:
    provider, _ = await start({"auth_required": True, "auth_require_tls": False})
    (outcome,) = await provider.send([email()])
    assert isinstance(outcome, Rejected)
    assert outcome.provider_fault


async def test_dots_and_long_lines_arrive(start: Start) -> None:
    provider, server = await start()
    body = ".\r\n..\r\n.x\r\n" + "y" * 2000
    await provider.send([email(body=body)])
    _, _, content = server.mails[0].content.partition(b"\r\n\r\n")
    assert b"quoted-printable" in server.mails[0].content
    assert quopri.decodestring(content) == body.encode() + b"\r\n"


async def test_a_local_part_beyond_ascii_needs_smtputf8(start: Start) -> None:
    provider, server = await start()
    assert isinstance((await provider.send([email(recipient="jörg@example.com")]))[0], Accepted)
    assert server.mails[0].recipient == "jörg@example.com"
    assert "SMTPUTF8" in server.mails[0].options

    provider, server = await start({"enable_SMTPUTF8": False})
    (outcome,) = await provider.send([email(recipient="jörg@example.com")])
    assert outcome == Rejected("smtputf8", "the server takes no addresses beyond ASCII", provider_fault=True)
    assert not server.mails
    assert isinstance((await provider.send([email()]))[0], Accepted)


async def test_what_cannot_be_sent_never_goes_out(start: Start) -> None:
    provider, server = await start()
    (outcome,) = await provider.send([email(recipient="ann@example.com>\r\nRCPT TO:<eve@example.com")])
    assert outcome == Rejected("invalid_address", "an address is not of the form local@domain")
    assert not server.connections


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        (b"554 5.3.2 closed today\r\n", Rejected("5.3.2", "5.3.2 closed today", provider_fault=True)),
        (b"421 4.3.2 busy\r\n", Retryable("4.3.2", "4.3.2 busy")),
        (b"SSH-2.0-OpenSSH\r\n", Retryable("unreadable_answer", "the reply cannot be understood")),
    ],
)
async def test_a_greeting_other_than_welcome_means(greeting: bytes, expected: Outcome) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    provider = SmtpProvider(quick(server.sockets[0].getsockname()[1]))
    assert await provider.send([email()]) == [expected]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("2.0.0 Ok: queued as 4F1A2B3C", "4F1A2B3C"),
        ("2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 9B2D", "9B2D"),
        ("OK id=1rAbCd-0000xY-2F", "1rAbCd-0000xY-2F"),
        ("2.6.0 <a@b.example> [InternalId=12345, Hostname=x] Queued mail for delivery", "12345"),
        ("2.0.0 x1ABCDEF012345 Message accepted for delivery", "x1ABCDEF012345"),
        ("Ok 0100018cafe00000-11112222-3333-4444-5555-666677778888-000000",
         "0100018cafe00000-11112222-3333-4444-5555-666677778888-000000"),
        ("2.0.0 OK", ""),
        ("Message accepted", ""),
        ("", ""),
        ("queued as \udcff\x00 x", "\ufffd"),
        ("queued as " + "x" * 5000, "x" * 255),
    ],
)  # fmt: skip
def test_the_queue_id_is_found(reply: str, expected: str) -> None:
    assert queue_id(reply) == expected


def test_it_has_no_webhooks() -> None:
    provider = SmtpProvider(quick(1))
    request = WebhookRequest("POST", "http://x/", {}, b"{}")
    assert provider.verify(request) is False
    with pytest.raises(MalformedWebhookError, match="no webhooks"):
        provider.parse(request)
