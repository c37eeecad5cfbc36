"""Makes all search rows again: `posthouse search rebuild`."""

import time
from collections.abc import Callable
from typing import Final

from services.conversation import indexing
from services.kit.config import Settings
from services.ledger.database import Database

_REPORT_SECONDS: Final = 10.0


async def rebuild_search(settings: Settings, *, resume: bool, report: Callable[[str], None]) -> int:
    """Index every message from the first to the last, and return their number.

    Search goes on meanwhile with the rows it has. `resume` goes on where an interrupted one has stopped.
    Raises UnavailableError when the database does not answer.
    """
    database = Database(
        settings.database_url, pool_size=2, timeout=settings.database_timeout, name="search-rebuild"
    )
    try:
        if not resume:
            await indexing.start_rebuild(database)
        count, due = 0, time.monotonic() + _REPORT_SECONDS
        while done := await indexing.rebuild_batch(database):
            count += done
            if time.monotonic() > due:
                report(f"{count:,} messages so far")
                due = time.monotonic() + _REPORT_SECONDS
        await indexing.remove_orphans(database)
    finally:
        await database.close()
    return count
