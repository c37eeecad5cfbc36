"""What is posted to endpoints: signed, once for each event, again until it is taken, and never for ever."""

from datetime import UTC, datetime, timedelta

import pytest

from posthouse.v1 import subscription_pb2
from services.kit.errors import InvalidRequestError, NotFoundError, PreconditionError
from tests.integration.ledger.rows import Book, eventually, make_inbound
from tests.integration.subscriptions.conftest import Desk, Endpoint, OpenDesk

pytestmark = pytest.mark.integration


async def arrive(book: Book, desk: Desk, *bodies: str, sender: str = "+15559876543") -> list[str]:
    """Store inbound messages one after the other, tell the desk, and return their ids."""
    before = {row[0] for row in await book.rows("SELECT id::text FROM messages")}
    for body in bodies:
        await book.accept(make_inbound(f"{sender} {body}", body=body, sender=sender))
    ids = [row[0] for row in await book.rows("SELECT id::text FROM messages ORDER BY id")]
    new = [each for each in ids if each not in before]
    await desk.notes.take(new)
    return new


async def states(book: Book) -> list[str]:
    return [row[0] for row in await book.rows("SELECT state FROM event_deliveries ORDER BY event_time, id")]


async def test_an_event_is_posted_once_and_signed(book: Book, desk: OpenDesk, endpoint: Endpoint) -> None:
    one = desk()
    made, secret = await one.keeper.create(endpoint.url, [], "")
    (message,) = await arrive(book, one, "hello")
    await one.notes.take([message])
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"))
    (post,) = endpoint.posts
    assert post.signed_with(secret)
    assert not post.signed_with("whsec_" + "A" * 43 + "=")
    assert abs(int(post.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 300
    assert post.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert post.id == f"evt_{message.replace('-', '')}_1"
    event = post.event
    assert {name: event[name] for name in ("specversion", "id", "source", "type", "subject")} == {
        "specversion": "1.0",
        "id": f"{message}.1",
        "source": "http://posthouse.test",
        "type": "posthouse.message.received",
        "subject": message,
    }
    assert event["data"]["from"] == "+15559876543"
    assert "body" not in event["data"]
    assert await book.rows(
        "SELECT subscription_id::text, attempt_count, status_code, due_time FROM event_deliveries"
    ) == [(made.id, 1, 200, None)]


async def test_only_what_was_asked_for_and_only_from_then_on(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk(start=False)
    old = await arrive(book, one, "before")
    await one.keeper.create(endpoint.url, ["delivered"], "")
    await one.keeper.create(endpoint.url, ["received", "delivered"], "")
    new = await arrive(book, one, "after")
    await one.notes.take(old + new)
    await one.notes.catch_up()
    assert await book.rows("SELECT message_id::text FROM event_deliveries") == [(new[0],)]


async def test_it_is_tried_again_until_it_is_taken(book: Book, desk: OpenDesk, endpoint: Endpoint) -> None:
    one = desk()
    endpoint.status = 500
    _, secret = await one.keeper.create(endpoint.url, [], "")
    await arrive(book, one, "hello")
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE attempt_count >= 2"))
    assert await book.value("SELECT count(*) FROM subscriptions WHERE fail_time IS NOT NULL")
    endpoint.status = 204
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"))
    assert len(set(endpoint.ids())) == 1
    assert all(post.signed_with(secret) for post in endpoint.posts)
    assert len(endpoint.posts) >= 3
    assert not await book.value("SELECT count(*) FROM subscriptions WHERE fail_time IS NOT NULL")


@pytest.mark.parametrize(("status", "error"), [(500, "refused"), (302, "redirected"), (400, "refused")])
async def test_it_is_given_up_after_the_last_attempt(
    book: Book, desk: OpenDesk, endpoint: Endpoint, status: int, error: str
) -> None:
    one = desk(attempts=3)
    endpoint.status = status
    endpoint.headers = {"Location": endpoint.url}
    await one.keeper.create(endpoint.url, [], "")
    await arrive(book, one, "hello")
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'failed'"))
    assert len(endpoint.posts) == 3
    assert await book.rows("SELECT attempt_count, status_code, error, due_time FROM event_deliveries") == [
        (3, status, error, None)
    ]
    (log,) = (await book.rows("SELECT attempts FROM event_deliveries"))[0]
    assert [attempt[1:3] for attempt in log] == [[status, error]] * 3


async def test_a_lasting_failure_disables_and_what_happens_then_is_held(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk(disable_after=0.001)
    endpoint.status = 503
    made, _ = await one.keeper.create(endpoint.url, [], "")
    await arrive(book, one, "one")
    await eventually(
        lambda: book.value("SELECT count(*) FROM subscriptions WHERE disable_reason = 'failing'")
    )

    async def told() -> bool:
        return one.disabled == [(made.id, "failing")]

    await eventually(told)
    await arrive(book, one, "two")
    assert await states(book) == ["pending", "held"]
    with pytest.raises(PreconditionError):
        await one.keeper.replay_one(made.id, "01a2013f-97bb-731e-867d-9ae1d95a84cc.1")
    endpoint.status = 200
    changed = await one.keeper.change(subscription_pb2.Subscription(id=made.id, disabled=False), ["disabled"])
    assert (changed.disabled, changed.disable_reason, changed.HasField("fail_time")) == (False, "", False)
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"))
    replayed = await one.keeper.replay_range(
        made.id,
        datetime.now(UTC) - timedelta(hours=1),
        datetime.now(UTC) + timedelta(hours=1),
        undelivered_only=True,
    )
    assert replayed == (1, None)
    await eventually(
        lambda: book.value("SELECT count(*) = 2 FROM event_deliveries WHERE state = 'delivered'")
    )


async def test_an_endpoint_that_is_gone_is_disabled_at_once(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk()
    endpoint.status = 410
    await one.keeper.create(endpoint.url, [], "")
    await arrive(book, one, "one")
    await eventually(lambda: book.value("SELECT count(*) FROM subscriptions WHERE disable_reason = 'gone'"))
    assert len(endpoint.posts) == 1


async def test_a_killed_process_has_its_events_posted_by_another_under_the_same_id(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk()
    await one.keeper.create(endpoint.url, [], "")
    endpoint.hold.clear()
    await arrive(book, one, "hello")

    async def posted() -> bool:
        return len(endpoint.posts) == 1

    await eventually(posted)
    await one.die()
    assert await states(book) == ["pending"]
    endpoint.hold.set()
    # The lease is over.
    await book.rows("UPDATE event_deliveries SET due_time = now() - interval '1 second'")
    desk()
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"))
    first, second = endpoint.posts
    assert (first.id, first.body) == (second.id, second.body)


async def test_who_has_lost_the_lease_settles_nothing(book: Book, desk: OpenDesk, endpoint: Endpoint) -> None:
    one = desk()
    made, _ = await one.keeper.create(endpoint.url, [], "")
    endpoint.hold.clear()
    (message,) = await arrive(book, one, "hello")

    async def posted() -> bool:
        return len(endpoint.posts) >= 1

    await eventually(posted)
    assert (await one.keeper.replay_one(made.id, f"{message}.1")).number == 1
    endpoint.hold.set()
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"))
    assert len(endpoint.posts) == 2
    assert len(set(endpoint.ids())) == 1


async def test_first_attempts_keep_the_order_of_a_conversation(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one, two = desk(start=False), desk(start=False)
    await one.keeper.create(endpoint.url, [], "")
    ids = await arrive(book, one, *(f"{number}" for number in range(20)))
    others = await arrive(book, one, *(f"{number}" for number in range(20)), sender="+15559876544")
    one.start()
    two.start()
    await eventually(
        lambda: book.value("SELECT count(*) = 40 FROM event_deliveries WHERE state = 'delivered'")
    )
    seen = [post.event["data"]["message_id"] for post in endpoint.posts]
    assert [each for each in seen if each in ids] == ids
    assert [each for each in seen if each in others] == others
    assert len(seen) == 40


async def test_a_lost_claim_holds_up_its_own_conversation_alone(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk(start=False)
    await one.keeper.create(endpoint.url, [], "")
    (first,) = await arrive(book, one, "first")
    # A process claimed it and died; far more than anybody looks at waits behind it, for longer.
    await book.rows("UPDATE event_deliveries SET due_time = now() + interval '1 hour'")
    waiting = """
INSERT INTO event_deliveries (id, subscription_id, message_id, sequence, event_type, event_time,
  conversation_id, state, due_time, create_time)
SELECT gen_random_uuid(), subscription_id, message_id, 1 + n, event_type, event_time, conversation_id,
  'pending', now() - interval '1 minute', now()
FROM event_deliveries, generate_series(1, 3000) AS n
"""
    await book.rows(waiting)
    other = await arrive(book, one, "hello", sender="+15559876544")
    one.start()
    posted = "SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"
    await eventually(lambda: book.value(posted))
    assert [post.event["data"]["message_id"] for post in endpoint.posts] == other
    # Its lease is over.
    await book.rows("UPDATE event_deliveries SET due_time = now() WHERE due_time > now() + interval '30 min'")
    one.worker.wake()
    await eventually(lambda: book.value(f"{posted} AND message_id = '{first}'"))


async def test_what_stands_in_line_is_given_back_when_a_process_stops(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk(concurrency=1)
    await one.keeper.create(endpoint.url, [], "")
    for number in range(30):
        await arrive(book, one, "hello", sender=f"+1555987{number:04}")
    endpoint.hold.clear()
    held = "SELECT count(*) FROM event_deliveries WHERE due_time > now() + interval '1 second'"
    for number in range(30, 60):
        await arrive(book, one, "hello", sender=f"+1555987{number:04}")
    await eventually(lambda: book.value(f"{held} HAVING count(*) > 1"))
    assert one.task
    one.task.cancel()
    await one.worker.close()
    assert await book.value(held) <= 1


async def test_a_retry_holds_up_nothing(book: Book, desk: OpenDesk, endpoint: Endpoint) -> None:
    one = desk(retry_base=600, retry_max=600)
    endpoint.status = 500
    await one.keeper.create(endpoint.url, [], "")
    await arrive(book, one, "first")
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE attempt_count = 1"))
    endpoint.status = 200
    await arrive(book, one, "second")
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"))
    assert await states(book) == ["pending", "delivered"]


async def test_after_a_rotation_both_secrets_sign_for_a_while(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk()
    made, old = await one.keeper.create(endpoint.url, [], "")
    _, new = await one.keeper.rotate(made.id, timedelta(hours=1))
    await arrive(book, one, "one")
    await eventually(lambda: book.value("SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"))
    assert endpoint.posts[0].signed_with(old)
    assert endpoint.posts[0].signed_with(new)
    _, newest = await one.keeper.rotate(made.id, timedelta(0))
    await arrive(book, one, "two")
    await eventually(
        lambda: book.value("SELECT count(*) = 2 FROM event_deliveries WHERE state = 'delivered'")
    )
    assert [endpoint.posts[1].signed_with(each) for each in (old, new, newest)] == [False, False, True]


async def test_a_slow_endpoint_does_not_hold_up_another(
    book: Book, desk: OpenDesk, endpoint: Endpoint
) -> None:
    one = desk(concurrency=2)
    slow, _ = await one.keeper.create(endpoint.url, [], "")
    endpoint.hold.clear()
    for number in range(10):
        await arrive(book, one, "hello", sender=f"+1555987{number:04}")

    async def busy() -> bool:
        return len(endpoint.posts) == 2

    await eventually(busy)
    # To nobody: it is tried at once, although the first endpoint has taken all it may.
    await one.keeper.create("http://127.0.0.1:9/", [], "")
    await arrive(book, one, "hello", sender="+15559990000")
    await eventually(
        lambda: book.value("SELECT count(*) FROM event_deliveries WHERE error = 'connection_failed'")
    )
    assert len(endpoint.posts) == 2
    assert await one.keeper.delete(slow.id)
    assert not await one.keeper.delete(slow.id)


async def test_what_is_refused(desk: OpenDesk, endpoint: Endpoint) -> None:
    one = desk(start=False)
    for url, types, field in (
        ("http://10.0.0.1/", [], "url"),
        ("https://example.com/", ["delivred"], "event_types"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await one.keeper.create(url, types, "")
        assert caught.value.violations[0].field == field
    made, _ = await one.keeper.create(endpoint.url, [], "")
    with pytest.raises(InvalidRequestError):
        await one.keeper.change(subscription_pb2.Subscription(id=made.id), ["secret"])
    with pytest.raises(NotFoundError) as missing:
        await one.keeper.replay_one(made.id, "01a2013f-97bb-731e-867d-9ae1d95a84cc.1")
    assert missing.value.reason == "EVENT_NOT_FOUND"
    with pytest.raises(NotFoundError) as missing:
        await one.keeper.rotate("01a2013f-97bb-731e-867d-9ae1d95a84cc", timedelta(0))
    assert missing.value.reason == "SUBSCRIPTION_NOT_FOUND"
