"""What the fuzzer begins with is understood, and pieces of it are no surprise: the short form of its runs."""

import random

import pytest

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_and_what_is_left_of_them(name: str) -> None:
    draw = random.Random(name)  # noqa: S311 - seeded
    target = TARGETS[name]
    for seed in target.seeds:
        target.read(seed)
        for _ in range(100):
            data = bytearray(seed)
            for _ in range(draw.randrange(1, 4)):
                place = draw.randrange(len(data))
                data[place : place + draw.randrange(4)] = draw.randbytes(draw.randrange(4))
                if not data:
                    break
            target.read(bytes(data))
