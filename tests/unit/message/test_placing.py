"""Receipts of a request as rows: each piece of news once, and counted by what became of it."""

import pytest

from services.kit import metrics
from services.ledger.receipts import AppliedReceipt
from services.message.placing import count_receipts, distinct_receipts
from services.providers.base import Receipt

_OURS = "01a2013f-97bb-731e-867d-9ae1d95a84cc"


def _receipt(message_id: str = "", key: str = "e1", provider_message_id: str = "P1") -> Receipt:
    return Receipt(
        event_key=key, state="delivered", message_id=message_id, provider_message_id=provider_message_id
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([_receipt(), _receipt(_OURS)], _OURS),
        ([_receipt(_OURS), _receipt()], _OURS),
        ([_receipt("no id of ours"), _receipt()], None),
    ],
)
def test_of_repeats_the_one_that_names_a_message_of_ours_counts(
    given: list[Receipt], kept: str | None
) -> None:
    (row,) = distinct_receipts("carrier", given, "log")
    assert (row.provider, row.event_key, row.message_id) == ("carrier", "e1", kept)


def test_of_equals_the_first_counts() -> None:
    given = [_receipt(_OURS, provider_message_id="P1"), _receipt(_OURS, provider_message_id="P2")]
    (row,) = distinct_receipts("carrier", given, "log")
    assert row.provider_message_id == "P1"


def test_different_news_are_all_kept() -> None:
    rows = distinct_receipts("carrier", [_receipt(key="e1"), _receipt(key="e2")], "log")
    assert [row.event_key for row in rows] == ["e1", "e2"]


def _counted() -> list[float]:
    return [metrics.RECEIPTS.labels(what)._value.get() for what in ("moved", "late", "duplicate")]


def test_each_receipt_is_counted_once() -> None:
    applied = [AppliedReceipt(*[None] * 14)._replace(moved=moved) for moved in (True, True, False)]  # type: ignore[arg-type]
    before = _counted()
    count_receipts(7, applied)
    assert [after - then for after, then in zip(_counted(), before, strict=True)] == [2, 1, 4]
