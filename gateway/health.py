"""GET /health, /ready and /metrics, answered from what a background check last saw."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import grpc
from fastapi import APIRouter, Response
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway import operation_shapes as shapes
from gateway import render
from gateway.identity import Metadata
from gateway.routing import documented
from services.kit.health import Check, HealthMonitor

# Service -> the dependencies of it that it is asked about by name. What waits on /ready hears of them.
_REPORTED: Final = {
    "message": ("postgresql", "nats", "outbox"),
    "dispatch": ("providers",),
    "conversation": ("monitor",),
}


def watch_services(
    channels: dict[str, grpc.aio.Channel],
    on_change: Callable[[bool], Awaitable[None]],
    metadata: Metadata = (),
) -> HealthMonitor:
    """Return what watches the services, under the names `message`, `conversation` and `dispatch`.

    `states` say whether each can do its work; `reported` is what they say of their dependencies.
    """
    return HealthMonitor(
        {
            name: serving(channel, f"posthouse.v1.{name.capitalize()}Service", metadata)
            for name, channel in channels.items()
        },
        on_change,
        reported={
            dependency: serving(channels[name], dependency, metadata)
            for name, dependencies in _REPORTED.items()
            for dependency in dependencies
        },
    )


class HealthRoutes:
    """How the gateway is. None of these routes waits for anything."""

    def __init__(
        self, monitor: HealthMonitor, draining: asyncio.Event, version: str, follows: Collection[str]
    ) -> None:
        """`follows` are the dependencies of MessageService without which /ready is 503."""
        self._monitor = monitor
        self._draining = draining
        self._version = version
        self._follows = sorted(follows)

    def router(self) -> APIRouter:
        """Return the routes."""
        # Not `routing.router`: whoever probes may put a query of its own.
        routes = APIRouter(tags=["health"])
        add = routes.add_api_route
        add("/health", self.get_health, methods=["GET"], summary="How the gateway and its services are",
            responses=documented(shapes.Health, "Always 200; `status` says ok or degraded."))  # fmt: skip
        may, may_not = documented(shapes.Ready, "It may."), documented(shapes.Ready, "Not now.", 503)
        add("/ready", self.get_ready, methods=["GET"], summary="Whether traffic may come",
            responses=may | may_not)  # fmt: skip
        add("/metrics", self.get_metrics, methods=["GET"],
            summary="Prometheus metrics", response_class=Response,
            responses={200: {"content": {"text/plain": {}}, "description": "Text format."}})  # fmt: skip
        return routes

    async def get_health(self) -> Response:
        """Return the version and which services answer."""
        states = self._monitor.states
        status = "ok" if all(states.values()) else "degraded"
        return render.answer(
            {
                "status": status,
                "version": self._version,
                "dependencies": states,
                "reported": self._monitor.reported,
            }
        )

    async def get_ready(self) -> Response:
        """Return 200 while all answers that is followed and the gateway is not stopping, else what fails."""
        states, reported = self._monitor.states, self._monitor.reported
        failing = [name for name in self._follows if not reported[name]]
        # They are asked by way of it: with it away nobody can tell.
        if failing and not states["message"]:
            failing.insert(0, "message")
        if self._draining.is_set():
            failing.insert(0, "stopping")
        return render.answer(
            {"ready": not failing, "failing": failing, "dependencies": states, "reported": reported},
            503 if failing else 200,
        )

    async def get_metrics(self) -> Response:
        """Return the metrics of this process."""
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})


def serving(channel: grpc.aio.Channel, service: str, metadata: Metadata = ()) -> Check:
    """Return a check that asks a service's own health service, which may be closed to strangers."""
    stub = health_pb2_grpc.HealthStub(channel)

    async def check() -> bool:
        request = health_pb2.HealthCheckRequest(service=service)
        response = await stub.Check(request, timeout=2, metadata=metadata)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    return check
