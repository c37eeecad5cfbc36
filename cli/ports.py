"""Whether ports are free, and how addresses are written."""

import errno
import socket
from collections.abc import Iterable, Mapping

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound


def reachable(host: str) -> str:
    """Return the address under which this machine reaches a server bound to `host`."""
    return _WILDCARDS.get(host, host)


def join(host: str, port: int) -> str:
    """Return host:port as URLs write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def busy(host: str, ports: Iterable[int]) -> dict[int, str]:
    """Return which of the ports cannot be bound on `host`, and why."""
    found = {}
    for port in ports:
        reason = _why_not(host, port)
        if reason:
            found[port] = reason
    return found


def describe(host: str, names: Mapping[int, str], reasons: Mapping[int, str]) -> str:
    """Say in one line which ports are taken and what wants them."""
    parts = [f"port {port} ({names[port]}): {reason}" for port, reason in reasons.items()]
    return f"cannot listen on {host or 'any address'}: {'; '.join(parts)}"


def _why_not(host: str, port: int) -> str:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the servers do: connections that are only waiting to be forgotten do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return "in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
    return ""
