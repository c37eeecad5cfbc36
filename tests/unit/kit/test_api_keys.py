"""The keys in memory: fresh within a second, asked about rarely, and not vouched for when they are old."""

import asyncio
import time

import pytest

from services.kit.api_keys import KeyRing, make_secret
from services.kit.errors import UnavailableError
from tests.clock import Clock
from tests.credentials import PEPPER, MemoryKeys


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def ring(store: MemoryKeys, clock: Clock) -> KeyRing:
    return KeyRing(store, PEPPER, clock=clock)


async def test_known_keys_cost_no_look(ring: KeyRing, store: MemoryKeys) -> None:
    key = store.add("send", name="shop")
    caller = await ring.find(key)
    assert caller is not None
    assert (caller.id, caller.scopes) == ("key:shop", frozenset({"send"}))
    looks = store.looks
    for _ in range(100):
        assert await ring.find(key) is caller
    assert store.looks == looks


async def test_however_many_keys_are_guessed_the_store_is_asked_ten_times_a_second(
    ring: KeyRing, store: MemoryKeys, clock: Clock
) -> None:
    guesses = [make_secret()[0] for _ in range(200)]
    assert await asyncio.gather(*(ring.find(guess) for guess in guesses)) == [None] * 200
    # The second is for those who came while the first was under way.
    assert store.looks == 2
    clock.now += 0.2
    assert await ring.find(guesses[0]) is None
    assert store.looks == 3
    assert await ring.find("nonsense") is None
    assert store.looks == 3


async def test_a_new_key_is_found_at_once_and_a_revoked_one_is_gone_after_a_look(
    ring: KeyRing, store: MemoryKeys, clock: Clock
) -> None:
    first = store.add("send")
    assert await ring.find(first)
    clock.now += 1
    second = store.add("read")
    assert await ring.find(second)
    store.revoke(first)
    await ring._refresh()
    assert await ring.find(first) is None
    assert await ring.find(second)


async def test_a_key_expires_without_a_look(
    ring: KeyRing, store: MemoryKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = time.time() + 3600
    key = store.add("send", end_time=end)
    assert await ring.find(key)
    monkeypatch.setattr("services.kit.api_keys.time.time", lambda: end)
    assert await ring.find(key) is None


async def test_what_nobody_has_confirmed_for_a_minute_is_not_vouched_for(
    ring: KeyRing, store: MemoryKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = store.add("send")
    assert await ring.find(key)

    async def away() -> object:
        raise UnavailableError("away")

    monkeypatch.setattr(store, "stamp", away)
    clock.now += 59
    assert await ring.find(key)
    clock.now += 2
    for each in (key, make_secret()[0]):
        with pytest.raises(UnavailableError):
            await ring.find(each)


async def test_before_the_first_look_nothing_can_be_told(
    store: MemoryKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> object:
        raise UnavailableError("away")

    monkeypatch.setattr(store, "stamp", away)
    with pytest.raises(UnavailableError):
        await KeyRing(store, PEPPER).find(store.add("send"))


def test_no_two_keys_are_alike() -> None:
    made = [make_secret() for _ in range(100)]
    assert len({secret for secret, _ in made}) == len({prefix for _, prefix in made}) == 100
    assert all(secret.startswith(f"ph_{prefix}_") for secret, prefix in made)
