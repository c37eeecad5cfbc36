"""Runs the benchmark: `python -m benchmarks`, or `make bench`."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks import floors, reads, report, scenarios
from benchmarks.results import Measurement
from benchmarks.stack import BenchStack, StartFailedError, running_stack

_NAMES = ("floors", "intake", "end-to-end", "rest", "idle", "callbacks", "reads")
# Of the messages that are in the ledger beforehand.
_CONVERSATIONS = 100_000
# Those that take minutes are measured when they are asked for.
_LONG_NAMES = ("sustained", "memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = _parse(arguments)
    baseline: list[Measurement] = []
    measured: list[Measurement] = []
    try:
        if "floors" in options.only:
            _collect(_bare_floors(options), baseline)
        with running_stack() as stack:
            if options.synchronous_commit != "on":
                stack.set_synchronous_commit(options.synchronous_commit)
            if "floors" in options.only:
                _collect([floors.measure_copy(stack, _short(options))], baseline)
            if options.ledger:
                reads.fill_ledger(stack, options.ledger, _CONVERSATIONS, search=False)
            if set(options.only) != {"floors"}:
                scenarios.warm_up(stack)
            for scenario in _scenarios(options):
                stack.settle()
                _collect(scenario(stack), measured)
            if "reads" in options.only:
                # Last: what the others send would be in the way of nothing, but a full ledger in theirs.
                reads.fill_ledger(stack, options.messages, options.conversations)
                url, port = stack.state.database_url, stack.grpc_port + 1
                _collect([reads.measure_select(url, _short(options))], baseline)
                _collect(reads.measure_reads(url, port, _short(options)), measured)
    except StartFailedError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    if options.json:
        facts = {
            "seconds": options.seconds,
            "ledger": options.ledger,
            "synchronous_commit": options.synchronous_commit,
            "cores": len(os.sched_getaffinity(0)),
            "python": f"{sys.version} at {sys.base_prefix}",
        }
        report.print_json(baseline, measured, facts)
    else:
        report.print_tables(baseline, measured)
    return 0


def _bare_floors(options: argparse.Namespace) -> Iterator[Measurement]:
    seconds = _short(options)
    yield floors.measure_grpc_unary(seconds)
    yield floors.measure_grpc_batch(seconds)
    yield floors.measure_http(seconds, options.connections[0])


def _scenarios(options: argparse.Namespace) -> Iterator[Callable[[BenchStack], Iterable[Measurement]]]:
    seconds: float = options.seconds
    if "idle" in options.only:
        # First, while the tables are small and nothing is left to vacuum.
        yield lambda stack: scenarios.measure_idle(stack, seconds)
    if "rest" in options.only:
        for connections in options.connections:
            yield lambda stack, connections=connections: scenarios.measure_rest(stack, seconds, connections)  # type: ignore[misc]
    if "callbacks" in options.only:
        yield lambda stack: scenarios.measure_callbacks(stack, seconds, options.connections[0])
    if "end-to-end" in options.only:
        yield lambda stack: scenarios.measure_end_to_end(stack, seconds)
    if "intake" in options.only:
        yield lambda stack: scenarios.measure_intake(stack, seconds)
    if "sustained" in options.only:
        yield lambda stack: scenarios.measure_sustained(stack, seconds, options.rate)
    if "memory" in options.only:
        yield lambda stack: scenarios.measure_memory(stack, options.messages)


def _collect(rows: Iterable[Measurement], into: list[Measurement]) -> None:
    for row in rows:
        print(f"{row.name}: {row.rate:,.0f}/s", file=sys.stderr)
        into.append(row)


def _short(options: argparse.Namespace) -> float:
    """Return the seconds a floor takes: they are steady, so a third will do."""
    seconds: float = options.seconds
    return max(2.0, seconds / 3)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(_NAMES),
        help=f"parts to run, separated by commas: {', '.join(_NAMES)} (these by default), "
        f"{', '.join(_LONG_NAMES)}",
    )
    parser.add_argument(
        "--connections",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[64],
        help="HTTP connections; several runs when separated by commas, e.g. 64,256",
    )
    parser.add_argument(
        "--synchronous-commit",
        choices=("on", "off"),
        default="on",
        help="off: commits are durable a moment after the answer",
    )
    parser.add_argument("--rate", type=int, default=10_000, help="messages a second that sustained asks for")
    parser.add_argument(
        "--ledger", type=int, default=0, help="messages that are in the ledger before anything is measured"
    )
    parser.add_argument(
        "--messages",
        type=int,
        default=1_000_000,
        help="messages in the ledger for reads; those that memory sends",
    )
    parser.add_argument("--conversations", type=int, default=100_000, help="conversations they are in")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    unknown = set(options.only) - {*_NAMES, *_LONG_NAMES}
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join((*_NAMES, *_LONG_NAMES))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
