"""The words by which contacts give and withdraw their consent, and what intake makes of them."""

from collections.abc import Iterable, Sequence
from typing import Final

from services.kit.errors import PreconditionError, Violation
from services.ledger.accept import Acceptance, Intake
from services.ledger.opt_outs import OPTED_OUT_CODES, Change, ConsentEntry
from services.ledger.receipts import AppliedReceipt
from services.ledger.threading import family_of

STOP_WORDS: Final = frozenset({"STOP", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT", "CANCEL"})
START_WORDS: Final = frozenset({"START", "YES", "UNSTOP"})
HELP_WORDS: Final = frozenset({"HELP"})

_CHANGES: Final[dict[str, Change]] = {
    **dict.fromkeys(STOP_WORDS, "opted_out"),
    **dict.fromkeys(START_WORDS, "opted_in"),
    **dict.fromkeys(HELP_WORDS, "help"),
}
# A "Yes" by e-mail answers a question; carriers take it for consent, nobody else does.
_EMAIL_CHANGES: Final = {word: change for word, change in _CHANGES.items() if word != "YES"}
_LONGEST: Final = max(map(len, _CHANGES))


def keyword_of(body: str, family: str) -> str | None:
    """Return the consent word in upper case that is the whole of a contact's message; None: it is none."""
    word = body.strip()
    if not word or len(word) > _LONGEST or not word.isascii():
        return None
    word = word.upper()
    return word if word in (_EMAIL_CHANGES if family == "email" else _CHANGES) else None


def opted_out() -> PreconditionError:
    """Return the refusal of a send to a recipient who has opted out."""
    return PreconditionError(
        "the recipient has opted out of messages from this sender",
        reason="OPTED_OUT",
        violations=[Violation("recipient", "has opted out of messages from this sender")],
    )


def touches_consent(items: Iterable[Intake]) -> bool:
    """Tell whether items may have something for the history of consent."""
    return any(item.draft.keyword or item.draft.transactional for item in items)


def overriding(items: Iterable[Intake], acceptances: Sequence[Acceptance]) -> list[str]:
    """Return the messages just stored that go out even to a recipient who has opted out."""
    stored = _stored(acceptances)
    return [item.id for item in items if item.draft.transactional and item.id in stored]


def consent_entries(
    items: Iterable[Intake], acceptances: Sequence[Acceptance], applied: Iterable[AppliedReceipt]
) -> list[ConsentEntry]:
    """Return what contacts have said in messages just stored, then what providers say they have."""
    stored = _stored(acceptances)
    said = [
        ConsentEntry(
            # The contact wrote to our address: the opt-out is of messages the other way.
            sender=item.draft.recipient,
            recipient=item.draft.sender,
            family=item.draft.family,
            change=_CHANGES[item.draft.keyword],
            source="contact",
            keyword=item.draft.keyword,
            message_id=item.id,
            event_time=item.draft.message_time,
        )
        for item in items
        if item.draft.keyword and item.id in stored
    ]
    reported = [
        ConsentEntry(
            sender=receipt.sender,
            recipient=receipt.recipient,
            family=family_of(receipt.channel),
            change="opted_out",
            source="provider",
            reason=f"{receipt.provider} reported error {receipt.error_code}",
            message_id=receipt.message_id,
        )
        for receipt in applied
        if receipt.message_id is not None and receipt.error_code in OPTED_OUT_CODES
    ]
    return [*said, *reported]


def _stored(acceptances: Sequence[Acceptance]) -> frozenset[str]:
    return frozenset().union(*(acceptance.stored for acceptance in acceptances))
