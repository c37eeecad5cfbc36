"""Ports for the servers of tests, which run in several processes and beside other runs of the suite."""

import contextlib
import socket

_HOST = "127.0.0.1"
# Below those that the kernel gives to clients and to servers that ask for any: one of them could take a port
# between its choice here and the start of the server that it is meant for.
_FIRST, _LAST = 12_000, 32_000
_BLOCK = 200


class PortBlock:
    """A block of neighbouring ports that no other process takes from, for as long as this one lives."""

    def __init__(self) -> None:
        self._guard, self._first = _claim()
        self._next = self._first

    def take(self, count: int) -> int:
        """Return the first of `count` neighbouring ports that are free, and were not given out lately."""
        for _ in range(_BLOCK):
            if self._next + count > self._first + _BLOCK:
                self._next = self._first
            first = self._next
            if _are_free(range(first, first + count)):
                self._next += count
                return first
            self._next += 1
        raise RuntimeError(f"no {count} neighbouring ports are free from {self._first} on")


def free_ports(count: int) -> int:
    """Return the first of `count` neighbouring ports for a server of this test alone."""
    if not _blocks:
        _blocks.append(PortBlock())
    return _blocks[0].take(count)


_blocks: list[PortBlock] = []


def _claim() -> tuple[socket.socket, int]:
    """Listen on the port before the first free block, which tells everybody else that the block is taken."""
    for guard in range(_FIRST, _LAST, _BLOCK + 1):
        taken = socket.socket()
        try:
            taken.bind((_HOST, guard))
            taken.listen()
        except OSError:
            taken.close()
            continue
        return taken, guard + 1
    raise RuntimeError(f"no block of {_BLOCK} ports is free")


def _are_free(ports: range) -> bool:
    with contextlib.ExitStack() as held:
        for port in ports:
            probe = held.enter_context(socket.socket())
            try:
                probe.bind((_HOST, port))
            except OSError:
                return False
        return True
