"""Sealed values open with their key, at their place, and unchanged; in no other way."""

import base64

import pytest
from prometheus_client import REGISTRY

from services.kit.config import WrongSettingError, load_settings, read_settings
from services.kit.keyring import (
    PLAIN,
    ContentDamagedError,
    KeyMissingError,
    Keyring,
    digest_key_id,
    new_key,
    parse_keys,
)

PLACE = "messages.body"
ROW = "01a20281-82d8-7622-baa2-2b745f9dfe81"
KEYS = parse_keys(f"{new_key('new')} {new_key('old')}")
RING = Keyring(KEYS)


def test_what_is_sealed_opens_again() -> None:
    for text in ("", "hello", "Grüße, 👋 \U0001f3fd", "x" * 100_000):
        sealed = RING.seal_text(PLACE, ROW, text)
        assert text not in sealed or not text
        assert RING.open_text("new", PLACE, ROW, sealed) == text


def test_the_same_content_never_looks_the_same() -> None:
    assert len({RING.seal(PLACE, ROW, b"hello") for _ in range(100)}) == 100


def test_the_first_key_seals_and_all_open() -> None:
    assert RING.sealing_id == "new"
    before = Keyring({"old": KEYS["old"]})
    sealed = before.seal(PLACE, ROW, b"hello")
    assert RING.open("old", PLACE, ROW, sealed) == b"hello"


def test_nothing_is_sealed_where_keys_only_open() -> None:
    sealed = RING.seal(PLACE, ROW, b"hello")
    opening = Keyring(KEYS, seals=False)
    assert opening.sealing_id is None
    assert opening.open("new", PLACE, ROW, sealed) == b"hello"
    assert PLAIN.sealing_id is None


def test_a_missing_key_is_named() -> None:
    sealed = RING.seal(PLACE, ROW, b"hello")
    with pytest.raises(KeyMissingError, match="the key new, which is not configured") as caught:
        Keyring({"old": KEYS["old"]}).open("new", PLACE, ROW, sealed)
    assert caught.value.reason == "ENCRYPTION_KEY_MISSING"


def test_what_cannot_be_opened_is_counted() -> None:
    sealed = RING.seal(PLACE, ROW, b"hello")
    before = {reason: _unreadable(reason) for reason in ("key_missing", "damaged")}
    with pytest.raises(KeyMissingError):
        PLAIN.open("new", PLACE, ROW, sealed)
    with pytest.raises(ContentDamagedError):
        RING.open("new", PLACE, ROW, sealed[:-1])
    assert {reason: _unreadable(reason) - count for reason, count in before.items()} == {
        "key_missing": 1,
        "damaged": 1,
    }


def _unreadable(reason: str) -> float:
    return REGISTRY.get_sample_value("content_unreadable_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("position", [0, 1, 12, 13, 17, 18, 33])
def test_every_changed_byte_is_noticed(position: int) -> None:
    # One of the version, the nonce, the content and the tag each, and their borders.
    sealed = bytearray(RING.seal(PLACE, ROW, b"hello"))
    assert len(sealed) == 1 + 12 + 5 + 16
    sealed[position] ^= 1
    with pytest.raises(ContentDamagedError, match=f"{PLACE} of {ROW} is not what was sealed there"):
        RING.open("new", PLACE, ROW, bytes(sealed))


@pytest.mark.parametrize("length", [0, 1, 13, 28, 33])
def test_what_is_cut_short_is_noticed(length: int) -> None:
    sealed = RING.seal(PLACE, ROW, b"hello")
    with pytest.raises(ContentDamagedError):
        RING.open("new", PLACE, ROW, sealed[:length])


@pytest.mark.parametrize(
    ("key_id", "place", "row"),
    [
        ("new", "messages.html", ROW),
        ("new", "webhook_logs.body", ROW),
        ("new", PLACE, ROW.replace("01a2", "01a3")),
        ("old", PLACE, ROW),
    ],
)
def test_what_was_moved_does_not_open(key_id: str, place: str, row: str) -> None:
    with pytest.raises(ContentDamagedError):
        RING.open(key_id, place, row, RING.seal(PLACE, ROW, b"hello"))


def test_an_id_says_under_which_key_it_was_sealed() -> None:
    # The same bytes of key under another name are another key.
    renamed = Keyring({"other": KEYS["new"]})
    with pytest.raises(ContentDamagedError):
        renamed.open("other", PLACE, ROW, RING.seal(PLACE, ROW, b"hello"))


@pytest.mark.parametrize("sealed", ["not base64!", "AAAA", "", None, 7, ["x"]])
def test_what_is_no_sealed_text_is_damaged(sealed: object) -> None:
    with pytest.raises(ContentDamagedError):
        RING.open_text("new", PLACE, ROW, sealed)


def test_without_the_key_nothing_is_called_damaged() -> None:
    for sealed in (RING.seal_text(PLACE, ROW, "hello"), "not base64!"):
        with pytest.raises(KeyMissingError):
            Keyring({"old": KEYS["old"]}).open_text("new", PLACE, ROW, sealed)


def test_a_keyed_digest_stands_for_its_digest_alone() -> None:
    digest, other = b"0123456789abcdef", b"0123456789abcdee"
    stored = RING.keyed_digest(digest)
    assert digest not in stored
    assert RING.is_digest(stored, digest)
    assert not RING.is_digest(stored, other)
    assert digest_key_id(stored) == "new"
    assert Keyring(KEYS, seals=False).is_digest(stored, digest)
    with pytest.raises(KeyMissingError):
        Keyring({"old": KEYS["old"]}).is_digest(stored, digest)


def test_digests_from_before_are_compared_as_they_are() -> None:
    digest = b"0123456789abcdef"
    assert digest_key_id(digest) is None
    assert RING.is_digest(digest, digest)
    assert not RING.is_digest(digest, b"0123456789abcdee")
    assert PLAIN.is_digest(digest, digest)


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\n"])
def test_keys_are_read_in_their_order(separator: str) -> None:
    assert list(parse_keys(separator.join([new_key("b"), new_key("a")]))) == ["b", "a"]


KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (KEY, "key 1 is not id:key"),
        (f"a:{KEY} {KEY}", "key 2 is not id:key"),
        (f"a b:{KEY}", "key 1 is not id:key"),
        (f"ä:{KEY}", "key 1 is not id:key"),
        (f"{'a' * 33}:{KEY}", "key 1 is not id:key"),
        ("a:", "the key a has 0 bytes, it must have 32"),
        (f"a:{base64.b64encode(bytes(16)).decode()}", "the key a has 16 bytes, it must have 32"),
        (f"a:{KEY[:-1]}", "the key a is not base64"),
        ("a:schön", "the key a is not base64"),
        (f"a:{KEY} b:{KEY} a:{KEY}", "the key a is there twice"),
    ],
)
def test_wrong_keys_stop_the_start_in_one_line_without_them(
    text: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOUSE_ENCRYPTION_KEYS", text)
    with pytest.raises(WrongSettingError) as caught:
        read_settings()
    line = str(caught.value)
    assert line.startswith(f"POSTHOUSE_ENCRYPTION_KEYS: {complaint}")
    assert "\n" not in line
    assert KEY not in line


def test_settings_do_not_show_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key("a")
    monkeypatch.setenv("POSTHOUSE_ENCRYPTION_KEYS", key)
    settings = load_settings()
    assert settings.keyring.key_ids == ("a",)
    assert key[2:] not in repr(settings)
    assert key[2:] not in repr(settings.keyring)
