"""Ports of tests are free, given out once, and out of the reach of other processes."""

import itertools
import socket

from tests.ports import _LAST, PortBlock


def test_ports_are_given_out_one_after_the_other_and_again_in_the_end() -> None:
    block = PortBlock()
    taken = [block.take(3) for _ in range(10)]
    assert all(later - first >= 3 for first, later in itertools.pairwise(taken))
    assert taken[0] in {block.take(1) for _ in range(400)}


def test_a_port_in_use_is_left_out() -> None:
    block = PortBlock()
    first = block.take(3)
    block._next = first
    with socket.create_server(("127.0.0.1", first + 2)):
        assert block.take(3) >= first + 3


def test_blocks_do_not_overlap_and_clients_get_none_of_them() -> None:
    blocks = [PortBlock() for _ in range(3)]
    firsts = sorted(block._first for block in blocks)
    assert all(later - first > 200 for first, later in itertools.pairwise(firsts))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] > _LAST
