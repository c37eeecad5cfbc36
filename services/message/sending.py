"""The use case of sending: check, make idempotent, commit, answer."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import message_service_pb2 as pb
from services.kit import metrics
from services.kit.errors import InternalError, PosthouseError, PreconditionError, UnavailableError, Violation
from services.kit.ids import new_id
from services.kit.logs import get_logger, logs_debug
from services.kit.masking import mask_text
from services.kit.rate_limit_clients import Client
from services.kit.routes import Routes
from services.kit.tracing import tracing
from services.ledger.accept import Intake
from services.ledger.database import Database
from services.ledger.drafts import Draft
from services.ledger.event_batches import make_timestamp
from services.ledger.idempotency import StoredAnswer, accepted_message, load_answers
from services.message.commit import GroupCommitter, Unit
from services.message.route_health import RouteHealth
from services.message.sender_pools import Chosen, SenderPools
from services.message.submission_limits import SubmissionLimiter
from services.message.validation import check_send, is_request_id, request_hash

_log = get_logger(__name__)

Answer = pb.AcceptedMessage | PosthouseError


@dataclass(slots=True)
class _InFlight:
    """The first request under a key, while it is being committed."""

    request_hash: bytes
    answer: "asyncio.Future[Answer]"


class Sender:
    """Accepts messages for sending; every answer says committed or says why not."""

    def __init__(
        self,
        database: Database,
        committer: GroupCommitter,
        *,
        routes: Routes,
        health: RouteHealth,
        pools: SenderPools,
        strict_phones: bool,
        limits: SubmissionLimiter,
    ) -> None:
        self._database = database
        self._committer = committer
        self._routes = routes
        self._health = health
        self._pools = pools
        self._strict_phones = strict_phones
        self._limits = limits
        self._in_flight: dict[tuple[str, str], _InFlight] = {}

    async def send(
        self, requests: Sequence[pb.SendMessageRequest], *, caller: str, client: Client
    ) -> list[Answer]:
        """Accept each request on its own and return the answers in order.

        `caller` is what idempotency keys are scoped to, `client` whom the rate limits count.
        A caller that goes away does not stop what has begun: others may wait for the same answer.
        """
        return await asyncio.shield(asyncio.ensure_future(self._send(requests, caller, client)))

    async def _send(
        self, requests: Sequence[pb.SendMessageRequest], caller: str, client: Client
    ) -> list[Answer]:
        now = self._database.clock.now()
        found = tracing()
        traces = () if found is None else found.contexts(len(requests))
        chosen = await self._pools.choose(requests)
        answers: list[Answer | None] = [None] * len(requests)
        positions: list[int] = []
        items: list[Intake] = []
        repeats: list[tuple[int, pb.SendMessageRequest, _InFlight]] = []
        refused: list[tuple[int, pb.SendMessageRequest, PosthouseError]] = []
        for position, request in enumerate(requests):
            draft = self._check(request, now, chosen.get(position))
            if (first := self._in_flight.get((caller, request.request_id))) is not None:
                repeats.append((position, request, first))
            elif isinstance(draft, PosthouseError):
                refused.append((position, request, draft))
            else:
                if draft.request_id:
                    self._in_flight[caller, draft.request_id] = _InFlight(
                        draft.request_hash or b"", asyncio.get_running_loop().create_future()
                    )
                positions.append(position)
                items.append(Intake(new_id(), draft, caller, traces[position] if traces else ""))
        if items:
            for position, answer in zip(positions, await self._commit(items, caller, client), strict=True):
                answers[position] = answer
        for position, answer in await self._refuse_all(refused, caller):
            answers[position] = answer
        for position, request, first in repeats:
            answers[position] = _replay(
                await first.answer, request.request_id, same=first.request_hash == request_hash(request)
            )
        return answers  # type: ignore[return-value]  # every position has been filled

    def _check(
        self, request: pb.SendMessageRequest, now: datetime, chosen: Chosen | PosthouseError | None
    ) -> Draft | PosthouseError:
        """Return the draft of a request, or its refusal; whatever happens, its neighbours do not suffer."""
        if isinstance(chosen, PosthouseError):
            return chosen
        try:
            draft = check_send(
                request, now=now, strict_phones=self._strict_phones, sender=chosen.sender if chosen else ""
            )
        except PosthouseError as error:
            return error
        except Exception:  # noqa: BLE001 - nothing of it is stored, and its key stays free
            _log.exception("check_failed")
            return InternalError()
        rule = self._routes.find(draft.channel, draft.sender, draft.recipient)
        if rule is None:
            return no_route(draft.channel)
        # What breakers say now says nothing of what is sent later.
        failing = self._health.failing(rule) if request.fail_fast and draft.send_time is None else None
        return failing or draft

    async def _refuse_all(
        self, refused: Sequence[tuple[int, pb.SendMessageRequest, PosthouseError]], caller: str
    ) -> list[tuple[int, Answer]]:
        """Return the refusals by position; who repeats what was accepted before gets that answer.

        What was accepted may be refused later: it has expired by then, or its route is gone.
        """
        keyed = {request.request_id for _, request, _ in refused if is_request_id(request.request_id)}
        try:
            earlier = await self._earlier(caller, list(keyed))
        except PosthouseError as error:
            # Nobody can tell then whether it was accepted.
            return [
                (position, error if request.request_id in keyed else refusal)
                for position, request, refusal in refused
            ]
        return [
            (
                position,
                refusal
                if (first := earlier.get(request.request_id)) is None
                else _replay_stored(first, request.request_id, request_hash(request)),
            )
            for position, request, refusal in refused
        ]

    async def _commit(self, items: Sequence[Intake], caller: str, client: Client) -> list[Answer]:
        try:
            answers = await self._commit_within_limits(items, caller, client)
        except PosthouseError as error:
            answers = [error] * len(items)
        except BaseException:
            self._resolve(items, [UnavailableError("the message may not be stored")] * len(items), caller)
            raise
        self._resolve(items, answers, caller)
        return answers

    def _resolve(self, items: Sequence[Intake], answers: Sequence[Answer], caller: str) -> None:
        for item, answer in zip(items, answers, strict=True):
            if item.draft.request_id:
                self._in_flight.pop((caller, item.draft.request_id)).answer.set_result(answer)

    async def _commit_within_limits(
        self, items: Sequence[Intake], caller: str, client: Client
    ) -> list[Answer]:
        """Commit what the limits admit. Only what is stored costs a token, so that repeats are free."""
        refusals = await self._limits.take(client, [item.draft.sender for item in items])
        passing = [item for item, refusal in zip(items, refusals, strict=True) if refusal is None]
        answers: list[Answer] = []
        if passing:
            try:
                answers = await self._commit_items(passing, caller)
            except PosthouseError as error:
                answers = [error] * len(passing)
            unused = [
                item.draft.sender
                for item, answer in zip(passing, answers, strict=True)
                if isinstance(answer, PosthouseError) or answer.replayed
            ]
            await self._limits.give_back(client, unused)
        if len(passing) == len(items):
            return answers
        keys = [
            item.draft.request_id
            for item, refusal in zip(items, refusals, strict=True)
            if refusal is not None and item.draft.request_id
        ]
        earlier = await self._earlier(caller, keys)
        admitted = iter(answers)
        return [
            next(admitted) if refusal is None else _refuse(item.draft, refusal, earlier)
            for item, refusal in zip(items, refusals, strict=True)
        ]

    async def _earlier(self, caller: str, request_ids: Sequence[str]) -> dict[str, StoredAnswer]:
        if not request_ids:
            return {}
        async with self._database.read() as connection:
            return await load_answers(connection, caller, request_ids)

    async def _commit_items(self, items: Sequence[Intake], caller: str) -> list[Answer]:
        committed = await self._committer.submit(Unit(items=items))
        stored: dict[str, Timestamp] = {}
        for acceptance in committed.acceptances:
            stored.update(dict.fromkeys(acceptance.stored, make_timestamp(acceptance.create_time)))
        repeated = [
            item.draft.request_id
            for item in items
            if item.id not in stored and _may_repeat(item, committed.refused.get(item.id))
        ]
        earlier = await self._earlier(caller, repeated)
        for channel, count in Counter(item.draft.channel for item in items if item.id in stored).items():
            metrics.MESSAGES_ACCEPTED.labels(channel).inc(count)
        if logs_debug():
            for message_id in stored:
                _log.debug("message_accepted", message_id=message_id)
        answers: list[Answer] = []
        for item in items:
            time = stored.get(item.id)
            if time is not None:
                answers.append(accepted_message(item.id, item.draft, time))
            elif (answer := earlier.get(item.draft.request_id)) is not None:
                answers.append(_repeat(answer, item.draft))
            elif (refusal := committed.refused.get(item.id)) is not None:
                if refusal.reason == "OPTED_OUT":
                    metrics.OPT_OUT_REFUSALS.labels(item.draft.channel, "intake").inc()
                answers.append(refusal)
            else:
                answers.append(UnavailableError("the first answer under this key is gone", retry_after=1.0))
        return answers


def _refuse(draft: Draft, refusal: PosthouseError, earlier: Mapping[str, StoredAnswer]) -> Answer:
    """Return the refusal of a draft, unless it repeats one that has its answer already."""
    first = earlier.get(draft.request_id)
    return refusal if first is None else _repeat(first, draft)


def _may_repeat(item: Intake, refusal: PosthouseError | None) -> bool:
    """Tell whether an item that was not stored may be a repeat: an opt-out since then changes no answer."""
    return bool(item.draft.request_id) and (refusal is None or refusal.reason == "OPTED_OUT")


def no_route(channel: str) -> PreconditionError:
    """Return the refusal of a channel that no provider is routed for."""
    return PreconditionError(
        f"no provider is routed for channel {channel} between these addresses",
        reason="NO_ROUTE",
        violations=[Violation("channel", f"no provider is routed for {channel}")],
    )


def key_reused(request_id: str) -> PreconditionError:
    """Return the refusal of an idempotency key that another payload has used.

    Errors travel further than requests: addresses in the key are masked.
    """
    return PreconditionError(
        f"the idempotency key {mask_text(request_id)!r} was used before with another payload",
        reason="IDEMPOTENCY_KEY_REUSED",
        violations=[Violation("request_id", "was used before with another payload")],
    )


def message_erased(request_id: str) -> PreconditionError:
    """Return the refusal of an idempotency key whose message is erased: its answer is gone, and stays so."""
    return PreconditionError(
        f"the message that was accepted under the idempotency key {mask_text(request_id)!r} has been erased",
        reason="MESSAGE_ERASED",
        violations=[Violation("request_id", "was used for a message that has been erased")],
    )


def _repeat(first: StoredAnswer, draft: Draft) -> Answer:
    return _replay_stored(first, draft.request_id, draft.request_hash or b"")


def _replay_stored(first: StoredAnswer, request_id: str, digest: bytes) -> Answer:
    try:
        answer = first.message or message_erased(request_id)
        return _replay(answer, request_id, same=first.answers(digest))
    except PosthouseError as error:
        return error


def _replay(answer: Answer, request_id: str, *, same: bool) -> Answer:
    """Return the first answer to a repeat of the same request, or the refusal of another payload."""
    if not same:
        return key_reused(request_id)
    if isinstance(answer, PosthouseError):
        return answer
    metrics.DUPLICATES.labels("send").inc()
    replayed = pb.AcceptedMessage()
    replayed.CopyFrom(answer)
    replayed.replayed = True
    return replayed
