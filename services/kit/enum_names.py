"""Enum values between their three spellings: number (protobuf), word (JSON, SQL), name (Python)."""

from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from posthouse.v1 import auth_pb2, consent_pb2, conversation_pb2, dispatch_pb2, message_pb2, subscription_pb2


class EnumNames:
    """Both ways between an enum's numbers and its lower-case words: CHANNEL_SMS is 1 is "sms".

    The unspecified value is the empty word.
    """

    def __init__(self, wrapper: EnumTypeWrapper, prefix: str) -> None:
        pairs = [(number, name.removeprefix(prefix).lower()) for name, number in wrapper.items()]
        self._words = {number: "" if word == "unspecified" else word for number, word in pairs}
        self._numbers = {word: number for number, word in self._words.items()}
        self.words = tuple(word for word in self._numbers if word)

    def word(self, number: int) -> str:
        """Return the word of a number, "" when it is unspecified or unknown."""
        return self._words.get(number, "")

    def number(self, word: str | None) -> Any:
        """Return the number of a word; an unknown word raises KeyError, None or "" is unspecified.

        Typed as Any, since each enum has a type of its own.
        """
        return self._numbers[word or ""]

    def knows(self, number: int) -> bool:
        """Tell whether the number is one of the enum's."""
        return number in self._words


CHANNEL = EnumNames(message_pb2.Channel, "CHANNEL_")
DIRECTION = EnumNames(message_pb2.Direction, "DIRECTION_")
STATE = EnumNames(message_pb2.MessageState, "MESSAGE_STATE_")
PRIORITY = EnumNames(message_pb2.Priority, "PRIORITY_")
ENCODING = EnumNames(message_pb2.SegmentEncoding, "SEGMENT_ENCODING_")
FAMILY = EnumNames(conversation_pb2.ChannelFamily, "CHANNEL_FAMILY_")
BREAKER = EnumNames(dispatch_pb2.BreakerState, "BREAKER_STATE_")
OUTCOME = EnumNames(dispatch_pb2.AttemptOutcome, "ATTEMPT_OUTCOME_")
CONSENT_CHANGE = EnumNames(consent_pb2.ConsentChange, "CONSENT_CHANGE_")
CONSENT_SOURCE = EnumNames(consent_pb2.ConsentSource, "CONSENT_SOURCE_")
SCOPE = EnumNames(auth_pb2.Scope, "SCOPE_")
EVENT_DELIVERY = EnumNames(subscription_pb2.EventDeliveryState, "EVENT_DELIVERY_STATE_")
