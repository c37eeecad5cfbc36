"""Whatever comes in, in whatever order: PostgreSQL does what a ten-line model does, and never goes back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ledger.states import MOVES

from .rows import Book, make_draft, settlement_for

pytestmark = pytest.mark.integration

# How far a message has come; news may never take it back. Written down once more on purpose: the state
# table itself is under test.
_PROGRESS = {
    "pending": 0,
    "sending": 1,
    "unknown": 1,
    "sent": 2,
    "failed": 3,
    "undelivered": 3,
    "delivered": 4,
    "read": 5,
}

_receipts = st.sampled_from(["sent", "delivered", "read", "undelivered", "failed", ""])
_keys = st.integers(0, 3)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("receipt"), _receipts, _keys),
        st.tuples(st.just("outcome"), st.sampled_from(["sent", "failed", "unknown"]), st.just(0)),
    ),
    min_size=1,
    max_size=8,
)


@dataclass
class _Model:
    """What a message is to become."""

    state: str = "sending"
    story: list[str] = field(default_factory=lambda: ["accepted", "sending"])
    keys: set[int] = field(default_factory=set)

    def take(self, kind: str, state: str, key: int) -> None:
        if kind == "receipt":
            if key in self.keys:
                return
            self.keys.add(key)
        if state in MOVES[self.state]:
            self.state = state
            self.story.append(state)
        else:
            self.story.append("receipt")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
async def test_every_order_of_news_ends_as_the_model_says(
    book: Book, steps: list[tuple[str, str, int]]
) -> None:
    (message,) = await book.claimed(make_draft())
    model = _Model()
    for kind, state, key in steps:
        before = await book.state(message.id)
        if kind == "receipt":
            await book.receive(message.id, state, event_key=f"{message.id}-{key}")
        else:
            await book.settle(settlement_for(message, state))
        model.take(kind, state, key)
        after = await book.state(message.id)
        assert after == model.state
        assert _PROGRESS[after] >= _PROGRESS[before]
    assert await book.story(message.id) == model.story
    assert await book.rows("SELECT state_sequence, error_code FROM messages WHERE id = %s", message.id) == [
        (max(n for n, kind in enumerate(model.story, 1) if kind != "receipt"), None)
    ]
