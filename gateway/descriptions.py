"""Descriptions of the OpenAPI document's fields and parameters, as the contracts have them in their comments.

What REST says differently is described where its shape is; this fills in the rest.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from gateway.problems import REST_NAMES
from services.kit.enum_names import STATE

# Shapes that are named differently from the contract's messages; of pages see `_messages`.
_MESSAGES: Final = {
    "Accepted": "AcceptedMessage",
    "Attempt": "DispatchAttempt",
    "Attempts": "ListDispatchAttemptsResponse",
    "BatchRequest": "SendMessagesRequest",
    "BatchResults": "SendMessagesResponse",
    "MediaItem": "Attachment",
    "NewSubscription": "Subscription",
    "PhoneConversation": "Conversation",
    "PhoneMessage": "Message",
    "PhoneWorkflow": "Conversation",
    "Preview": "PreviewMessageResponse",
    "RateLimit": "RateLimitVerdict",
    "ReceiveRequest": "ReceiveMessagesRequest",
    "ReceiveResults": "ReceiveMessagesResponse",
    "Replayed": "ReplayDeadLettersResponse",
    "ReplayRequest": "ReplayDeadLettersRequest",
    "ReplayedEvents": "ReplayEventsResponse",
    "SearchHits": "SearchMessagesResponse",
    "SearchRequest": "SearchMessagesRequest",
    "SimulatorProfiles": "GetSimulatorProfileResponse",
    "Stats": "GetConversationStatsResponse",
}

# JSON names of the contract's fields, beside those that requests and errors have.
_FIELDS: Final = {
    **{rest: field for field, rest in REST_NAMES.items()},
    "archived_at": "archive_time",
    "attempted_at": "attempt_time",
    "breaker": "breaker_state",
    "characters": "character_count",
    "content": "body",
    "created_at": "create_time",
    "delivery_status": "state",
    "disabled_at": "disable_time",
    "disabled_reason": "disable_reason",
    "encoding": "segment_encoding",
    "ended_at": "end_time",
    "event_at": "event_time",
    "failing_since": "fail_time",
    "from_original": "sender_original",
    "last_message_at": "last_message_time",
    "messages_by_status": "messages_by_state",
    "messages_by_type": "messages_by_channel",
    "next_attempt_at": "next_attempt_time",
    "overlap_ends_at": "overlap_end_time",
    "provider_at": "provider_time",
    "replayed_at": "replay_time",
    "rotated_at": "rotate_time",
    "said_at": "event_time",
    "segments": "segment_count",
    "started_at": "start_time",
    "to_original": "recipient_original",
    "updated_at": "update_time",
}

# What a comment says of the contract alone, of its empty values where JSON has null, and names of its fields
# and states.
_ONLY: Final = re.compile(r"Output only\. | Required[^.]*\.")
_EMPTY: Final = re.compile(
    r"(\. |^)?\b(?:[Ee]mpty|0|Unspecified)(?=\.|:| (?:when|for|on|until|while|otherwise))"
)
_WORD: Final = re.compile(r"\b(?:[a-z]+_[a-z_]+|[A-Z]{4,})\b")
_WORDS: Final = {
    **{field: rest for rest, field in _FIELDS.items()},
    **{state.upper(): state for state in STATE.words},
}


def describe(document: dict[str, Any]) -> None:
    """Give a description to every field and parameter of a document that has none and that a contract has."""
    # Nobody else needs them.
    from posthouse.v1.field_comments import COMMENTS  # noqa: PLC0415

    for name, schema in document["components"]["schemas"].items():
        for rest, field in schema.get("properties", {}).items():
            _describe(
                COMMENTS, field, list(_messages(name)), rest, nullable="null" in str(field.get("anyOf"))
            )
    for item in document["paths"].values():
        for operation in item.values():
            request = operation["operationId"].title().replace("_", "") + "Request"
            # What is updated is named within what it is to be.
            requests = [request, request.replace("Update", "Get", 1)]
            for parameter in operation.get("parameters", ()):
                _describe(COMMENTS, parameter, requests, parameter["name"], nullable=False)


def _messages(shape: str) -> Iterator[str]:
    yield _MESSAGES.get(shape, shape)
    yield f"List{shape}Response"


def _describe(
    comments: dict[str, str], place: dict[str, Any], messages: list[str], rest: str, *, nullable: bool
) -> None:
    for message in messages:
        for name in (rest, _FIELDS.get(rest)):
            comment = comments.get(f"{message}.{name}")
            if comment is not None:
                place.setdefault("description", _in_rest_words(comment, nullable=nullable))
                return


def _in_rest_words(comment: str, *, nullable: bool) -> str:
    text = _ONLY.sub("", comment)
    if nullable:
        text = _EMPTY.sub(lambda found: "null" if found[1] is None else f"{found[1]}Null", text)
    return _WORD.sub(lambda found: _WORDS.get(found[0], found[0]), text)
