"""The words of consent: the whole message, in any case, and nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.accept import Acceptance, Intake
from services.ledger.drafts import Draft
from services.ledger.opt_outs import ConsentEntry
from services.ledger.receipts import AppliedReceipt
from services.message.consent import HELP_WORDS, START_WORDS, STOP_WORDS, consent_entries, keyword_of
from tests.unit.message.test_inbound import ANN, BOB, NOW, draft_of

STOP = ["STOP", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT", "CANCEL"]
START = ["START", "YES", "UNSTOP"]
ALL = [*STOP, *START, "HELP"]


def test_the_words_are_those_of_the_carriers() -> None:
    assert set(STOP) == STOP_WORDS
    assert set(START) == START_WORDS
    assert {"HELP"} == HELP_WORDS


@given(word=st.sampled_from(ALL), data=st.data())
def test_any_case_and_any_space_around(word: str, data: st.DataObject) -> None:
    cased = "".join(data.draw(st.sampled_from([letter, letter.lower()])) for letter in word)
    space = st.text(" \t\r\n\u00a0\u2003", max_size=5)
    assert keyword_of(data.draw(space) + cased + data.draw(space), "sms") == word


@given(word=st.sampled_from(ALL), more=st.text(min_size=1, max_size=8).filter(lambda text: text.strip()))
def test_a_word_among_others_is_none(word: str, more: str) -> None:
    for body in (f"{word} {more}", f"{more} {word}", f"{word}{more}"):
        found = keyword_of(body, "sms")
        # STOP and ALL are a word together.
        assert found is None or found == body.strip().upper()


@pytest.mark.parametrize(
    "body",
    ["", " ", "STOP 12345", "STOP.", "STOP!", "don't stop", "\u017ftop", "\uff33TOP", "stop\0", "S\nTOP"],
)
def test_no_words(body: str) -> None:
    assert keyword_of(body, "sms") is None


def test_a_yes_by_email_answers_something_else() -> None:
    assert keyword_of("Yes", "sms") == "YES"
    assert keyword_of("Yes", "email") is None
    assert keyword_of("Stop", "email") == "STOP"
    assert keyword_of("Unstop", "email") == "UNSTOP"


def entries_of(*drafts: Draft, repeated: bool = False, applied: Any = ()) -> list[ConsentEntry]:
    items = [Intake(f"m{number}", draft) for number, draft in enumerate(drafts)]
    stored = frozenset() if repeated else frozenset(item.id for item in items)
    return consent_entries(items, [Acceptance(NOW, stored, [], "o1")], applied)


def test_the_contact_speaks_of_messages_to_itself() -> None:
    assert entries_of(draft_of(body="stop"), draft_of(body="hello"), draft_of(body="help")) == [
        ConsentEntry(
            sender=ANN,
            recipient=BOB,
            family="sms",
            change=change,
            source="contact",
            keyword=keyword,
            message_id=message_id,
            event_time=NOW,
        )
        for change, keyword, message_id in (("opted_out", "STOP", "m0"), ("help", "HELP", "m2"))
    ]


def test_a_repeat_says_nothing() -> None:
    assert entries_of(draft_of(body="stop"), repeated=True) == []


@pytest.mark.parametrize(("code", "count"), [("21610", 1), ("30003", 0), (None, 0)])
def test_what_providers_report(code: str | None, count: int) -> None:
    receipt = AppliedReceipt(
        event_key="k",
        message_id="m9",
        sequence=4,
        state="undelivered",
        moved=True,
        conversation_id="c",
        channel="mms",
        sender=ANN,
        recipient=BOB,
        provider="twilio",
        attempt=1,
        error_code=code,
        webhook_log_id=None,
        create_time=NOW,
    )
    entries = entries_of(applied=[receipt])
    assert len(entries) == count
    for entry in entries:
        assert (entry.sender, entry.recipient, entry.family, entry.change) == (ANN, BOB, "sms", "opted_out")
        assert (entry.source, entry.message_id) == ("provider", "m9")
