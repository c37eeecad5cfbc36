"""Asks the processes on this machine how they are, for supervisors and container health checks."""

import http.client
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from cli import ports
from services.kit.config import Settings
from services.kit.rate_limit_clients import GATEWAY_TOKEN
from services.kit.tls import channel_credentials, channel_options

if TYPE_CHECKING:
    from cli.datadir import StackState

_TIMEOUT = 2.0

# Process -> its gRPC service and its place after POSTHOUSE_GRPC_PORT.
_SERVICES = {
    "message": ("posthouse.v1.MessageService", 0),
    "conversation": ("posthouse.v1.ConversationService", 1),
    "dispatch": ("posthouse.v1.DispatchService", 2),
}


def running(state: "StackState | None", settings: Settings) -> Settings:
    """Return the settings with host and ports of a stack that runs, where they name none of these."""
    if state is None or settings.model_fields_set & {"host", "http_port", "grpc_port"}:
        return settings
    return settings.model_copy(
        update={"host": state.host, "http_port": state.http_port, "grpc_port": state.grpc_port}
    )


def address_of(process: str, settings: Settings) -> str:
    """Return where a process listens, as host:port; raise ValueError for a name that is none."""
    if process == "gateway":
        return ports.join(ports.reachable(settings.host), settings.http_port)
    if process not in _SERVICES:
        raise ValueError(f"{process!r} is none of gateway, {', '.join(_SERVICES)}")
    return ports.join(ports.reachable(settings.host), settings.grpc_port + _SERVICES[process][1])


def is_healthy(process: str, settings: Settings) -> bool:
    """Tell whether a process can do its work; raise ValueError for a name that is none."""
    if process == "gateway":
        return gateway_is_ready(settings)
    with _open(address_of(process, settings), settings) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=_SERVICES[process][0])
            response = health_pb2_grpc.HealthStub(channel).Check(
                request, timeout=_TIMEOUT, metadata=tuple(_own(settings.gateway_token).items())
            )
        except grpc.RpcError:
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def gateway_is_ready(settings: Settings, token: SecretStr | None = None) -> bool:
    """Tell whether the gateway takes traffic; `token` is its own, when it is not in the settings."""
    host = ports.reachable(settings.host)
    connection = http.client.HTTPConnection(host, settings.http_port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/ready", headers=_own(token or settings.gateway_token))
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _open(target: str, settings: Settings) -> grpc.Channel:
    credentials = channel_credentials(settings)
    if credentials is None:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, credentials, options=channel_options(settings))


def _own(token: SecretStr | None) -> dict[str, str]:
    """Return what lets us in where health is closed to strangers."""
    return {GATEWAY_TOKEN: token.get_secret_value()} if token else {}
