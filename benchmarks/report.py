"""Prints what was measured: a table for people, or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.results import Measurement
from benchmarks.stack import PROCESSES

_TWO = 2
_NOTHING = "–"  # noqa: RUF001 - a dash, as tables have it


def print_tables(floors: Sequence[Measurement], measured: Sequence[Measurement]) -> None:
    """Print rates and times, then what a message costs, then memory where it was looked at."""
    console = Console(width=150)
    console.print(_rates(floors, measured))
    console.print(_costs([*floors, *measured]))
    for row in measured:
        if row.memory:
            console.print(_memory(row))


def print_json(floors: Sequence[Measurement], measured: Sequence[Measurement], facts: dict[str, Any]) -> None:
    """Print one JSON object."""
    rows = [{**asdict(row), "of_floor": of_floor(row, floors)} for row in measured]
    print(json.dumps({**facts, "floors": [asdict(row) for row in floors], "measurements": rows}, indent=2))


def of_floor(row: Measurement, floors: Sequence[Measurement]) -> float | None:
    """Return the ratio of a rate to its floor, None when the floor was not measured."""
    rates = {floor.name: floor.rate for floor in floors}
    return row.rate / rates[row.floor] if row.floor in rates else None


def _rates(floors: Sequence[Measurement], measured: Sequence[Measurement]) -> Table:
    table = Table(title="Rates and times")
    table.add_column("", no_wrap=True)
    for name in ("per second", "of floor", "delivered/s", "backlog", "refused", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for row in floors:
        table.add_row(f"floor: {row.name}", *_cells(row, None), style="dim")
    table.add_section()
    for row in measured:
        ratio = of_floor(row, floors)
        table.add_row(row.name, *_cells(row, None if ratio is None else f"{ratio:.2f} of {row.floor}"))
    return table


def _cells(row: Measurement, ratio: str | None) -> list[str]:
    times = row.latency
    timed = [f"{value:.1f}" if value else _NOTHING for value in (times.p50, times.p95, times.p99)]
    return [
        f"{row.rate:,.0f}",
        ratio or _NOTHING,
        _NOTHING if row.delivered_rate is None else f"{row.delivered_rate:,.0f}",
        _NOTHING if row.backlog is None else f"{row.backlog:,}",
        f"{row.refused:,}" if row.refused else _NOTHING,
        *timed,
    ]


def _costs(rows: Sequence[Measurement]) -> Table:
    names = (*PROCESSES, "client")
    table = Table(title="CPU microseconds per message")
    table.add_column("", no_wrap=True)
    for name in (*names, "all"):
        table.add_column(name, justify="right")
    for row in rows:
        if row.cpu:
            cells = [f"{row.cpu[name]:,.0f}" if name in row.cpu else _NOTHING for name in names]
            table.add_row(row.name, *cells, f"{sum(row.cpu.values()):,.0f}")
    return table


def _memory(row: Measurement) -> Table:
    table = Table(title=f"Memory of each process, MB: {row.name}")
    table.add_column("", no_wrap=True)
    for name in row.memory:
        table.add_column(name, justify="right")
    for number, values in enumerate(zip(*row.memory.values(), strict=True)):
        table.add_row(f"after part {number}" if number else "at the start", *(f"{mb:,.0f}" for mb in values))
    # Of several parts, the first one fills pools and caches.
    ratios = (f"{values[-1] / values[0 if len(values) == _TWO else 1]:.2f}" for values in row.memory.values())
    table.add_section()
    table.add_row("last to first", *ratios)
    return table
