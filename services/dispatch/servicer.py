"""Translates the RPCs of DispatchService to what is behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from posthouse.v1 import dispatch_pb2
from posthouse.v1 import dispatch_service_pb2 as pb
from posthouse.v1 import dispatch_service_pb2_grpc as pb_grpc
from services.dispatch.simulator_control import SimulatorControl
from services.kit import enum_names
from services.kit.errors import InvalidRequestError, NotImplementedYetError
from services.kit.ids import parse_id
from services.kit.page_tokens import Position, read_token, write_token
from services.kit.paging import page_size
from services.ledger import dead_letters, reads
from services.ledger.database import Database
from services.providers.base import Provider

_Context = grpc.aio.ServicerContext[Any, Any]


class DispatchServicer(pb_grpc.DispatchServiceServicer):
    """DispatchService over the ledger and the providers."""

    def __init__(
        self,
        database: Database,
        routing: Mapping[str, Sequence[str]],
        providers: Mapping[str, Provider],
        simulator: SimulatorControl,
    ) -> None:
        self._database = database
        self._routing = routing
        self._providers = providers
        self._simulator = simulator

    async def ListProviders(
        self, _request: pb.ListProvidersRequest, _context: _Context
    ) -> pb.ListProvidersResponse:
        """List the routed providers, and then the channels they carry without being routed."""
        routed = [
            dispatch_pb2.Provider(
                name=name, channel=enum_names.CHANNEL.number(channel), route_position=position, healthy=True
            )
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
        if not enum_names.CHANNEL.knows(request.channel):
            raise InvalidRequestError.field("channel", "is not a known value")
        channel = enum_names.CHANNEL.word(request.channel)
        filter_key = ["dead_letters", channel, request.reason, request.include_replayed]
        before = read_token(request.page_token, filter_key)
        async with self._database.read() as connection:
            letters = await dead_letters.list_dead_letters(
                connection,
                channel=channel,
                reason=request.reason,
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
        self, _request: pb.ReplayDeadLettersRequest, _context: _Context
    ) -> pb.ReplayDeadLettersResponse:
        """Say that this is not there yet."""
        raise NotImplementedYetError("ReplayDeadLetters is not implemented yet")

    async def ResolveMessage(
        self, _request: pb.ResolveMessageRequest, _context: _Context
    ) -> pb.ResolveMessageResponse:
        """Say that this is not there yet."""
        raise NotImplementedYetError("ResolveMessage is not implemented yet")

    async def ResetBreaker(
        self, _request: pb.ResetBreakerRequest, _context: _Context
    ) -> pb.ResetBreakerResponse:
        """Say that this is not there yet."""
        raise NotImplementedYetError("ResetBreaker is not implemented yet")

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
