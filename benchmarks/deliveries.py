"""Events posted to a customer's endpoint: `python -m benchmarks.deliveries --seconds 2`.

Starts a stack and an endpoint that only answers, subscribes it to everything, sends batches for a while, and
prints how many events a second were posted until the last one was, and how long they waited.
"""

import argparse
import json
import time

import grpc

from benchmarks.payloads import API_KEY
from benchmarks.stack import BenchStack, StartFailedError, run_load, running_module, running_stack
from posthouse.v1 import subscription_service_pb2 as pb
from posthouse.v1 import subscription_service_pb2_grpc as pb_grpc

_SETTINGS = {"POSTHOUSE_SUBSCRIPTION_NETWORKS": "127.0.0.1", "POSTHOUSE_SUBSCRIPTION_PORTS": "*"}
_PATIENCE, _POLL = 600.0, 0.5

_LEFT = """
SELECT (SELECT count(*) FROM message_events), (SELECT count(*) FROM event_deliveries WHERE due_time IS NULL)
"""
_RATE = """
SELECT count(*), extract(epoch FROM max(attempt_time) - min(event_time))::float8,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM attempt_time - event_time))::float8
FROM event_deliveries WHERE state = 'delivered' AND attempt_count = 1
"""


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deliveries", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the load")
    options = parser.parse_args()
    with running_stack(_SETTINGS) as stack, running_module("benchmarks.echo_servers", "http") as port:
        with grpc.insecure_channel(f"127.0.0.1:{stack.grpc_port + 1}") as channel:
            stub = pb_grpc.SubscriptionServiceStub(channel)
            request = pb.CreateSubscriptionRequest(url=f"http://127.0.0.1:{port}/")
            stub.CreateSubscription(request, timeout=30, metadata=(("x-api-key", API_KEY),))
        load = run_load("benchmarks.grpc_load", stack.grpc_port, options.seconds, 8, 200)
        stack.drain()
        _await_posted(stack)
        with stack.database() as connection:
            row = connection.execute(_RATE).fetchone()
        posted, took, waited = row or (0, 1.0, 0.0)
        print(
            json.dumps(
                {
                    "messages": load.accepted,
                    "posted": posted,
                    "seconds": round(took, 1),
                    "posted_per_second": round(posted / took),
                    "median_seconds_waited": round(waited, 2),
                }
            )
        )


def _await_posted(stack: BenchStack) -> None:
    """Wait until every event there is was posted."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with stack.database() as connection:
            events, settled = connection.execute(_LEFT).fetchone() or (0, 0)
        if events == settled:
            return
        time.sleep(_POLL)
    raise StartFailedError("not every event was posted")


if __name__ == "__main__":
    main()
