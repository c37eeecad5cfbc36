"""What must hold of every draft that is made of what came from outside: PostgreSQL can take it."""

from datetime import UTC, datetime

import orjson

from services.kit.errors import InvalidRequestError
from services.ledger.drafts import Draft
from services.message.validation import inbound_draft
from services.providers.base import Inbound

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def check_draft(inbound: Inbound) -> None:
    """Check that a provider's message is refused by name, or that its draft can be stored."""
    try:
        draft = inbound_draft(inbound, now=NOW, source="test")
    except InvalidRequestError as error:
        assert error.violations  # noqa: PT017 either outcome is right; each has its own promise
        return
    check_storable(draft)


def check_storable(draft: Draft) -> None:
    """Check that no text of a draft has what PostgreSQL refuses, and that its JSON is JSON."""
    texts = (
        draft.sender, draft.recipient, draft.sender_original, draft.recipient_original, draft.body,
        draft.subject, draft.html, draft.metadata, draft.attachments, draft.event_key, draft.source,
        draft.provider_message_id,
    )  # fmt: skip
    for text in texts:
        if text is not None:
            assert "\0" not in text
            text.encode()
    orjson.loads(draft.metadata or "{}")
    orjson.loads(draft.attachments or "[]")
    assert draft.message_time is not None
    assert draft.message_time <= datetime.now(UTC)
    assert 0 <= draft.segment_count < 1 << 15
