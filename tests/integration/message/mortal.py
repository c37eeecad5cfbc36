"""A message process of its own, which can be killed."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess

from services.kit.config import Settings
from services.kit.fault_points import POINTS
from services.kit.process import run_process
from services.message.__main__ import main

# Points that sends and webhooks never pass.
BY_HAND = [point for point in POINTS if point.endswith(("_opt_out", "_api_key")) or "_erasure" in point]

# Forked from a warmed-up process, one starts at once.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["services.message.__main__"])


def _serve(settings: Settings) -> None:
    run_process("message", main, settings)


@contextmanager
def mortal_process(settings: Settings, *, fault: str = "") -> Iterator[ForkServerProcess]:
    """Start a message process that dies at a fault point, if one is given."""
    process = _PROCESSES.Process(target=_serve, args=(settings.model_copy(update={"fault_points": fault}),))
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join(120)
        assert process.exitcode is not None
