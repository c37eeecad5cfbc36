"""What a load client or a floor measured, and how it travels between processes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Self


@dataclass(slots=True)
class Latency:
    """Percentiles in milliseconds."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the percentiles of single times in seconds, by nearest rank."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(*(ordered[round(last * part)] * 1000 for part in (0.50, 0.95, 0.99)))


@dataclass(slots=True)
class Load:
    """What one client did: messages accepted and refused, its own CPU time, and how long its calls took.

    `start_time` is in seconds since 1970.
    """

    start_time: float
    accepted: int
    refused: int
    seconds: float
    cpu_seconds: float
    latency: Latency

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "latency": Latency(**fields["latency"])})


@dataclass(slots=True)
class Measurement:
    """One row of the report. Rates are per second; `cpu` is CPU microseconds per message by process.

    `memory` is the megabytes that each process has to itself, from the first look at it to the last.
    """

    name: str
    rate: float
    latency: Latency
    floor: str | None = None
    delivered_rate: float | None = None
    backlog: int | None = None
    refused: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)
