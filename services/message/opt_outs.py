"""The use case of keeping opt-outs by hand: listing, adding and lifting them, and reading their history."""

from posthouse.v1 import message_service_pb2 as pb
from services.kit.enum_names import CONSENT_CHANGE, FAMILY
from services.kit.errors import InvalidRequestError, Violation
from services.kit.fault_points import FaultPoints
from services.kit.fields import read_word
from services.kit.paging import encode_token, page_size, read_id
from services.ledger import consent_reads
from services.ledger.addresses import Address
from services.ledger.database import Database
from services.ledger.opt_outs import Change, ConsentEntry, Recorded, count_consent, record_consent
from services.message.validation import read_address

_MAX_REASON_LENGTH = 500


class OptOutKeeper:
    """Answers for the opt-outs in the ledger."""

    def __init__(self, database: Database, *, faults: FaultPoints | None = None) -> None:
        self._database = database
        self._faults = faults or FaultPoints()

    async def page(self, request: pb.ListOptOutsRequest) -> pb.ListOptOutsResponse:
        """Return a page of the opt-outs that hold, newest first."""
        size = page_size(request.page_size)
        sender, recipient = _filter("sender", request.sender), _filter("recipient", request.recipient)
        family = read_word("channel_family", FAMILY, request.channel_family)
        filter_key = ["opt_outs", sender, recipient, family]
        before = read_id(request.page_token, filter_key)
        async with self._database.read() as connection:
            found = await consent_reads.list_opt_outs(
                connection, sender=sender, recipient=recipient, family=family, before=before, limit=size + 1
            )
        more = len(found) > size
        return pb.ListOptOutsResponse(
            opt_outs=[opt_out for _, opt_out in found[:size]],
            next_page_token=encode_token(filter_key, [found[size - 1][0]]) if more else "",
        )

    async def history(self, request: pb.ListConsentEventsRequest) -> pb.ListConsentEventsResponse:
        """Return a page of the history of consent, newest first."""
        size = page_size(request.page_size)
        sender, recipient = _filter("sender", request.sender), _filter("recipient", request.recipient)
        change = read_word("change", CONSENT_CHANGE, request.change)
        filter_key = ["consent_events", sender, recipient, change]
        before = read_id(request.page_token, filter_key)
        async with self._database.read() as connection:
            events = await consent_reads.list_consent_events(
                connection, sender=sender, recipient=recipient, change=change, before=before, limit=size + 1
            )
        more = len(events) > size
        return pb.ListConsentEventsResponse(
            events=events[:size],
            next_page_token=encode_token(filter_key, [events[size - 1].id]) if more else "",
        )

    async def add(self, request: pb.AddOptOutRequest, *, caller: str) -> pb.AddOptOutResponse:
        """Record an opt-out; one that holds already stays as it is."""
        entry = _entry(request, "opted_out", caller)
        recorded = await self._record(entry)
        async with self._database.read() as connection:
            opt_out = await consent_reads.get_opt_out(connection, entry.sender, entry.recipient)
        return pb.AddOptOutResponse(opt_out=opt_out, created=recorded.effective)

    async def remove(self, request: pb.RemoveOptOutRequest, *, caller: str) -> pb.RemoveOptOutResponse:
        """Lift an opt-out, if there is one."""
        recorded = await self._record(_entry(request, "opted_in", caller))
        return pb.RemoveOptOutResponse(removed=recorded.effective)

    async def _record(self, entry: ConsentEntry) -> Recorded:
        self._faults.reach("message.before_opt_out")
        async with self._database.hot() as connection, connection.transaction():
            recorded = await record_consent(connection, [entry])
        self._faults.reach("message.after_opt_out")
        count_consent(recorded)
        return recorded[0]


def _entry(
    request: pb.AddOptOutRequest | pb.RemoveOptOutRequest, change: Change, caller: str
) -> ConsentEntry:
    faults: list[Violation] = []
    sender = read_address(faults, "sender", request.sender, False, True)
    recipient = read_address(faults, "recipient", request.recipient, False, False)
    if sender is not None and recipient is not None:
        faults += _wrong_with_pair(sender, recipient)
    if len(request.reason) > _MAX_REASON_LENGTH:
        faults.append(Violation("reason", f"must not be longer than {_MAX_REASON_LENGTH} characters"))
    if "\0" in request.reason:
        faults.append(Violation("reason", "must not contain NUL characters"))
    if faults or sender is None or recipient is None:
        raise InvalidRequestError.of(faults)
    return ConsentEntry(
        sender=sender.canonical,
        recipient=recipient.canonical,
        family="email" if recipient.kind == "email" else "sms",
        change=change,
        source="api",
        reason=request.reason or None,
        caller=caller,
    )


def _wrong_with_pair(sender: Address, recipient: Address) -> list[Violation]:
    if (sender.kind == "email") != (recipient.kind == "email"):
        return [Violation("recipient", "is not reached from the sender's kind of address")]
    if sender.canonical == recipient.canonical:
        return [Violation("recipient", "must not be the sender")]
    return []


def _filter(field: str, text: str) -> str:
    """Return the canonical form of an address to filter by, "" for any."""
    if not text:
        return ""
    faults: list[Violation] = []
    address = read_address(faults, field, text, False, True)
    if address is None:
        raise InvalidRequestError.of(faults)
    return address.canonical
