"""How a process runs: event loop, logs, signals."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Awaitable, Callable

from services.kit.config import Settings, WrongSettingError, read_settings, refuse
from services.kit.logs import configure_logging, get_logger, set_level
from services.kit.metrics_server import serve_metrics
from services.kit.tracing import traced_process

# Objects more than before at which the garbage collector looks at the newest. The usual 700 come together
# several times in a batch that is under way, and hardly anything of it is a cycle.
_COLLECT_AFTER = 20_000

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]


def run_process(name: str, main: Main, settings: Settings) -> None:
    """Run `main(settings, stop)` until it returns; SIGTERM and SIGINT set `stop`."""
    configure_logging(name, level=settings.log_level, style=settings.log_format)
    _allow_files()
    _spare_collector()
    with traced_process(name, settings), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_supervise(name, main, settings))


def _allow_files() -> None:
    """Allow as many open files, and so connections, as the system lets us: the usual limit is 1,024."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not to be had on Windows

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _spare_collector() -> None:
    """Have the garbage collector leave alone what was imported, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not to be had on Windows

    return uvloop.new_event_loop


def _let_levels_change(loop: asyncio.AbstractEventLoop) -> None:
    """Log as debug after SIGUSR1, and as the settings say, which are read again, after SIGUSR2."""
    if sys.platform == "win32":
        return
    log = get_logger(__name__)

    def change(read_level: Callable[[], str]) -> None:
        try:
            level = read_level()
        except WrongSettingError as error:  # what is wrong with the settings now does not stop what runs
            log.error("log_level_kept", reason=str(error))  # noqa: TRY400 - the text says it all
            return
        set_level(level)
        log.warning("log_level_changed", to=level)

    loop.add_signal_handler(signal.SIGUSR1, change, lambda: "debug")
    loop.add_signal_handler(signal.SIGUSR2, change, lambda: read_settings().log_level)


async def _supervise(name: str, main: Main, settings: Settings) -> None:
    log = get_logger(__name__)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _let_levels_change(loop)
    try:
        with serve_metrics(name, settings):
            await main(settings, stop)
    except WrongSettingError as error:
        refuse(error)
    except OSError as error:
        log.error("process_failed", error=str(error))  # noqa: TRY400 - the text says it all: an address in use, …
        sys.exit(f"posthouse {name}: {error}")
    log.info("process_stopped")
