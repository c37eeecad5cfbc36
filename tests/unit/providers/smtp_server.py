"""A mail server on loopback: aiosmtpd speaks the wire, the test says what it answers."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from services.providers.smtp_config import SmtpConfig
from tests.unit.providers.contract.adapter import Behaviour
from tests.unit.providers.contract.patience import TIMEOUT, keep_silent

PASSWORD = "p@ss:w/ord of the tests"


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A message whose content has arrived whole."""

    sender: str
    recipient: str
    options: tuple[str, ...]
    content: bytes = field(repr=False)


class MailServer:
    """Listens at `port`. `replies` scripts the reply to MAIL, RCPT, DATA (after the content) and RSET."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[ReceivedMail] = []
        self.commands: list[str] = []
        self.replies: dict[str, str] = {}
        # A command at which to do this instead: hang or reset.
        self.faults: dict[str, Behaviour] = {}
        # Returns the id of a queued message.
        self.queue_id: Callable[[ReceivedMail], str] = lambda _: "4QxYz12345"
        self.connections: list[SMTP] = []
        self.port = 0
        self._options = {"hostname": "mx.example.com", "enable_SMTPUTF8": True, **options}
        self._implicit_tls: ssl.SSLContext | None = self._options.pop("implicit_tls", None)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def listen(self) -> None:
        # aiosmtpd logs every line of the dialogue; what Posthouse logs is what tests look at.
        logging.getLogger("mail.log").disabled = True
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connected, "127.0.0.1", self.port, ssl=self._implicit_tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.drop_connections()

    async def drop_connections(self) -> None:
        """End all connections, as a server does that finds them idle, and wait until they are."""
        open_ones, self.connections = self.connections, []
        tasks = [connection._handler_coroutine for connection in open_ones]
        for connection in open_ones:
            if connection.transport is not None:
                connection.transport.close()
        for task in filter(None, tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await task

    def _connected(self) -> SMTP:
        connection = SMTP(
            self, authenticator=self._check_login, loop=asyncio.get_running_loop(), **self._options
        )
        self.connections.append(connection)
        return connection

    @staticmethod
    def _check_login(
        _server: SMTP, _session: Session, _envelope: Envelope, _kind: str, given: Any
    ) -> AuthResult:
        right = LoginPassword(b"posthouse", PASSWORD.encode())
        return AuthResult(success=given == right, handled=False)

    # The names of aiosmtpd's hooks.

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = await self._reply(server, "MAIL", "250 OK")
        if reply.startswith("250"):
            envelope.mail_from, envelope.mail_options = address, options
        return reply

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        reply = await self._reply(server, "RCPT", "250 OK")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        (recipient,) = envelope.rcpt_tos
        mail = ReceivedMail(
            envelope.mail_from or "",
            recipient,
            tuple(envelope.mail_options),
            envelope.original_content or b"",
        )
        self.mails.append(mail)
        return await self._reply(server, "DATA", f"250 2.0.0 Ok: queued as {self.queue_id(mail)}")

    async def handle_RSET(self, server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        return await self._reply(server, "RSET", "250 OK")

    async def _reply(self, server: SMTP, command: str, reply: str) -> str:
        self.commands.append(command)
        fault = self.faults.get(command)
        if fault is Behaviour.HANG:
            await keep_silent()
        if fault is Behaviour.SLOW_BODY:
            server._writer.write(b"250-")
            await keep_silent()
        if fault is Behaviour.RESET:
            transport = server.transport
            assert isinstance(transport, asyncio.Transport)
            # Linger 0 makes the close an RST.
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            transport.abort()
        return self.replies.get(command, reply)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for localhost that is its own authority."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@cache
def certificate(folder: Path) -> Certificate:
    """Make a certificate and the two ends' contexts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "localhost.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return Certificate(server, ssl.create_default_context(cafile=str(pem)))


def quick(port: int, **more: Any) -> SmtpConfig:
    """Return a configuration for a server on loopback; a silence outlasts a command, not a message."""
    values = {
        "tls": "none",
        "command_timeout": TIMEOUT,
        "message_timeout": 60.0,
        "local_hostname": "client.example",
    }
    return SmtpConfig("127.0.0.1", port, **{**values, **more})
