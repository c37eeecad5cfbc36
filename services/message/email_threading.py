"""Puts an e-mail into the conversation it answers, whichever address it was answered from or to.

What an e-mail answers is in its In-Reply-To and References (RFC 5322, 3.6.4): our Message-ID begins with the
message's id, and a provider that puts one of its own in its place begins that with the id it gave us. Where
neither is known, the two addresses decide, as with every other message.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from services.kit.ids import id_or_none
from services.ledger.database import Database
from services.ledger.drafts import Draft
from services.ledger.email_parents import find_parents

# Labels of an inbound e-mail that are these headers.
IN_REPLY_TO: Final = "in_reply_to"
REFERENCES: Final = "references"

# The newest of a long thread are enough.
_MAX_REFERENCES: Final = 20
_REFERENCE: Final = re.compile(r"<([^<>@\s]{1,255})@[^<>@\s]{1,255}>")


async def thread_emails(database: Database, drafts: Iterable[Draft]) -> None:
    """Move the drafts of e-mails that answer a known message into its conversation."""
    answers = [
        (draft, found)
        for draft in drafts
        if draft.channel == "email" and draft.metadata and (found := references_of(draft.metadata))
    ]
    if not answers:
        return
    asked = dict.fromkeys(text for _, found in answers for text in found)
    async with database.hot() as connection:
        parents = await find_parents(connection, [(text, id_or_none(text)) for text in asked])
    for draft, found in answers:
        parent = next((parents[text] for text in found if text in parents), None)
        if parent is not None:
            draft.conversation_id = parent.conversation_id
            draft.participant_a, draft.participant_b = parent.participant_a, parent.participant_b


def references_of(metadata: str) -> Sequence[str]:
    """Return what stands before the @ of the ids an e-mail answers, the nearest first.

    `metadata` is the JSON of its labels.
    """
    labels = orjson.loads(metadata)
    texts = [labels.get(IN_REPLY_TO), labels.get(REFERENCES)]
    nearest: list[str] = []
    for text in texts:
        if isinstance(text, str):
            nearest += reversed(_REFERENCE.findall(text)[-_MAX_REFERENCES:])
    return list(dict.fromkeys(nearest))
