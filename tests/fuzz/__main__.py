"""Feeds one target: `python -m tests.fuzz TARGET [options of libFuzzer, such as -runs=100000]`.

A find ends the process with a traceback, and its input is written into a file (-artifact_prefix).
"""

import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["services", "gateway", "email", "python_multipart"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run until the options say that it is enough."""
    name, *options = sys.argv[1:]
    logging.disable()
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], "-close_fd_mask=1", *options, folder], target.read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
