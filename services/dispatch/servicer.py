"""Translates the RPCs of DispatchService to what is behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from posthouse.v1 import dispatch_pb2
from posthouse.v1 import dispatch_service_pb2 as pb
from posthouse.v1 import dispatch_service_pb2_grpc as pb_grpc
from services.dispatch.breakers import Breakers
from services.dispatch.intervening import MOST_REPLAYED, Intervener
from services.dispatch.simulator_control import SimulatorControl
from services.kit import enum_names
from services.kit.breaker import OPEN
from services.kit.errors import InvalidRequestError, NotFoundError, Violation
from services.kit.fields import read_label, read_range, read_word
from services.kit.ids import parse_id
from services.kit.page_tokens import Position, read_token, write_token
from services.kit.paging import page_size
from services.ledger import dead_letters, reads
from services.ledger.database import Database
from services.ledger.resolving import EVENT_OF
from services.providers.base import Provider

_LONGEST_REASON = 1000

_Context = grpc.aio.ServicerContext[Any, Any]


class DispatchServicer(pb_grpc.DispatchServiceServicer):
    """DispatchService over the ledger and the providers."""

    def __init__(
        self,
        database: Database,
        routing: Mapping[str, Sequence[str]],
        providers: Mapping[str, Provider],
        simulator: SimulatorControl,
        breakers: Breakers,
        intervener: Intervener,
    ) -> None:
        self._database = database
        self._routing = routing
        self._providers = providers
        self._simulator = simulator
        self._breakers = breakers
        self._intervener = intervener

    async def ListProviders(
        self, _request: pb.ListProvidersRequest, _context: _Context
    ) -> pb.ListProvidersResponse:
        """List the routed providers, and then the channels they carry without being routed."""
        routed = [
            self._provider(name, channel, position)
            for channel, names in self._routing.items()
            for position, name in enumerate(names, 1)
        ]
        idle = [
            dispatch_pb2.Provider(name=name, channel=enum_names.CHANNEL.number(channel), healthy=True)
            for name, provider in self._providers.items()
            for channel in sorted(provider.channels)
            if name not in self._routing.get(channel, ())
        ]
        return pb.ListProvidersResponse(providers=[*routed, *idle])

    async def ListDispatchAttempts(
        self, request: pb.ListDispatchAttemptsRequest, _context: _Context
    ) -> pb.ListDispatchAttemptsResponse:
        """List the attempts of one message."""
        message_id = parse_id("message_id", request.message_id)
        async with self._database.read() as connection:
            attempts = await reads.list_attempts(connection, message_id)
        return pb.ListDispatchAttemptsResponse(attempts=attempts)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, _context: _Context
    ) -> pb.ListDeadLettersResponse:
        """List given-up messages, newest first."""
        size = page_size(request.page_size)
        chosen = _filter(request)
        filter_key = ["dead_letters", *chosen, request.include_replayed]
        before = read_token(request.page_token, filter_key)
        async with self._database.read() as connection:
            letters = await dead_letters.list_dead_letters(
                connection,
                chosen,
                include_replayed=request.include_replayed,
                before=before,
                limit=size + 1,
            )
        page = letters[:size]
        token = (
            write_token(filter_key, Position(dead_letters.create_time_of(page[-1]), page[-1].message_id))
            if len(letters) > size
            else ""
        )
        return pb.ListDeadLettersResponse(dead_letters=page, next_page_token=token)

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, _context: _Context
    ) -> pb.ReplayDeadLettersResponse:
        """Put given-up messages back into the queue."""
        more = False
        if request.HasField("filter"):
            if request.message_ids:
                raise InvalidRequestError.field("filter", "must not be given with message_ids")
            chosen = _filter(request.filter, "filter.")
            if chosen == dead_letters.DeadLetterFilter():
                raise InvalidRequestError.field("filter", "must not be empty")
            replayed, more = await self._intervener.replay_some(chosen)
        elif not 1 <= len(request.message_ids) <= MOST_REPLAYED:
            raise InvalidRequestError.field("message_ids", f"must have 1 to {MOST_REPLAYED:,} ids")
        else:
            replayed = await self._intervener.replay(
                [
                    parse_id(f"message_ids[{position}]", given)
                    for position, given in enumerate(request.message_ids)
                ]
            )
        return pb.ReplayDeadLettersResponse(
            replayed_message_ids=replayed, replayed_count=len(replayed), more=more
        )

    async def ResolveMessage(
        self, request: pb.ResolveMessageRequest, _context: _Context
    ) -> pb.ResolveMessageResponse:
        """Settle a message whose outcome is unknown."""
        message_id = parse_id("message_id", request.message_id)
        state = enum_names.STATE.word(request.state)
        reason = request.reason.strip()
        violations = []
        if state not in EVENT_OF:
            violations.append(Violation("state", f"must be one of {', '.join(EVENT_OF)}"))
        if not reason:
            violations.append(Violation("reason", "must not be empty"))
        elif len(reason) > _LONGEST_REASON:
            violations.append(Violation("reason", f"must have at most {_LONGEST_REASON:,} characters"))
        if violations:
            raise InvalidRequestError.of(violations)
        message = await self._intervener.resolve(message_id, state, reason)
        return pb.ResolveMessageResponse(message=message)

    async def ResetBreaker(
        self, request: pb.ResetBreakerRequest, _context: _Context
    ) -> pb.ResetBreakerResponse:
        """Close a breaker by hand, here and at the other dispatchers."""
        channel = enum_names.CHANNEL.word(request.channel)
        if not request.provider:
            raise InvalidRequestError.field("provider", "must not be empty")
        if not channel:
            raise InvalidRequestError.field("channel", "must be a known channel")
        breaker = self._breakers.find(request.provider, channel)
        if breaker is None:
            raise NotFoundError(
                f"no route of {channel} has a provider of this name", reason="PROVIDER_NOT_FOUND"
            )
        breaker.reset()
        position = self._routing[channel].index(request.provider) + 1
        return pb.ResetBreakerResponse(provider=self._provider(request.provider, channel, position))

    def _provider(self, name: str, channel: str, position: int) -> dispatch_pb2.Provider:
        state = self._breakers.state(name, channel)
        return dispatch_pb2.Provider(
            name=name,
            channel=enum_names.CHANNEL.number(channel),
            route_position=position,
            breaker_state=enum_names.BREAKER.number(state),
            healthy=state != OPEN,
        )

    async def GetSimulatorProfile(
        self, request: pb.GetSimulatorProfileRequest, _context: _Context
    ) -> pb.GetSimulatorProfileResponse:
        """Return how the simulator behaves."""
        profiles = await self._simulator.profiles(enum_names.CHANNEL.word(request.channel))
        return pb.GetSimulatorProfileResponse(profiles=profiles)

    async def SetSimulatorProfile(
        self, request: pb.SetSimulatorProfileRequest, _context: _Context
    ) -> pb.SetSimulatorProfileResponse:
        """Change how the simulator behaves."""
        if not request.HasField("profile"):
            raise InvalidRequestError.field("profile", "must not be empty")
        return pb.SetSimulatorProfileResponse(profiles=await self._simulator.set_profile(request.profile))


def _filter(
    given: pb.ListDeadLettersRequest | pb.DeadLetterFilter, prefix: str = ""
) -> dead_letters.DeadLetterFilter:
    since, until = read_range(given, prefix)
    return dead_letters.DeadLetterFilter(
        channel=read_word(f"{prefix}channel", enum_names.CHANNEL, given.channel),
        reason=read_label(f"{prefix}reason", given.reason),
        provider=read_label(f"{prefix}provider", given.provider),
        error_code=read_label(f"{prefix}error_code", given.error_code),
        since=since,
        until=until,
    )
