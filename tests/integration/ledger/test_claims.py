"""The fence: whatever is redelivered, cancelled or raced for, a message is claimed once at a time."""

import asyncio
from typing import Any

import pytest

from services.kit.ids import new_id
from services.ledger.cancel import cancel
from services.ledger.claims import claim, keep, renew
from services.ledger.database import Database
from services.ledger.inquiries import claim_inquiries, claim_orphans, postpone
from services.ledger.refusals import refuse_waiting
from services.ledger.waiting import load_waiting

from .rows import LATER, Book, make_draft, settlement_for

pytestmark = pytest.mark.integration


async def test_a_claim_makes_messages_ours(book: Book) -> None:
    drafts = [make_draft(body="first", html="<p>", subject="s"), make_draft(body="second")]
    acceptance = await book.accept(*drafts)
    (envelope,) = acceptance.envelopes
    claimed, taken = await book.claim([envelope.outbox_id], owner=7)
    assert taken == [envelope.outbox_id]
    assert [(m.id, m.body, m.attempt, m.event_count) for m in claimed] == [
        (envelope.message_ids[0], "first", 1, 2),
        (envelope.message_ids[1], "second", 1, 2),
    ]
    assert (claimed[0].html, claimed[0].subject, claimed[0].create_time) == (
        "<p>",
        "s",
        acceptance.create_time,
    )
    assert await book.value("SELECT owner FROM outbox WHERE id = %s", envelope.outbox_id) == 7
    for message in claimed:
        assert await book.state(message.id) == "sending"
        assert await book.story(message.id) == ["accepted", "sending"]


@pytest.mark.parametrize("limit", [None, 1])
async def test_messages_are_claimed_in_the_order_they_were_accepted(
    book: Book, database: Database, limit: int | None
) -> None:
    """Their ids say otherwise: those who took them in have different clocks."""
    fast, slow = new_id().replace("01", "02", 1), new_id()
    taken = [await book.accept(make_draft(), ids=[one]) for one in (fast, slow)]
    boxes = [envelope.outbox_id for acceptance in taken for envelope in acceptance.envelopes]
    options: Any = {"lease": LATER, "republish_after": LATER, "limit": limit}
    async with database.hot() as connection:
        waiting = await load_waiting(connection, boxes)
        claimed, _ = await claim(connection, boxes, owner=1, event_outbox_id=new_id(), **options)
    assert [message.id for message in waiting] == [fast, slow]
    assert [message.id for message in claimed] == [fast, slow][:limit]


async def test_concurrent_claims_of_one_envelope_share_nothing(book: Book, database: Database) -> None:
    acceptance = await book.accept(*(make_draft() for _ in range(20)))
    (envelope,) = acceptance.envelopes
    options: Any = {"lease": LATER, "republish_after": LATER}
    async with database.hot() as first, database.hot() as second, first.transaction():
        won, _ = await claim(first, [envelope.outbox_id], owner=1, event_outbox_id=new_id(), **options)
        # The second does not wait for the first: another envelope may be free.
        async with asyncio.timeout(50):
            lost, lost_taken = await claim(
                second, [envelope.outbox_id], owner=2, event_outbox_id=new_id(), **options
            )
    assert {message.id for message in won} == acceptance.stored
    assert (lost, list(lost_taken)) == ([], [])


async def test_many_dispatchers_claim_each_message_once(book: Book) -> None:
    envelopes = [(await book.accept(make_draft(), make_draft())).envelopes[0] for _ in range(10)]
    outbox_ids = [envelope.outbox_id for envelope in envelopes]
    claims = await asyncio.gather(
        *(book.claim(outbox_ids[owner:] + outbox_ids[:owner], owner=owner) for owner in range(1, 7))
    )
    claimed = [message.id for messages, _ in claims for message in messages]
    # A row that another holds for a moment is passed over, not waited for: what is left is claimed next.
    claimed += [message.id for message in (await book.claim(outbox_ids, owner=9))[0]]
    assert sorted(claimed) == sorted(one for envelope in envelopes for one in envelope.message_ids)
    assert await book.rows("SELECT DISTINCT state, attempt_count, event_count FROM messages") == [
        ("sending", 1, 2)
    ]


async def test_an_envelope_under_way_is_not_taken_again(book: Book) -> None:
    (message,) = await book.claimed(make_draft(), owner=1)
    for owner in (1, 2):
        assert await book.claim([message.outbox_id], owner=owner) == ([], [])
    assert await book.story(message.id) == ["accepted", "sending"]


async def test_an_envelope_nobody_knows_is_not_taken(book: Book) -> None:
    acceptance = await book.accept(make_draft())
    claimed, taken = await book.claim([new_id(), acceptance.envelopes[0].outbox_id])
    assert (len(claimed), taken) == (1, [acceptance.envelopes[0].outbox_id])
    assert await book.claim([]) == ([], [])


async def test_cancelled_messages_are_passed_over(book: Book, database: Database) -> None:
    (envelope,) = (await book.accept(make_draft(), make_draft(), make_draft())).envelopes
    gone = envelope.message_ids[1]
    async with database.hot() as connection:
        assert await cancel(connection, gone, event_outbox_id=new_id(), republish_after=LATER) is not None
    claimed, taken = await book.claim([envelope.outbox_id])
    assert [message.id for message in claimed] == [envelope.message_ids[0], envelope.message_ids[2]]
    assert taken == [envelope.outbox_id]
    assert await book.story(gone) == ["accepted", "cancelled"]
    assert await book.state(gone) == "cancelled"


async def test_a_claimed_message_is_not_cancelled(book: Book, database: Database) -> None:
    (message,) = await book.claimed(make_draft())
    async with database.hot() as connection:
        assert await cancel(connection, message.id, event_outbox_id=new_id(), republish_after=LATER) is None
    assert await book.story(message.id) == ["accepted", "sending"]


async def test_what_has_expired_is_not_claimed(book: Book) -> None:
    (envelope,) = (await book.accept(make_draft(), make_draft())).envelopes
    late = envelope.message_ids[0]
    await book.rows("UPDATE messages SET expire_time = now() - interval '1 second' WHERE id = %s", late)
    claimed, _ = await book.claim([envelope.outbox_id])
    assert [message.id for message in claimed] == envelope.message_ids[1:]
    assert await book.rows("SELECT state, attempt_count FROM messages WHERE id = %s", late) == [
        ("pending", 0)
    ]


async def test_an_envelope_says_whether_a_dispatcher_has_died_over_it(book: Book, database: Database) -> None:
    fresh, held = [(await book.accept(make_draft())).envelopes[0].outbox_id for _ in range(2)]
    await book.claim([held], owner=1)
    await book.rows("UPDATE outbox SET owner = 0, publish_count = 1 WHERE id = %s", held)
    # A row that was published twice, and claimed by nobody, has no orphans.
    await book.rows("UPDATE outbox SET publish_count = 2 WHERE id = %s", fresh)
    async with database.hot() as connection:
        _, taken = await claim(
            connection,
            [fresh, held],
            owner=2,
            lease=LATER,
            event_outbox_id=new_id(),
            republish_after=LATER,
        )
    assert taken == {fresh: False, held: True}


async def test_renewing_and_postponing_touch_only_what_is_held(book: Book, database: Database) -> None:
    messages = [(await book.claimed(make_draft(), owner=owner))[0] for owner in (1, 2)]
    ids = [message.outbox_id for message in messages]
    due = "SELECT owner, due_time > now() + interval '50 days' FROM outbox WHERE id = ANY(%s) ORDER BY id"
    async with database.hot() as connection:
        await renew(connection, ids, owner=1, lease=60 * 86_400.0)
    assert await book.rows(due, ids) == [(1, True), (2, False)]
    async with database.hot() as connection:
        await postpone(connection, ids, owner=2, delay=60 * 86_400.0, asked=1)
    assert await book.rows(due, ids) == [(1, True), (None, True)]


async def test_orphans_of_a_dead_dispatcher_are_unknown_and_to_be_asked_for(
    book: Book, database: Database
) -> None:
    sending, settled = await book.claimed(make_draft(), make_draft(), owner=1)
    await book.settle(settlement_for(settled, "sent"))
    await book.rows("UPDATE outbox SET owner = 0 WHERE id = %s", sending.outbox_id)
    claimed, taken = await book.claim([sending.outbox_id], owner=2)
    assert (claimed, taken) == ([], [sending.outbox_id])
    async with database.hot() as connection:
        for expected in ([sending.id], []):
            orphans = await claim_orphans(
                connection,
                taken,
                owner=2,
                own=[],
                lease=LATER,
                inquiry_delay=LATER,
                event_outbox_id=new_id(),
            )
            assert [orphan.id for orphan in orphans] == expected
    assert await book.story(sending.id) == ["accepted", "sending", "unknown"]
    assert await book.story(settled.id) == ["accepted", "sending", "sent"]
    assert await book.rows(
        "SELECT number, outcome, error_code FROM dispatch_attempts WHERE message_id = %s", sending.id
    ) == [(1, "unknown", "dispatcher_lost")]
    inquiry = await book.rows(
        "SELECT id::text, message_ids::text[] FROM outbox WHERE subject = 'posthouse.dispatch.sms.inquiry'"
    )
    assert [ids for _, ids in inquiry] == [[sending.id]]
    async with database.hot() as connection:
        asked = await claim_inquiries(connection, [inquiry[0][0]], owner=3, lease=LATER)
        again = await claim_inquiries(connection, [inquiry[0][0]], owner=4, lease=LATER)
    assert ([message.id for message in asked[0]], list(asked[1])) == ([sending.id], [inquiry[0][0]])
    assert (again[0], list(again[1])) == ([], [])


async def test_messages_a_dispatcher_has_just_claimed_are_no_orphans(book: Book, database: Database) -> None:
    own, other = await book.claimed(make_draft(), make_draft(), owner=1)
    async with database.hot() as connection:
        for owner, expected in ((2, []), (1, [other.id])):
            orphans = await claim_orphans(
                connection,
                [own.outbox_id],
                owner=owner,
                own=[own.id],
                lease=LATER,
                inquiry_delay=LATER,
                event_outbox_id=new_id(),
            )
            assert [orphan.id for orphan in orphans] == expected


async def test_what_another_dispatcher_is_sending_again_is_no_orphan(book: Book, database: Database) -> None:
    again, lost = await book.claimed(make_draft(), make_draft(), owner=1)
    await book.settle(settlement_for(again, "pending", delay=0.0))
    # The first one dies over the other message; before that is noticed, a second one takes up the retry.
    retry = await book.value(
        "SELECT id::text FROM outbox"
        " WHERE message_ids = ARRAY[%s::uuid] AND subject = 'posthouse.dispatch.sms.retry'",
        again.id,
    )
    assert [message.id for message in (await book.claim([retry], owner=2))[0]] == [again.id]
    await book.rows("UPDATE outbox SET owner = 0 WHERE id = %s", lost.outbox_id)
    _, taken = await book.claim([lost.outbox_id], owner=3)
    async with database.hot() as connection:
        orphans = await claim_orphans(
            connection, taken, owner=3, own=[], lease=LATER, inquiry_delay=LATER, event_outbox_id=new_id()
        )
    assert [orphan.id for orphan in orphans] == [lost.id]
    assert await book.state(again.id) == "sending"


async def test_what_a_dead_dispatcher_put_back_is_not_taken_before_its_time(
    book: Book, database: Database
) -> None:
    later, sent = await book.claimed(make_draft(), make_draft(), owner=1)
    await book.settle(settlement_for(later, "pending", delay=LATER), settlement_for(sent, "sent"))
    await book.rows("UPDATE outbox SET owner = 0 WHERE owner = 1")
    claimed, taken = await book.claim([later.outbox_id], owner=2)
    assert (claimed, taken) == ([], [later.outbox_id])
    async with database.hot() as connection:
        refused = await refuse_waiting(
            connection, taken, owner=2, event_outbox_id=new_id(), republish_after=LATER
        )
    assert refused == []
    await book.settle(closing=taken, owner=2)
    # Its own envelope alone is left, for its time.
    ((retry, waits),) = await book.rows(
        "SELECT id::text, due_time > now() + interval '1 minute' FROM outbox WHERE %s = ANY(message_ids)"
        " AND subject LIKE 'posthouse.dispatch.%%'",
        later.id,
    )
    assert waits
    assert [message.id for message in (await book.claim([retry], owner=2))[0]] == [later.id]


async def test_what_two_take_over_at_the_same_moment_is_forgotten_by_neither(
    book: Book, database: Database
) -> None:
    """A dispatcher has died over a message that is in two of its envelopes: the first one, and its retry."""
    again, other = await book.claimed(make_draft(), make_draft(), owner=1)
    await book.settle(settlement_for(again, "pending", delay=0.0))
    retry = await book.value(
        "SELECT id::text FROM outbox WHERE subject = 'posthouse.dispatch.sms.retry'",
    )
    await book.claim([retry], owner=1)
    await book.settle(settlement_for(other, "sent"))
    await book.rows("UPDATE outbox SET owner = 0 WHERE owner = 1")

    async def adopt(taken: list[str], owner: int) -> list[str]:
        async with database.hot() as connection:
            orphans = await claim_orphans(
                connection,
                taken,
                owner=owner,
                own=[],
                lease=0.0,
                inquiry_delay=LATER,
                event_outbox_id=new_id(),
            )
        return [orphan.id for orphan in orphans]

    claims = [
        (await book.claim([outbox_id], owner=owner))[1]
        for owner, outbox_id in ((2, again.outbox_id), (3, retry))
    ]
    assert [await adopt(taken, owner) for owner, taken in enumerate(claims, start=2)] == [[], []]
    for owner, taken in enumerate(claims, start=2):
        await book.settle(closing=taken, owner=owner)
    # Both have closed what they had.
    left = await book.rows("SELECT id::text FROM outbox WHERE owner = 0 AND %s = ANY(message_ids)", again.id)
    claimed, taken = await book.claim([left[0][0]], owner=4)
    assert claimed == []
    assert await adopt(taken, 4) == [again.id]
    assert await book.state(again.id) == "unknown"


async def test_an_envelope_is_given_back_without_what_is_done_with(book: Book, database: Database) -> None:
    some, none = [
        (await book.accept(make_draft(), make_draft(), make_draft())).envelopes[0] for _ in range(2)
    ]
    outbox_ids = [some.outbox_id, none.outbox_id]
    await book.claim(outbox_ids, owner=7)
    done = [some.message_ids[1], *none.message_ids]
    async with database.hot() as connection:
        await keep(connection, outbox_ids, without=done, owner=8, delay=0.0)
    assert await book.value("SELECT count(*) FROM outbox WHERE owner = 7") == 2
    async with database.hot() as connection:
        await keep(connection, outbox_ids, without=done, owner=7, delay=0.0)
    # One in which nothing remains is closed: nobody would ever claim anything in it again.
    rows = await book.rows(
        "SELECT id::text, owner, message_ids::text[] FROM outbox WHERE id = ANY(%s)", outbox_ids
    )
    assert rows == [(some.outbox_id, None, [some.message_ids[0], some.message_ids[2]])]
