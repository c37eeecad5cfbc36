"""Which columns hold content, and how a row has them while it is sealed.

A row's `sealed_by` is the id of the key that all of its content is sealed with; null: it is stored as it is.
Text and JSON are sealed as base64, which a JSON column holds as a string.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from services.kit.keyring import Keyring
from services.ledger.arrays import bytes_array, text_array

if TYPE_CHECKING:
    from services.ledger.accept import Intake
    from services.ledger.receipts import WebhookLog


@dataclass(frozen=True, slots=True)
class SealedTable:
    """A table with content, and the columns of each kind that hold it."""

    name: str
    texts: tuple[str, ...]
    jsons: tuple[str, ...]
    blobs: tuple[str, ...] = ()

    def seal(self, keyring: Keyring, column: str, row_id: str, value: str | None) -> str | None:
        """Return a text, or the text of some JSON, as the column stores it; None stays None."""
        if value is None:
            return None
        sealed = keyring.seal_text(f"{self.name}.{column}", row_id, value)
        return f'"{sealed}"' if column in self.jsons else sealed

    def open(
        self, keyring: Keyring, column: str, row_id: str, sealed_by: str, value: object | None
    ) -> str | None:
        """Return what `seal` was given; a JSON column's `value` is the string it holds.

        Raises KeyMissingError or ContentDamagedError.
        """
        if value is None:
            return None
        return keyring.open_text(sealed_by, f"{self.name}.{column}", row_id, value)

    def seal_blob(self, keyring: Keyring, column: str, row_id: str, value: bytes) -> bytes:
        """Return bytes as the column stores them."""
        return keyring.seal(f"{self.name}.{column}", row_id, value)

    def open_blob(self, keyring: Keyring, column: str, row_id: str, sealed_by: str, value: bytes) -> bytes:
        """Return what `seal_blob` was given; raises as `open` does."""
        return keyring.open(sealed_by, f"{self.name}.{column}", row_id, value)


MESSAGES: Final = SealedTable("messages", ("subject", "body", "html"), ("attachments", "metadata"))
WEBHOOK_LOGS: Final = SealedTable("webhook_logs", ("url",), ("headers",), ("body",))


class Content(NamedTuple):
    """What a message says."""

    subject: str | None = None
    body: str = ""
    html: str | None = None
    attachments: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None


def open_content(
    keyring: Keyring,
    message_id: str,
    sealed_by: str,
    subject: object,
    body: object,
    html: object,
    *jsons: object,
) -> Content:
    """Return the content of a sealed message; `jsons` are its attachments and metadata, as far as needed.

    Raises KeyMissingError or ContentDamagedError.
    """
    texts = [
        MESSAGES.open(keyring, column, message_id, sealed_by, value)
        for column, value in zip(MESSAGES.texts, (subject, body, html), strict=True)
    ]
    opened = [
        MESSAGES.open(keyring, column, message_id, sealed_by, value)
        for column, value in zip(MESSAGES.jsons, jsons, strict=False)
    ]
    return Content(
        texts[0], texts[1] or "", texts[2], *(None if text is None else json.loads(text) for text in opened)
    )


def open_metadata(keyring: Keyring, message_id: str, sealed_by: str, metadata: object) -> dict[str, str]:
    """Return the metadata of a sealed message alone; raises as `open_content` does."""
    text = MESSAGES.open(keyring, "metadata", message_id, sealed_by, metadata)
    return {} if text is None else json.loads(text)


def sealed_messages(keyring: Keyring, items: Sequence["Intake"]) -> dict[str, object]:
    """Return what is stored in place of the content of messages, as parameters of a statement."""
    hashes = [item.draft.request_hash for item in items]
    return {
        **_arrays(
            MESSAGES, keyring, [(item.id, item.draft) for item in items], (*MESSAGES.texts, *MESSAGES.jsons)
        ),
        "request_hash": bytes_array([None if h is None else keyring.keyed_digest(h) for h in hashes]),
        "sealed_by": keyring.sealing_id,
    }


def sealed_webhooks(keyring: Keyring, logs: Sequence["WebhookLog"]) -> dict[str, object]:
    """Return what is stored in place of raw requests, as parameters of a statement."""
    return {
        **_arrays(
            WEBHOOK_LOGS,
            keyring,
            [(log.id, log) for log in logs],
            (*WEBHOOK_LOGS.texts, *WEBHOOK_LOGS.jsons),
        ),
        "body": bytes_array([WEBHOOK_LOGS.seal_blob(keyring, "body", log.id, log.body) for log in logs]),
        "sealed_by": keyring.sealing_id,
    }


def open_request(
    keyring: Keyring, log_id: str, sealed_by: str, url: str, headers: object, body: bytes
) -> tuple[str, dict[str, str], bytes]:
    """Return URL, headers and body of a sealed request; raises KeyMissingError or ContentDamagedError."""
    opened = WEBHOOK_LOGS.open(keyring, "headers", log_id, sealed_by, headers)
    return (
        WEBHOOK_LOGS.open(keyring, "url", log_id, sealed_by, url) or "",
        json.loads(opened or "{}"),
        WEBHOOK_LOGS.open_blob(keyring, "body", log_id, sealed_by, body),
    )


def _arrays(
    table: SealedTable, keyring: Keyring, rows: Sequence[tuple[str, Any]], columns: Iterable[str]
) -> dict[str, object]:
    return {
        column: text_array(
            [table.seal(keyring, column, row_id, getattr(row, column)) for row_id, row in rows]
        )
        for column in columns
    }
