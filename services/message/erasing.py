"""The use case of erasing a person: asking for it, reading the record, and doing it in the background."""

import asyncio
from typing import Final

from posthouse.v1 import privacy_service_pb2 as pb
from services.kit.callers import current_caller
from services.kit.errors import InvalidRequestError, NotFoundError, UnavailableError, Violation
from services.kit.fault_points import FaultPoints
from services.kit.ids import parse_id
from services.kit.logs import get_logger
from services.kit.paging import encode_token, page_size, read_id
from services.ledger import erasures
from services.ledger.database import Database
from services.message.validation import read_address

_log = get_logger(__name__)

_MAX_REASON_LENGTH: Final = 500
# Seconds until messages that are under way to a provider are looked at again.
_PAUSE: Final = 1.0
# Most seconds between two tries while PostgreSQL does not answer in time.
_MAX_WAIT: Final = 300.0


class Eraser:
    """Erases the messages of addresses, step by step. Any number of processes may."""

    def __init__(
        self, database: Database, *, interval: float = 5.0, faults: FaultPoints | None = None
    ) -> None:
        self._database = database
        self._faults = faults or FaultPoints()
        self._interval = interval
        self._wake = asyncio.Event()

    async def begin(self, request: pb.EraseAddressRequest, *, caller: str = "") -> pb.EraseAddressResponse:
        """Note an erasure, which the background work then does; raises InvalidRequestError."""
        faults: list[Violation] = []
        address = read_address(faults, "address", request.address, False, True)
        if len(request.reason) > _MAX_REASON_LENGTH or not (request.reason or " ").isprintable():
            faults.append(Violation("reason", f"must be at most {_MAX_REASON_LENGTH} printable characters"))
        if faults or address is None:
            raise InvalidRequestError.of(faults)
        known = current_caller()
        self._faults.reach("message.before_erasure")
        erasure, created = await erasures.begin(
            self._database,
            address=address.canonical,
            reason=request.reason,
            caller=known.id if known else caller,
        )
        self._faults.reach("message.after_erasure")
        _log.info(
            "erasure_begun" if created else "erasure_under_way", erasure_id=erasure.id, by=erasure.caller
        )
        self._wake.set()
        return pb.EraseAddressResponse(erasure=erasure, created=created)

    async def get(self, erasure_id: str) -> pb.Erasure:
        """Return an erasure; raises NotFoundError."""
        async with self._database.read_primary() as connection:
            found = await erasures.get(connection, parse_id("erasure_id", erasure_id))
        if found is None:
            raise NotFoundError("there is no erasure of this id", reason="ERASURE_NOT_FOUND")
        return found

    async def page(self, request: pb.ListErasuresRequest) -> pb.ListErasuresResponse:
        """Return a page of erasures, newest first."""
        size = page_size(request.page_size)
        before = read_id(request.page_token, ["erasures"])
        async with self._database.read_primary() as connection:
            found = await erasures.list_erasures(connection, before=before, limit=size + 1)
        more = len(found) > size
        return pb.ListErasuresResponse(
            erasures=found[:size],
            next_page_token=encode_token(["erasures"], [found[size - 1].id]) if more else "",
        )

    async def run(self) -> None:
        """Work off erasures for ever; cancel to stop. What was interrupted is continued."""
        wait = self._interval
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.work()
                wait = self._interval
            except UnavailableError:
                wait = min(wait * 2, _MAX_WAIT)
                _log.warning("erasing_put_off", seconds=wait)

    async def work(self) -> None:
        """Work off the erasures that there are."""
        async with self._database.hot() as connection:
            pending = await erasures.under_way(connection)
        for erasure in pending:
            while (more := await self._step(erasure)) is not False:
                if more is None:
                    await asyncio.sleep(_PAUSE)
            _log.info("erasure_ended", erasure_id=erasure.id)

    async def _step(self, erasure: erasures.Pending) -> bool | None:
        async with self._database.hot() as connection:
            more = await erasures.step(connection, erasure, self._faults)
        self._faults.reach("message.after_erasure_step")
        return more
