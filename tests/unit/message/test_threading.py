"""Which conversation two addresses share."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.threading import _NAMESPACE, conversation_id, conversation_key, family_of

ANN, BOB = "+15551234567", "+15559876543"


@pytest.mark.parametrize(
    ("channel", "family"),
    [("sms", "sms"), ("mms", "sms"), ("email", "email"), ("voice", "voice"), ("pigeon", "pigeon")],
)
def test_sms_and_mms_share_a_family(channel: str, family: str) -> None:
    assert family_of(channel) == family


def test_ids_never_change() -> None:
    # Stored ids derive from these very bytes: a change here orphans every conversation.
    assert conversation_id("sms", ANN, BOB) == "89997e8c-b501-515f-8819-ecb46925d0fb"


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_are_those_of_the_standard_library(a: str, b: str) -> None:
    first, second = sorted((a, b))
    assert conversation_id("sms", a, b) == str(uuid.uuid5(_NAMESPACE, f"sms\n{first}\n{second}"))


@given(st.text(min_size=1), st.text(min_size=1))
def test_the_order_of_the_addresses_does_not_matter(a: str, b: str) -> None:
    assert conversation_id("sms", a, b) == conversation_id("sms", b, a)
    assert conversation_key("sms", a, b) == conversation_key("sms", b, a) == tuple(sorted((a, b)))


def test_family_and_addresses_tell_conversations_apart() -> None:
    ids = {
        conversation_id(family, a, b)
        for family in ("sms", "email", "voice")
        for a, b in ((ANN, BOB), (ANN, "+1555"), (BOB, "+1555"), (ANN, ANN))
    }
    assert len(ids) == 12
    assert all(uuid.UUID(one).version == 5 for one in ids)
