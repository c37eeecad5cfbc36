"""The use case of previewing: every check of a send, and nothing stored or sent."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import message_service_pb2 as pb
from services.kit.enum_names import CHANNEL, ENCODING
from services.kit.errors import InvalidRequestError, PosthouseError, Violation
from services.kit.rate_limit_clients import Client
from services.kit.rate_limits import Verdict
from services.kit.routes import Routes
from services.kit.status import to_item_error
from services.ledger.addresses import Address
from services.ledger.consent_reads import get_opt_out
from services.ledger.database import Database
from services.ledger.idempotency import StoredAnswer, load_answers
from services.ledger.tables import conversations
from services.ledger.threading import conversation_id, family_of
from services.message.consent import opted_out
from services.message.route_health import RouteHealth
from services.message.segments import measure
from services.message.sender_pools import Chosen, SenderPools
from services.message.sending import key_reused, message_erased, no_route
from services.message.submission_limits import SubmissionLimiter
from services.message.validation import check_send, is_request_id, read_address, read_channel, request_hash


class Previewer:
    """Tells what a send would do now."""

    def __init__(
        self,
        database: Database,
        *,
        routes: Routes,
        health: RouteHealth,
        pools: SenderPools,
        strict_phones: bool,
        limiter: SubmissionLimiter | None = None,
    ) -> None:
        self._database = database
        self._routes = routes
        self._health = health
        self._pools = pools
        self._strict_phones = strict_phones
        self._limiter = limiter

    async def preview(
        self, request: pb.SendMessageRequest, *, caller: str, client: Client | None = None, ip: str = ""
    ) -> pb.PreviewMessageResponse:
        """Return what a send of this request by this caller would do; no refusal hides another."""
        ignored: list[Violation] = []
        choice = (await self._pools.choose([request])).get(0)
        chosen = choice if isinstance(choice, Chosen) else None
        sender = read_address(
            ignored, "sender", chosen.sender if chosen else request.sender, self._strict_phones, True
        )
        recipient = read_address(ignored, "recipient", request.recipient, self._strict_phones, False)
        channel = read_channel(ignored, request.channel, recipient, bool(request.attachments))
        channel = channel or CHANNEL.word(request.channel)
        response = pb.PreviewMessageResponse(
            channel=CHANNEL.number(channel),
            sender=sender.canonical if sender else "",
            recipient=recipient.canonical if recipient else "",
            character_count=len(request.body),
            sender_pool=chosen.pool if chosen else "",
            sender_kept=chosen is not None and chosen.kept,
        )
        if channel == "sms":
            segments = measure(request.body)
            response.segment_encoding = ENCODING.number(segments.encoding)
            response.segment_count = segments.count
            response.ucs2_characters.extend(segments.ucs2_characters)
        refusals: list[PosthouseError] = []
        if isinstance(choice, InvalidRequestError):
            refusals.append(choice)
        try:
            check_send(
                request,
                now=self._database.clock.now(),
                strict_phones=self._strict_phones,
                sender=chosen.sender if chosen else "",
            )
        except InvalidRequestError as error:
            # That there is no sender says no more than why none was chosen.
            refusals += [] if isinstance(choice, InvalidRequestError) else [error]
        rule = self._routes.find(channel, response.sender, response.recipient)
        if rule is not None:
            # Where providers share a place by weight, one order of several.
            response.route.extend(choice.provider for choice in rule.order(response.recipient))
            failing = self._health.failing(rule) if request.fail_fast else None
            refusals += [failing] if failing is not None else []
        elif channel:
            refusals.append(no_route(channel))
        async with self._database.read() as connection:
            earlier = await _earlier(connection, caller, request)
            spent = [] if earlier is None else _spent(earlier, request)
            repeated = earlier is not None and not spent
            refusals += spent
            if sender and recipient and _fit(channel, sender, recipient):
                response.conversation_id = conversation_id(
                    family_of(channel), sender.canonical, recipient.canonical
                )
                response.conversation_exists = await _exists(connection, response.conversation_id)
                overridden = request.transactional and channel == "email"
                if not overridden and earlier is None:
                    opt_out = await get_opt_out(connection, sender.canonical, recipient.canonical)
                    refusals += [opted_out()] if opt_out is not None else []
        if self._limiter is not None and client is not None:
            verdict = await self._limiter.peek(client, response.sender, ip)
            # Without a limit there is nothing to show.
            if verdict.limit:
                _show(response.rate_limit, verdict)
            refusals += [] if verdict.allowed else [self._limiter.refusal(verdict)]
        # A repeat gets its first answer, whatever has changed since.
        response.acceptable = repeated or not refusals
        response.refusals.extend(to_item_error(refusal) for refusal in refusals if not repeated)
        return response


def _fit(channel: str, sender: Address, recipient: Address) -> bool:
    return {sender.kind == "email", recipient.kind == "email"} == {channel == "email"}


async def _earlier(
    connection: AsyncConnection, caller: str, request: pb.SendMessageRequest
) -> StoredAnswer | None:
    if not is_request_id(request.request_id):
        return None
    return (await load_answers(connection, caller, [request.request_id])).get(request.request_id)


def _spent(earlier: StoredAnswer, request: pb.SendMessageRequest) -> list[PosthouseError]:
    """Return why a key that was used before gives no answer to this request; none when it does."""
    if not earlier.answers(request_hash(request)):
        return [key_reused(request.request_id)]
    return [message_erased(request.request_id)] if earlier.message is None else []


async def _exists(connection: AsyncConnection, conversation: str) -> bool:
    statement = sa.select(sa.literal(1)).where(conversations.c.id == conversation)
    return (await connection.execute(statement)).one_or_none() is not None


def _show(shown: pb.RateLimitVerdict, verdict: Verdict) -> None:
    shown.allowed = verdict.allowed
    shown.limit = verdict.limit
    shown.remaining = verdict.remaining
    shown.reset_seconds = verdict.reset_seconds
    # Also when all of it is zero, there is a verdict.
    shown.SetInParent()
