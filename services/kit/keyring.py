"""Keys that content is sealed with at rest: AES-256-GCM, every value bound to the place it belongs to."""

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.kit import metrics
from services.kit.errors import PosthouseError

KEY_SIZE: Final = 32

# A sealed value is a version, the nonce, and what AES-GCM makes of the content.
_VERSION: Final = b"\x01"
_NONCE_SIZE: Final = 12
_HEAD: Final = len(_VERSION) + _NONCE_SIZE
_TAG_SIZE: Final = 16

_DIGEST: Final = "sha256"
_DIGEST_SIZE: Final = 32

_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


class ContentError(PosthouseError):
    """Sealed content cannot be opened. The text says which, and what is missing."""


class KeyMissingError(ContentError):
    """It is sealed with a key that this process does not have."""

    reason = "ENCRYPTION_KEY_MISSING"


class ContentDamagedError(ContentError):
    """It is not what was sealed there: changed, cut short, or moved from another place."""

    reason = "CONTENT_DAMAGED"


class Keyring:
    """The keys by id, in order: the first one seals where `seals` is true, and all of them open.

    A place is `table.column`. With it and the row's id a value is sealed, and it opens nowhere else.
    """

    def __init__(self, keys: Mapping[str, bytes], *, seals: bool = True) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._digest_keys = {
            key_id: hmac.digest(key, b"posthouse request hash", _DIGEST) for key_id, key in keys.items()
        }
        # Id of the key that new content is sealed with; None: it is stored as it is.
        self.sealing_id = next(iter(keys), None) if seals else None

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of all keys, the first one first."""
        return tuple(self._ciphers)

    def seal(self, place: str, row_id: str, content: bytes) -> bytes:
        """Return content sealed with the first key."""
        assert self.sealing_id is not None  # noqa: S101 - who seals has asked
        nonce = os.urandom(_NONCE_SIZE)
        bound = _bound(self.sealing_id, place, row_id)
        return b"".join((_VERSION, nonce, self._ciphers[self.sealing_id].encrypt(nonce, content, bound)))

    def open(self, key_id: str, place: str, row_id: str, sealed: bytes) -> bytes:
        """Return what was sealed; raises KeyMissingError or ContentDamagedError."""
        cipher = self._cipher(key_id, place, row_id)
        if len(sealed) < _HEAD + _TAG_SIZE or not sealed.startswith(_VERSION):
            raise _damaged(place, row_id)
        try:
            return cipher.decrypt(
                sealed[len(_VERSION) : _HEAD], sealed[_HEAD:], _bound(key_id, place, row_id)
            )
        except InvalidTag as error:
            raise _damaged(place, row_id) from error

    def seal_text(self, place: str, row_id: str, text: str) -> str:
        """Return text sealed with the first key, in base64."""
        return base64.b64encode(self.seal(place, row_id, text.encode())).decode()

    def open_text(self, key_id: str, place: str, row_id: str, sealed: object) -> str:
        """Return the text that `seal_text` has sealed; raises as `open` does."""
        # Whoever lacks the key cannot tell whether the content is damaged.
        self._cipher(key_id, place, row_id)
        try:
            content = base64.b64decode(str(sealed), validate=True)
        except (binascii.Error, ValueError) as error:
            raise _damaged(place, row_id) from error
        return self.open(key_id, place, row_id, content).decode()

    def _cipher(self, key_id: str, place: str, row_id: str) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise _missing(f"{place} of {row_id} is sealed", key_id)
        return cipher

    def keyed_digest(self, digest: bytes) -> bytes:
        """Return a digest so that nobody without the first key can try out what it is of."""
        assert self.sealing_id is not None  # noqa: S101 - who asks has looked
        return self._keyed(self.sealing_id, digest)

    def is_digest(self, stored: bytes, digest: bytes) -> bool:
        """Tell whether what is stored, as it is or keyed, stands for a digest; raises KeyMissingError."""
        key_id = digest_key_id(stored)
        if key_id is None:
            return hmac.compare_digest(stored, digest)
        if key_id not in self._digest_keys:
            raise _missing("the first request was sealed", key_id)
        return hmac.compare_digest(stored, self._keyed(key_id, digest))

    def _keyed(self, key_id: str, digest: bytes) -> bytes:
        return f"{key_id}:".encode() + hmac.digest(self._digest_keys[key_id], digest, _DIGEST)


# Seals nothing and opens nothing.
PLAIN: Final = Keyring({})


def digest_key_id(stored: bytes) -> str | None:
    """Return the id of the key that a stored digest is keyed with, None for one that is not."""
    head, mark = stored[: -_DIGEST_SIZE - 1], stored[-_DIGEST_SIZE - 1 : -_DIGEST_SIZE]
    return head.decode("ascii", "replace") if head and mark == b":" else None


def parse_keys(text: str) -> dict[str, bytes]:
    """Return the keys of `id:key id2:key2`, each key 32 bytes in base64; commas will do as well.

    Raises ValueError, whose text repeats no key.
    """
    keys: dict[str, bytes] = {}
    for number, item in enumerate(text.replace(",", " ").split(), 1):
        key_id, colon, encoded = item.partition(":")
        if not colon or _KEY_ID.fullmatch(key_id) is None:
            raise ValueError(f"key {number} is not id:key, with an id of up to 32 of A-Z a-z 0-9 _ -")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"the key {key_id} is not base64") from None
        if len(key) != KEY_SIZE:
            raise ValueError(f"the key {key_id} has {len(key)} bytes, it must have {KEY_SIZE}")
        if key_id in keys:
            raise ValueError(f"the key {key_id} is there twice")
        keys[key_id] = key
    return keys


def new_key(key_id: str) -> str:
    """Return a new key as `parse_keys` takes it; raises ValueError for an id that it would not take."""
    text = f"{key_id}:{base64.b64encode(os.urandom(KEY_SIZE)).decode()}"
    parse_keys(text)
    return text


def _bound(key_id: str, place: str, row_id: str) -> bytes:
    # None of them has a line break in it.
    return f"{key_id}\n{place}\n{row_id}".encode()


def _missing(what: str, key_id: str) -> KeyMissingError:
    metrics.CONTENT_UNREADABLE.labels("key_missing").inc()
    return KeyMissingError(f"{what} with the key {key_id}, which is not configured")


def _damaged(place: str, row_id: str) -> ContentDamagedError:
    metrics.CONTENT_UNREADABLE.labels("damaged").inc()
    return ContentDamagedError(f"{place} of {row_id} is not what was sealed there")
