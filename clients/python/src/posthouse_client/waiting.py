"""When a message counts as delivered, and how often to look."""

from collections.abc import Iterator

from posthouse.v1.message_pb2 import Message, MessageState
from posthouse_client.errors import NotDeliveredError

_DELIVERED = frozenset({MessageState.MESSAGE_STATE_DELIVERED, MessageState.MESSAGE_STATE_READ})
# Unknown is not among them: it may still turn out to be delivered.
_ENDED = frozenset(
    {
        MessageState.MESSAGE_STATE_FAILED,
        MessageState.MESSAGE_STATE_UNDELIVERED,
        MessageState.MESSAGE_STATE_CANCELLED,
    }
)


def is_delivered(message: Message, *, sent_is_enough: bool) -> bool:
    """Tell whether it is; raise NotDeliveredError when it has come to another end."""
    if message.state in _ENDED:
        raise NotDeliveredError(message)
    if sent_is_enough and message.state == MessageState.MESSAGE_STATE_SENT:
        return True
    return message.state in _DELIVERED


def pauses() -> Iterator[float]:
    """Yield the seconds between two looks: short at first, a second in the end."""
    pause = 0.05
    while True:
        yield pause
        pause = min(1.0, pause * 1.5)
