"""Whether ports are free, and how addresses are written."""

import contextlib
import errno
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound


# Why a port cannot be had: a server has it, or the near end of a connection of somebody's, which will pass.
SERVED: Final = "in use"
PASSING: Final = "in use by a connection that is open or has just ended"


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


@contextlib.contextmanager
def reserved(host: str, ports: Iterable[int]) -> Iterator[None]:
    """Keep the kernel from giving these ports to connections, within the block; servers can have them.

    The range that it gives from begins at 32768 on Linux, and has gRPC's ports in it. What cannot be
    reserved is left as it is.
    """
    with contextlib.ExitStack() as held:
        # Elsewhere a port that is bound cannot be bound again, whatever it is asked.
        for port in ports if sys.platform == "linux" else ():
            with contextlib.suppress(OSError):
                held.enter_context(_bound(host, port))
        yield


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    probe = socket.socket(family, kind, protocol)
    try:
        # As the servers do: our own earlier connections that only wait to be forgotten do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    except OSError:
        probe.close()
        raise
    return probe


def _why_not(host: str, port: int) -> str:
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return str(error.strerror or error)
        return SERVED if _is_served(host, port) else PASSING
    return ""


def _is_served(host: str, port: int) -> bool:
    try:
        socket.create_connection((reachable(host), port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True
