"""Serves /metrics of a process that speaks no HTTP otherwise, from a thread: a busy loop does not hide it."""

import contextlib
from collections.abc import Iterator
from typing import Final

from prometheus_client import start_http_server

from services.kit.config import Settings

# Place of each process after the first port. The gateway serves its metrics itself.
_OFFSETS: Final = {"message": 0, "conversation": 1, "dispatch": 2}
_AFTER_GRPC: Final = 3


def metrics_address(process: str, settings: Settings) -> tuple[str, int] | None:
    """Return where a process serves its metrics, None where it does not.

    They cannot ask for credentials: where metrics are not open to everyone, only this machine reaches them.
    """
    offset = _OFFSETS.get(process)
    if offset is None or settings.metrics_port == 0:
        return None
    first = settings.grpc_port + _AFTER_GRPC if settings.metrics_port is None else settings.metrics_port
    is_open = not settings.authenticates or "metrics" in settings.open_endpoints.split()
    return (settings.host if is_open else "127.0.0.1"), first + offset


@contextlib.contextmanager
def serve_metrics(process: str, settings: Settings) -> Iterator[None]:
    """Serve metrics within the block; raises OSError when the address is in use or not ours."""
    address = metrics_address(process, settings)
    if address is None:
        yield
        return
    host, port = address
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port} for metrics: {error.strerror}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(1)
