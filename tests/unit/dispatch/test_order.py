"""Later messages of a conversation wait for earlier ones, and others do not wait for them."""

import asyncio

import pytest

from services.dispatch.order import Order, join
from services.dispatch.sending import in_order

from .samples import claimed, route


def _messages(conversations: str, first: int = 0) -> list:  # type: ignore[type-arg]
    return [
        claimed(id=f"m{first + number}", conversation_id=name) for number, name in enumerate(conversations)
    ]


def _ids(parts: object) -> list[list[str]]:
    return [[message.id for message in part.messages] for part in parts]  # type: ignore[attr-defined]


async def test_what_is_free_leaves_first_and_the_rest_waits() -> None:
    order = Order()
    with order.enter(_messages("aab")) as first:
        assert _ids(first) == [["m0", "m1", "m2"]]
        assert not first[0].must_wait
        with order.enter(_messages("bcbc", 3)) as second:
            assert _ids(second) == [["m4", "m6"], ["m3", "m5"]]
            free, held = second
            assert (free.must_wait, held.must_wait) == (False, True)
            # The third waits for the second alone, which waits for the first.
            with order.enter(_messages("b", 7)) as third:
                order.leave(first[0])
                assert (held.must_wait, third[0].must_wait) == (False, True)
                waiting = asyncio.create_task(third[0].wait())
                await asyncio.sleep(0)
                assert not waiting.done()
                order.leave(held)
                await asyncio.wait_for(waiting, 30)
    assert not order._last


async def test_in_company_each_conversation_waits_for_what_is_its_own() -> None:
    order = Order()
    with order.enter(_messages("abacb"), {"a": {"x1", "x2"}, "b": {"x3"}}) as parts:
        assert _ids(parts) == [["m3"], ["m0", "m2"], ["m1", "m4"]]
        assert [part.must_wait for part in parts] == [False, True, True]
        assert [part.elsewhere for part in parts] == [set(), {"x1", "x2"}, {"x3"}]
        joined = join(parts[1:])
        assert _ids([joined]) == [["m0", "m1", "m2", "m4"]]
        # Alone again, a batch waits for it here.
        with order.enter(_messages("b", 5)) as (next_part,):
            assert next_part.must_wait
            order.leave(joined)
            assert not next_part.must_wait
    assert not order._last


async def test_a_batch_that_fails_holds_nobody_up_and_is_forgotten() -> None:
    order = Order()
    with pytest.raises(ZeroDivisionError), order.enter(_messages("a")):
        _ = 1 / 0
    with order.enter(_messages("a", 1)) as (part,):
        assert not part.must_wait
    assert not order._last


def test_a_conversation_with_two_providers_keeps_its_order() -> None:
    first, second = route("first"), route("second")
    one, two, three = _messages("aaa")
    other = claimed(id="m9", conversation_id="b")
    rounds = in_order({"first": [(one, first), (three, first), (other, first)], "second": [(two, second)]})
    assert [(name, [message.id for message, _ in pairs]) for name, pairs in rounds] == [
        ("first", ["m0", "m9"]),
        ("second", ["m1"]),
        ("first", ["m2"]),
    ]
    alone = {"first": [(three, first), (one, first)]}
    assert list(in_order(alone)) == list(alone.items())
