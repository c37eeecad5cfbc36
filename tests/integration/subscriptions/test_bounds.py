"""Bounds of subscriptions: how many there are, and how much one call may ask for."""

from datetime import UTC, datetime, timedelta

import pytest

from posthouse.v1 import subscription_pb2
from services.conversation import subscriptions
from services.kit.errors import InvalidRequestError, PreconditionError
from tests.integration.ledger.rows import Book
from tests.integration.subscriptions.conftest import Endpoint, OpenDesk
from tests.integration.subscriptions.test_deliveries import arrive

pytestmark = pytest.mark.integration


async def test_there_are_no_more_than_a_number(
    desk: OpenDesk, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "MOST_SUBSCRIPTIONS", 2)
    keeper = desk(start=False).keeper
    first, _ = await keeper.create(endpoint.url, [], "x" * 200)
    await keeper.create(endpoint.url, [], "")
    with pytest.raises(PreconditionError):
        await keeper.create(endpoint.url, [], "")
    assert await keeper.delete(first.id)
    await keeper.create(endpoint.url, [], "")


async def test_what_is_too_long_is_refused(desk: OpenDesk, endpoint: Endpoint) -> None:
    keeper = desk(start=False).keeper
    made, _ = await keeper.create(endpoint.url, [], "")
    with pytest.raises(InvalidRequestError, match="description"):
        await keeper.create(endpoint.url, [], "x" * 201)
    await keeper.rotate(made.id, timedelta(days=30))
    for overlap in (timedelta(days=30, microseconds=1), timedelta(microseconds=-1)):
        with pytest.raises(InvalidRequestError, match="overlap"):
            await keeper.rotate(made.id, overlap)


async def test_disabling_twice_is_told_once(desk: OpenDesk, endpoint: Endpoint) -> None:
    one = desk(start=False)
    made, _ = await one.keeper.create(endpoint.url, [], "")
    for _ in range(2):
        await one.keeper.change(subscription_pb2.Subscription(id=made.id, disabled=True), ["disabled"])
    assert [subscription_id for subscription_id, _ in one.disabled] == [made.id]


async def test_a_long_range_is_replayed_piece_by_piece(
    book: Book, desk: OpenDesk, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "_REPLAY", 2)
    one = desk(start=False)
    made, _ = await one.keeper.create(endpoint.url, [], "")
    await arrive(book, one, "one", "two", "three")
    since, until = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    first = await one.keeper.replay_range(made.id, since, until, undelivered_only=False)
    assert first.number == 2
    assert first.resume_time is not None
    rest = await one.keeper.replay_range(made.id, first.resume_time, until, undelivered_only=False)
    assert rest.number == 2  # it begins with the last one of the piece before
    with pytest.raises(InvalidRequestError, match="until"):
        await one.keeper.replay_range(made.id, since, since, undelivered_only=False)
