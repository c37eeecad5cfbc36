"""Asks the processes on this machine how they are, for supervisors and container health checks."""

import http.client

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli import ports
from services.kit.config import Settings

_TIMEOUT = 2.0

# Process -> its gRPC service and its place after POSTHOUSE_GRPC_PORT.
_SERVICES = {
    "message": ("posthouse.v1.MessageService", 0),
    "conversation": ("posthouse.v1.ConversationService", 1),
    "dispatch": ("posthouse.v1.DispatchService", 2),
}


def is_healthy(process: str, settings: Settings) -> bool:
    """Tell whether a process can do its work; raise ValueError for a name that is none."""
    if process == "gateway":
        return gateway_is_ready(settings)
    if process not in _SERVICES:
        raise ValueError(f"{process!r} is none of gateway, {', '.join(_SERVICES)}")
    service, offset = _SERVICES[process]
    target = ports.join(ports.reachable(settings.host), settings.grpc_port + offset)
    with grpc.insecure_channel(target) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT)
        except grpc.RpcError:
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def gateway_is_ready(settings: Settings) -> bool:
    """Tell whether the gateway takes traffic."""
    host = ports.reachable(settings.host)
    connection = http.client.HTTPConnection(host, settings.http_port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
