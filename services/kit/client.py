"""gRPC channels to the services, as the gateway, the CLI and the simulator open them."""

import grpc

from services.kit.config import Settings
from services.kit.tls import channel_credentials, channel_options
from services.kit.tracing import tracing


def open_channel(
    target: str, *, max_message_bytes: int = 32 * 1024 * 1024, settings: Settings | None = None
) -> grpc.aio.Channel:
    """Return a channel that reconnects within a second and notices a dead peer; TLS is as `settings` say.

    A connection has five seconds to come about; calls wait for it, as long as their own deadline lets them.
    """
    credentials = channel_credentials(settings) if settings else None
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Not what its name says: it bounds an attempt, from the first packet to the peer's HTTP/2 settings.
        # Too short, and a busy peer or a far one is never reached at all.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # Behind a name there may be several copies: each gets its share of the calls.
        ("grpc.lb_policy_name", "round_robin"),
    ]
    found = tracing()
    interceptors = [] if found is None else found.client_interceptors()
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    assert settings is not None  # noqa: S101 - the credentials came from them
    return grpc.aio.secure_channel(
        target, credentials, options=[*options, *channel_options(settings)], interceptors=interceptors
    )
