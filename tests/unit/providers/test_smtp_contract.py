"""SMTP keeps the contract."""

import base64
import re
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, Self

import pytest

from services.providers.base import OutboundMessage, Retryable
from services.providers.smtp import SmtpProvider
from tests.unit.providers.contract.adapter import Behaviour, ProviderAdapter, text_message
from tests.unit.providers.contract.suite import ProviderContract
from tests.unit.providers.smtp_server import PASSWORD, MailServer, ReceivedMail, quick

_DATE = re.compile(rb"^Date: .*\r\n", re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^Message-ID: <([^@]+)@", re.MULTILINE)


def id_of(mail: ReceivedMail) -> str:
    found = _MESSAGE_ID.search(mail.content)
    assert found is not None
    return f"Q-{found[1].decode()}"


class SmtpAdapter(ProviderAdapter):
    channel = "email"
    secrets = (PASSWORD, base64.b64encode(PASSWORD.encode()).decode())
    retry_after = None
    differing: ClassVar = {
        # A reply of 4xx says that the message was not taken (RFC 5321, 4.2.1).
        Behaviour.SERVER_ERROR: Retryable,
    }

    def __init__(self) -> None:
        self.server = MailServer(auth_require_tls=False)
        self.server.queue_id = id_of

    async def __aenter__(self) -> Self:
        await self.server.listen()
        self.provider = SmtpProvider(quick(self.server.port, username="posthouse", password=PASSWORD))
        await self.provider.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.close()
        await self.server.stop()

    def message(self, number: int) -> OutboundMessage:
        return text_message(
            number, channel="email", sender="desk@posthouse.example", recipient="ann@example.com"
        )

    async def play(self, behaviour: Behaviour) -> None:
        replies = {
            Behaviour.RATE_LIMIT: "452 4.3.1 Slow down",
            Behaviour.SERVER_ERROR: "451 4.3.0 Local error",
            Behaviour.REJECT: "550 5.6.0 Not like this",
            Behaviour.GARBAGE: "Hello? Who is there?",
        }
        faults = {Behaviour.HANG, Behaviour.RESET, Behaviour.SLOW_BODY}
        self.server.replies = {"DATA": replies[behaviour]} if behaviour in replies else {}
        self.server.faults = {"DATA": behaviour} if behaviour in faults else {}
        if behaviour is Behaviour.REFUSE_CONNECTION:
            await self.server.stop()
        elif self.server._server is None:
            await self.server.listen()

    def requests(self) -> Sequence[object]:
        return [
            (mail.sender, mail.recipient, _DATE.sub(b"", mail.content, count=1)) for mail in self.server.mails
        ]

    def expected_request(self, message: OutboundMessage) -> object:
        name = f"<{message.id}@posthouse.example>"
        number = message.body.removeprefix("Number ").partition(":")[0]
        return (
            "desk@posthouse.example",
            "ann@example.com",
            (
                "From: desk@posthouse.example\r\n"
                "To: ann@example.com\r\n"
                f"Message-ID: {name}\r\n"
                f"References: {name}\r\n"
                "MIME-Version: 1.0\r\n"
                'Content-Type: text/plain; charset="utf-8"\r\n'
                "Content-Transfer-Encoding: quoted-printable\r\n"
                "\r\n"
                f"Number {number}: =C2=BFqu=C3=A9 tal? =F0=9F=90=8E 100% & more + =3D\r\n"
            ).encode(),
        )

    def accepted_id(self, message: OutboundMessage) -> str:
        return f"Q-{message.id}"


class TestSmtpContract(ProviderContract):
    @pytest.fixture
    async def adapter(self) -> AsyncIterator[ProviderAdapter]:
        async with SmtpAdapter() as adapter:
            yield adapter
