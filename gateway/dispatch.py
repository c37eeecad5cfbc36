"""Routes of dispatch: providers, dead letters, the simulator's behaviour."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway import operation_shapes as shapes
from gateway import render, requests, schemas
from gateway.routing import API, documented, router
from gateway.rpc import Backends, call
from gateway.schemas import PageSize, PageToken, Time
from posthouse.v1 import dispatch_service_pb2 as pb
from services.kit.enum_names import CHANNEL

_Type = Annotated[schemas.ChannelWord | None, Query(alias="type", description="Only of this channel.")]
_Provider = Annotated[str, Query(description="Only those whose last attempt was with this provider.")]
_ErrorCode = Annotated[str, Query(description="Only with this error code.")]
_Since = Annotated[Time | None, Query(description="Only those given up at or after this time (RFC 3339).")]
_Until = Annotated[Time | None, Query(description="Only those given up before this time (RFC 3339).")]


class DispatchRoutes:
    """Shows and steers what goes out."""

    def __init__(self, backends: Backends) -> None:
        self._dispatch = backends.dispatch

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router(API, "dispatch")
        add = routes.add_api_route
        add("/providers", self.list_providers, methods=["GET"], summary="List providers with their health",
            responses=documented(shapes.Providers, "All providers."))  # fmt: skip
        add("/dead-letters", self.list_dead_letters, methods=["GET"], summary="List given-up messages",
            responses=documented(shapes.DeadLetters, "One page, newest first."))  # fmt: skip
        add("/dead-letters/replay", self.replay_dead_letters, methods=["POST"],
            summary="Send given-up messages again",
            responses=documented(shapes.Replayed, "What was put back."))  # fmt: skip
        profiles = documented(shapes.SimulatorProfiles, "One profile per channel.")
        add("/simulator", self.get_simulator_profile, methods=["GET"],
            summary="Read the simulator's behaviour",
            responses=profiles)  # fmt: skip
        add("/simulator", self.set_simulator_profile, methods=["PUT"],
            summary="Change the simulator's behaviour",
            responses=profiles)  # fmt: skip
        return routes

    async def list_providers(self, request: Request) -> Response:
        """Return one entry per provider and channel, in route order."""
        response = await call(self._dispatch.ListProviders, pb.ListProvidersRequest(), request)
        return render.answer({"providers": [render.provider(item) for item in response.providers]})

    async def list_dead_letters(
        self,
        request: Request,
        *,
        kind: _Type = None,
        reason: str = "",
        provider: _Provider = "",
        error_code: _ErrorCode = "",
        since: _Since = None,
        until: _Until = None,
        include_replayed: bool = False,
        page_size: PageSize = 0,
        page_token: PageToken = "",
    ) -> Response:
        """Return one page of messages that were given up; every filter given must match."""
        response = await call(
            self._dispatch.ListDeadLetters,
            pb.ListDeadLettersRequest(
                page_size=page_size,
                page_token=page_token,
                channel=CHANNEL.number(kind),
                reason=reason,
                provider=provider,
                error_code=error_code,
                since_time=requests.timestamp(since),
                until_time=requests.timestamp(until),
                include_replayed=include_replayed,
            ),
            request,
        )
        return render.page(
            "dead_letters", map(render.dead_letter, response.dead_letters), response.next_page_token
        )

    async def replay_dead_letters(self, request: Request, body: schemas.ReplayRequest) -> Response:
        """Put messages back into the queue; repeating it changes nothing."""
        response = await call(
            self._dispatch.ReplayDeadLetters,
            requests.replay_request(body),
            request,
        )
        return render.answer(
            {
                "replayed_message_ids": list(response.replayed_message_ids),
                "replayed_count": response.replayed_count,
                "more": response.more,
            }
        )

    async def get_simulator_profile(self, request: Request, kind: _Type = None) -> Response:
        """Return how the simulator behaves."""
        response = await call(
            self._dispatch.GetSimulatorProfile,
            pb.GetSimulatorProfileRequest(channel=CHANNEL.number(kind)),
            request,
        )
        return render.answer({"profiles": [render.simulator_profile(item) for item in response.profiles]})

    async def set_simulator_profile(self, request: Request, body: schemas.SimulatorProfile) -> Response:
        """Replace the whole profile of a channel, or of all."""
        response = await call(
            self._dispatch.SetSimulatorProfile,
            pb.SetSimulatorProfileRequest(profile=requests.simulator_profile(body)),
            request,
        )
        return render.answer({"profiles": [render.simulator_profile(item) for item in response.profiles]})
