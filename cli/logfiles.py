"""Keeps the children's log files from growing for ever."""

import contextlib
import os
import shutil
from pathlib import Path

_MAX_AT_START = 8 * 1024 * 1024
_MAX_RUNNING = 64 * 1024 * 1024


def rotate(log: Path) -> None:
    """Move a long log aside before its program starts."""
    if _size(log) > _MAX_AT_START:
        with contextlib.suppress(OSError):
            log.replace(_previous(log))


def trim(log: Path, limit: int = _MAX_RUNNING) -> None:
    """Copy a log that has grown too long aside and empty it, while its program goes on writing to it."""
    if _size(log) <= limit:
        return
    with contextlib.suppress(OSError):
        shutil.copyfile(log, _previous(log))
        # Children append, so the next line goes to the new end. Lines written meanwhile are lost.
        os.truncate(log, 0)


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0


def _previous(log: Path) -> Path:
    return log.with_name(log.name + ".1")
