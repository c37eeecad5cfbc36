"""Chooses the sender of sends that name a pool: a conversation keeps the address it has."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from posthouse.v1 import message_service_pb2 as pb
from services.kit.config import WrongSettingError
from services.kit.errors import InvalidRequestError, Violation
from services.kit.sender_pools import DEFAULT
from services.ledger.addresses import Address, InvalidAddressError, normalise
from services.ledger.database import Database
from services.ledger.tables import conversations
from services.ledger.threading import conversation_id, family_of
from services.message.validation import read_address, read_channel


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sender chosen for a send. `kept` tells that a conversation with the recipient decided it."""

    sender: str
    pool: str
    kept: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Who may send to a recipient, the first of them to somebody new; by conversation id."""

    pool: str
    senders: Mapping[str, str]
    first: str


class SenderPools:
    """The pools of the settings. Raises WrongSettingError for an address that is none."""

    def __init__(
        self, database: Database, pools: Mapping[str, Sequence[str]], *, strict_phones: bool
    ) -> None:
        self._database = database
        self._strict_phones = strict_phones
        self._pools = {
            name: [_member(name, text, strict_phones) for text in members] for name, members in pools.items()
        }

    async def choose(
        self, requests: Sequence[pb.SendMessageRequest]
    ) -> dict[int, Chosen | InvalidRequestError]:
        """Return the sender, or what is wrong, of each request that leaves the choice to us, by position."""
        answers: dict[int, Chosen | InvalidRequestError] = {}
        wanted: dict[int, _Wanted] = {}
        for position, request in enumerate(requests):
            if request.sender and not request.sender_pool:
                continue
            try:
                candidates = self._candidates(request)
            except InvalidRequestError as error:
                answers[position] = error
            else:
                if candidates is not None:
                    wanted[position] = candidates
        if not wanted:
            return answers
        active = await self._newest({known for one in wanted.values() for known in one.senders})
        for position, one in wanted.items():
            # The one the contact heard from last, where there are several.
            known = (
                max((active[i], i) for i in one.senders if i in active)
                if active.keys() & one.senders
                else None
            )
            sender = one.first if known is None else one.senders[known[1]]
            answers[position] = Chosen(sender, one.pool, kept=known is not None)
        return answers

    def _candidates(self, request: pb.SendMessageRequest) -> _Wanted | None:
        name = request.sender_pool or DEFAULT
        members = self._pools.get(name)
        if members is None and not request.sender_pool:
            return None  # that there is no sender is for the checks of the send to say
        if members is None:
            raise InvalidRequestError.field("sender_pool", "there is no pool of this name")
        if request.sender:
            raise InvalidRequestError.field("sender_pool", "must be empty when there is a sender")
        faults: list[Violation] = []
        recipient = read_address(faults, "recipient", request.recipient, self._strict_phones, False)
        channel = read_channel(faults, request.channel, recipient, bool(request.attachments))
        if recipient is None or not channel:
            raise InvalidRequestError.of(faults)
        fitting = [
            member.canonical
            for member in members
            if (member.kind == "email") == (channel == "email") and member.canonical != recipient.canonical
        ]
        if not fitting:
            raise InvalidRequestError.field("sender_pool", f"has no sender for {channel}")
        family = family_of(channel)
        return _Wanted(
            name,
            {conversation_id(family, sender, recipient.canonical): sender for sender in fitting},
            max(fitting, key=lambda sender: _draw(sender, recipient.canonical)),
        )

    async def _newest(self, ids: set[str]) -> dict[str, float]:
        """Return when each of these conversations that exists was last active, as Unix time."""
        query = sa.select(conversations.c.id, conversations.c.last_message_time).where(
            conversations.c.id.in_(sorted(ids))
        )
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return {str(row.id): row.last_message_time.timestamp() for row in rows}


def _member(pool: str, text: str, strict: bool) -> Address:
    try:
        return normalise(text, strict=strict, allow_short_code=True, allow_alphanumeric=True)
    except InvalidAddressError as error:
        raise WrongSettingError(f"POSTHOUSE_SENDER_POOLS: a sender of {pool!r} {error}") from error


def _draw(sender: str, recipient: str) -> bytes:
    """Return what the highest of wins: a recipient's stays the same when others join the pool or leave it."""
    return hashlib.blake2b(f"{sender}\n{recipient}".encode(), digest_size=8).digest()
