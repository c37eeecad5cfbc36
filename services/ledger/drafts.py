"""What intake stores: a checked and normalised message on its way into the ledger."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True)  # frozen, it would take 5 µs more to make
class Draft:
    """One message to store, in either direction. Absent texts are None; times have a zone.

    `request_id` and `request_hash` belong to sends, `source` and `event_key` to inbound messages; each
    pair keeps a repeat from being stored twice.
    """

    channel: str
    direction: str
    sender: str
    recipient: str
    conversation_id: str
    family: str
    participant_a: str
    participant_b: str
    body: str
    sender_original: str | None = None
    recipient_original: str | None = None
    subject: str | None = None
    html: str | None = None
    # A JSON list of objects with content_type, filename, and either url or content (base64).
    attachments: str | None = None
    # A JSON object of texts.
    metadata: str | None = None
    priority: str = "normal"
    segment_count: int = 0
    segment_encoding: str | None = None
    message_time: datetime | None = None
    send_time: datetime | None = None
    expire_time: datetime | None = None
    transactional: bool = False
    request_id: str = ""
    request_hash: bytes | None = None
    source: str | None = None
    event_key: str | None = None
    provider_message_id: str | None = None
    webhook_log_id: str | None = None
    # Inbound: the word of consent that is all the contact wrote.
    keyword: str | None = None
    # E-mail: where it is to be answered to.
    reply_to: str | None = None
