"""What this machine does at best: bare COPY, bare gRPC, bare HTTP."""

import time

import psycopg
from psycopg import sql

from benchmarks.payloads import BODY, SENDER, recipient
from benchmarks.results import Latency, Load, Measurement
from benchmarks.stack import BenchStack, run_load, running_module
from services.kit.ids import new_id

COPY, GRPC_UNARY, GRPC_BATCH, HTTP = "COPY in 500s", "gRPC echo", "gRPC echo, 200s", "empty HTTP route"

_ROWS = 500
_COLUMNS = (
    "id", "conversation_id", "channel", "direction", "state", "sender", "recipient", "body", "priority",
    "segment_count", "segment_encoding", "create_time", "update_time", "message_time",
)  # fmt: skip
_TABLE = "CREATE TABLE floor_messages (LIKE messages INCLUDING ALL) WITH (fillfactor = 70)"


def measure_copy(stack: BenchStack, seconds: float) -> Measurement:
    """Copy message rows in transactions of 500 into a table like `messages`, on one connection."""
    latencies: list[float] = []
    with stack.database() as connection:
        connection.execute(_TABLE)
        try:
            deadline = time.perf_counter() + seconds
            number = 0
            spent = 0.0
            while time.perf_counter() < deadline:
                rows = "".join(_row(number + place) for place in range(_ROWS)).encode()
                number += _ROWS
                began = time.perf_counter()
                _copy(connection, rows)
                latencies.append(time.perf_counter() - began)
                spent += latencies[-1]
        finally:
            connection.execute("DROP TABLE floor_messages")
    return Measurement(COPY, number / spent, Latency.of(latencies))


def measure_grpc_unary(seconds: float) -> Measurement:
    """Call a server that only answers, one message a call, 64 calls in flight."""
    with running_module("benchmarks.echo_servers", "grpc") as port:
        return _of(GRPC_UNARY, run_load("benchmarks.grpc_load", port, seconds, 64, 0))


def measure_grpc_batch(seconds: float) -> Measurement:
    """Call a server that only answers, 200 messages a call, 8 calls in flight."""
    with running_module("benchmarks.echo_servers", "grpc") as port:
        return _of(GRPC_BATCH, run_load("benchmarks.grpc_load", port, seconds, 8, 200))


def measure_http(seconds: float, connections: int) -> Measurement:
    """Post to a route that only answers."""
    with running_module("benchmarks.echo_servers", "http") as port:
        return _of(HTTP, run_load("benchmarks.http_load", port, seconds, connections))


def _of(name: str, load: Load) -> Measurement:
    cpu = {"client": load.cpu_seconds / max(load.accepted, 1) * 1e6}
    return Measurement(name, load.accepted / load.seconds, load.latency, refused=load.refused, cpu=cpu)


def _row(number: int) -> str:
    now = "2026-01-01 00:00:00+00"
    return (
        f"{new_id()}\t89997e8c-b501-515f-8819-{number % 10_000:012d}\tsms\toutbound\tpending\t{SENDER}\t"
        f"{recipient(number)}\t{BODY}\tnormal\t1\tgsm7\t{now}\t{now}\t{now}\n"
    )


def _copy(connection: psycopg.Connection[object], rows: bytes) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
    statement = sql.SQL("COPY floor_messages ({}) FROM STDIN").format(columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(rows)
