"""What failures cost: the rate end to end with and without them, on one stack, one after the other."""

from benchmarks.results import Load as Offered
from benchmarks.stack import run_load
from chaos.findings import Finding
from tests.e2e.stack import E2eStack

NAME = "rates"

_PROMISED = 0.7
_FAILURES = 0.2
_IN_FLIGHT, _BATCH = 8, 200
_REST = 600.0

# Deliveries while the load was on; what is left of it is still to come.
_DELIVERED = """
SELECT count(*) FROM message_events
WHERE type = 'delivered' AND create_time BETWEEN to_timestamp(%(start)s) AND to_timestamp(%(end)s)
"""


def run(stack: E2eStack, *, seconds: float, floor: float = _PROMISED) -> list[Finding]:
    """Send as fast as it goes for so many seconds, first all well, then with 20 % retryable failures."""
    stack.simulate(callback_delay_ms=50)
    # Connections stand and caches are filled before anything is counted.
    _offer(stack, min(2.0, seconds))
    without = _rate(stack, _offer(stack, seconds))
    stack.simulate(server_error_rate=_FAILURES, callback_delay_ms=50)
    within = _rate(stack, _offer(stack, seconds))
    stack.await_rest(timeout=_REST)
    stack.simulate(callback_delay_ms=100)
    ratio = within / max(without, 1.0)
    return [
        Finding(
            NAME,
            "rate with 20 % retryable failures",
            f"≥ {floor:.0%} of the rate without",
            f"{ratio:.0%} ({within:,.0f} of {without:,.0f} delivered/s)",
            ratio >= floor,
        )
    ]


def _offer(stack: E2eStack, seconds: float) -> Offered:
    stack.await_rest(timeout=_REST)
    return run_load("benchmarks.grpc_load", stack.grpc_port, seconds, _IN_FLIGHT, _BATCH)


def _rate(stack: E2eStack, load: Offered) -> float:
    delivered = stack.rows(_DELIVERED, {"start": load.start_time, "end": load.start_time + load.seconds})
    return float(delivered[0][0] / load.seconds)
