"""Keys of JWTs: what counts as one, how news of them arrives, and what happens while they cannot be read."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit import background
from services.kit.config import WrongSettingError
from services.kit.errors import UnavailableError
from services.kit.jwk_sets import JwkSet, parse_jwks
from services.kit.jwt_tokens import TokenPolicy, TokenVerifier
from tests.clock import Clock
from tests.credentials import (
    AUDIENCE,
    ISSUER,
    MemoryKeys,
    auth_settings,
    ed_key,
    jwks,
    memory_authenticator,
    token,
)
from tests.servers import free_ports


def keys_without(kid: str) -> str:
    return json.dumps({"keys": [key for key in json.loads(jwks())["keys"] if key["kid"] != kid]})


def test_only_public_signing_keys_count() -> None:
    document = json.loads(jwks())
    document["keys"] += [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric", "alg": "HS256"},
        {**document["keys"][0], "kid": "encryption", "use": "enc"},
        {**document["keys"][0], "kid": "another algorithm", "alg": "RS512"},
        {"kty": "EC", "crv": "P-256", "kid": "curve"},
        "nonsense",
    ]
    found = parse_jwks(json.dumps(document).encode())
    assert [(key.kid, key.algorithm) for key in found] == [("rsa", "RS256"), ("ed", "EdDSA")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty document"),
        ("[]", "not a JWKS"),
        ("{}", "not a JWKS"),
        ('{"keys": 1}', "not a JWKS"),
        ('{"keys": [{"kty": "RSA", "n": "x", "e": "x"}]}', "malformed|shorter"),
    ],
)
def test_what_is_no_set_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_jwks(text.encode())


def test_keys_travel_by_https_only() -> None:
    JwkSet("https://issuer.example/keys")
    JwkSet("http://127.0.0.1:9/keys")
    with pytest.raises(WrongSettingError, match="POSTHOUSE_JWT_KEYS"):
        JwkSet("http://issuer.example/keys")


async def test_new_keys_are_found_and_tokens_of_old_ones_refused(tmp_path: Path) -> None:
    place, clock = tmp_path / "jwks.json", Clock()
    place.write_text(keys_without("ed"))
    keys = JwkSet(str(place), clock=clock)
    verifier = TokenVerifier(TokenPolicy(ISSUER, AUDIENCE), keys)
    old, new = token("read"), token("send", key=ed_key(), algorithm="EdDSA", kid="ed")
    assert await verifier.find(old)
    assert await verifier.find(new) is None
    place.write_text(keys_without("rsa"))
    assert await verifier.find(new) is None  # it was read a moment ago
    clock.now += 6
    assert await verifier.find(new)
    assert await verifier.find(old) is None


def test_a_file_without_keys_stops_the_start(tmp_path: Path) -> None:
    place = tmp_path / "jwks.json"
    with pytest.raises(WrongSettingError, match=r"^POSTHOUSE_JWT_KEYS: cannot be read: No such file"):
        JwkSet(str(place))
    place.write_text("[]")
    with pytest.raises(WrongSettingError, match=r"^POSTHOUSE_JWT_KEYS: cannot be read: not a JWKS$"):
        JwkSet(str(place))


async def test_an_address_may_come_to_answer_later() -> None:
    verifier = TokenVerifier(TokenPolicy(ISSUER, AUDIENCE), JwkSet(f"http://127.0.0.1:{free_ports(1)}/keys"))
    with pytest.raises(UnavailableError):
        await verifier.find(token())


async def test_keys_that_cannot_be_read_any_more_stay(tmp_path: Path) -> None:
    place, clock = tmp_path / "jwks.json", Clock()
    place.write_text(jwks())
    verifier = TokenVerifier(TokenPolicy(ISSUER, AUDIENCE), JwkSet(str(place), clock=clock))
    assert await verifier.find(token())
    place.write_text("{")
    clock.now += 6
    assert await verifier.find(token(kid="other")) is None
    assert await verifier.find(token())


async def test_callers_are_told_apart_by_issuer_and_subject(tmp_path: Path) -> None:
    place = tmp_path / "jwks.json"
    place.write_text(jwks())
    verifier = TokenVerifier(TokenPolicy(ISSUER, AUDIENCE), JwkSet(str(place)))
    found = [
        await verifier.find(token(sub=sub, jti=jti)) for sub, jti in (("a", "1"), ("a", "2"), ("b", "1"))
    ]
    ids = [caller.id for caller in found if caller]
    assert len(ids) == 3
    assert ids[0] == ids[1] != ids[2]


async def test_an_issuer_that_sends_byte_by_byte_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kit.jwk_sets._TIMEOUT", 0.5)
    hung_up = asyncio.Event()

    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            hung_up.set()
        finally:
            writer.close()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        keys = JwkSet(f"http://127.0.0.1:{port}/keys")
        async with asyncio.timeout(60):
            with pytest.raises(UnavailableError):
                await keys.find("any", "RS256")
            await hung_up.wait()


_MEMBER = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=3), max_size=2)
)


@given(
    st.sampled_from([0, 1]),
    st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "kid", "alg", "use", "key_ops"]), _MEMBER),
)
def test_keys_that_are_unexpected_are_passed_over_or_refused(which: int, members: dict[str, object]) -> None:
    key = {**json.loads(jwks())["keys"][which], **members}
    with contextlib.suppress(ValueError):
        parse_jwks(json.dumps({"keys": [key]}).encode())


async def test_keys_are_read_again_whatever_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_PAUSE", 0.0)
    read = asyncio.Event()
    found = iter([ZeroDivisionError(), ZeroDivisionError()])

    async def refresh(_keys: JwkSet) -> None:
        for error in found:
            raise error
        read.set()

    monkeypatch.setattr(JwkSet, "_refresh", refresh)
    authenticator = memory_authenticator(auth_settings(tmp_path), MemoryKeys())
    authenticator.start()
    await asyncio.wait_for(read.wait(), 60)
    await authenticator.close()
