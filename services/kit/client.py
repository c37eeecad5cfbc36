"""gRPC channels to the services, as the gateway, the CLI and the simulator open them."""

import grpc


def open_channel(target: str, *, max_message_bytes: int = 32 * 1024 * 1024) -> grpc.aio.Channel:
    """Return a channel that reconnects within a second and notices a dead peer."""
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 5_000),
        ],
    )
