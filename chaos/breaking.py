"""A provider goes down and comes back, before the eyes of two dispatchers."""

import threading
import time

import grpc

from chaos.audit import audit
from chaos.findings import Finding
from chaos.load import PATIENCE, Load
from posthouse.v1 import dispatch_pb2, message_pb2
from posthouse.v1 import dispatch_service_pb2 as pb
from posthouse.v1 import dispatch_service_pb2_grpc as pb_grpc
from services.kit.config import Settings
from tests.e2e.stack import E2eStack, eventually

NAME = "breaker"

_PROMISED = 1.0
_POLL = 0.01
_OPEN, _CLOSED = dispatch_pb2.BREAKER_STATE_OPEN, dispatch_pb2.BREAKER_STATE_CLOSED

# When the attempt was begun whose failure is the last the breaker bears, in the order of the attempts.
_THRESHOLD = """
SELECT extract(epoch FROM start_time)::float8
FROM dispatch_attempts a JOIN messages m ON m.id = a.message_id
WHERE m.sender = %(sender)s AND a.outcome = 'retryable'
ORDER BY start_time LIMIT 1 OFFSET %(before)s
"""


class _Watcher:
    """Notes when a dispatcher begins to show each state of the breaker.

    Times are in seconds since 1970: of the last look that did not show it yet, and of the first that did.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._seen: list[tuple[int, float, float]] = []
        self._done = threading.Event()
        self._stub = pb_grpc.DispatchServiceStub(channel)
        self._thread = threading.Thread(target=self._watch, name="chaos-breaker")
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def first(self, state: int, since: float = 0.0) -> tuple[float, float] | None:
        """Return between which times the state was shown first after a time, None if it has not been."""
        return next(
            ((before, after) for shown, before, after in self._seen if shown == state and after >= since),
            None,
        )

    def _watch(self) -> None:
        before = time.time()
        while not self._done.wait(_POLL):
            asked = time.time()
            response = self._stub.ListProviders(pb.ListProvidersRequest(), timeout=PATIENCE)
            state = next(
                one.breaker_state for one in response.providers if one.channel == message_pb2.CHANNEL_SMS
            )
            if not self._seen or self._seen[-1][0] != state:
                self._seen.append((state, before, time.time()))
            before = asked


def run(stack: E2eStack, *, sender: str, cool_down: float, promised: float = _PROMISED) -> list[Finding]:
    """Let the provider fail for as many as the breaker bears, mend it, and watch both dispatchers."""
    with stack.second_dispatcher() as other, stack.channel(2) as own:
        watchers = [_Watcher(own), _Watcher(other)]
        try:
            eventually(
                lambda: all(watcher.first(_CLOSED) for watcher in watchers),
                timeout=PATIENCE,
                what="both dispatchers show a closed breaker",
                report=stack.report,
            )
            return _fail_and_mend(stack, watchers, sender, cool_down, promised)
        finally:
            for watcher in watchers:
                watcher.stop()


def _fail_and_mend(
    stack: E2eStack, watchers: list[_Watcher], sender: str, cool_down: float, promised: float
) -> list[Finding]:
    threshold = int(Settings.model_fields["breaker_failures"].default)
    stack.simulate(server_error_rate=1.0)
    # The other dispatcher looks for a new profile twice a second.
    time.sleep(1)
    # One call, one envelope, one dispatcher: the other one can only be told.
    with Load(stack, sender, batch=threshold) as load:
        load.release(threshold)
        opened = _await_all(stack, watchers, _OPEN)
        earliest, latest = min(before for before, _ in opened), max(after for _, after in opened)
        broken = stack.rows(_THRESHOLD, {"sender": sender, "before": threshold - 1})[0][0]
        stack.simulate(callback_delay_ms=50)
        load.release(5 * threshold)
        closed = _await_all(stack, watchers, _CLOSED, since=latest)
    found = audit(stack, load.client)
    took, told = min(after for _, after in opened) - broken, latest - earliest
    recovered = max(after for _, after in closed) - earliest
    return [
        *found.findings(NAME),
        Finding(
            NAME,
            f"opens after failure {threshold} in a row",
            f"< {promised:g} s",
            f"within {took * 1000:.0f} ms of the beginning of that attempt",
            took < promised,
        ),
        Finding(
            NAME,
            "a second dispatcher learns",
            f"< {promised:g} s",
            f"within {told * 1000:.0f} ms",
            told < promised,
        ),
        Finding(
            NAME,
            "closes after a successful trial",
            f"cool-down {cool_down:g} s",
            f"{recovered:.1f} s after it opened, on both; {found.accepted - found.given_up} of "
            f"{found.accepted} delivered",
            recovered >= cool_down and not found.given_up,
        ),
    ]


def _await_all(
    stack: E2eStack, watchers: list[_Watcher], state: int, since: float = 0.0
) -> list[tuple[float, float]]:
    """Wait until every dispatcher has shown the state, and return between which times each did first."""
    moments: list[tuple[float, float]] = []

    def reached() -> bool:
        found = [watcher.first(state, since) for watcher in watchers]
        moments[:] = [moment for moment in found if moment is not None]
        return len(moments) == len(watchers)

    eventually(reached, timeout=PATIENCE, what=f"both breakers are in state {state}", report=stack.left_over)
    return moments
