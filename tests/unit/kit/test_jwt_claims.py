"""Tokens that our issuer has signed and whose claims are nonsense: not taken, and nothing else happens."""

import json
import math
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.callers import Caller
from services.kit.jwt_tokens import TokenPolicy, TokenVerifier
from tests.credentials import AUDIENCE, HOUR, ISSUER, SHARED

_HEADER = {"alg": "HS256", "typ": "JWT"}
_CLAIMS = ("exp", "nbf", "iat")


def signed(claims: str, header: str = json.dumps(_HEADER)) -> str:
    """Return a token whose header and claims are this JSON, as it is written."""
    parts = [jwt.utils.base64url_encode(part.encode()).decode() for part in (header, claims)]
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = algorithm.sign(".".join(parts).encode(), algorithm.prepare_key(SHARED))
    return ".".join([*parts, jwt.utils.base64url_encode(signature).decode()])


def claims(**others: str) -> str:
    """Return good claims as JSON, some of them as they are written here."""
    good = {"iss": json.dumps(ISSUER), "aud": json.dumps(AUDIENCE), "sub": '"someone"', "scope": '"read"'}
    good |= {"exp": str(int(time.time()) + HOUR)} | others
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in good.items()) + "}"


async def find(token: str) -> Caller | None:
    return await TokenVerifier(TokenPolicy(ISSUER, AUDIENCE, secret=SHARED), keys=None).find(token)


async def test_a_good_one_is_taken() -> None:
    caller = await find(signed(claims()))
    assert caller is not None
    assert caller.scopes == {"read"}
    assert await find(signed(claims(exp=f"{time.time() + HOUR:.3f}", nbf="0", iat="1.5"))) == caller


@pytest.mark.parametrize("name", _CLAIMS)
@pytest.mark.parametrize(
    "value",
    [
        "1" + "0" * 400,
        "-1" + "0" * 400,
        "1" + "0" * 5000,
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "-1",
        "253402300800",
        "99999999999999",
        '"99999999999"',
        '"NaN"',
        '""',
        "true",
        "[]",
        "[99999999999]",
        "{}",
    ],
)
async def test_a_time_that_is_none_is_not_taken(name: str, value: str) -> None:
    assert await find(signed(claims(**{name: value}))) is None


@pytest.mark.parametrize("value", [r'"\ud800"', "[]", "{}", "1", "null"])
async def test_a_subject_that_is_no_text_is_not_taken(value: str) -> None:
    assert await find(signed(claims(sub=value))) is None


# Characters that JSON can write and UTF-8 cannot are among them.
_TEXT = st.text(st.characters(), max_size=20)
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("exp", "nbf", "iat", "sub", "aud", "iss", "jti", "scope"), _ANY)
    ),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("alg", "kid", "crit", "b64", "typ"), _ANY)),
)
async def test_claims_and_headers_that_are_unexpected(others: dict[str, Any], header: dict[str, Any]) -> None:
    written = claims(**{name: json.dumps(value) for name, value in others.items()})
    caller = await find(signed(written, json.dumps(_HEADER | header)))
    if caller is not None:
        times = [others[name] for name in _CLAIMS if name in others and others[name] is not None]
        assert all(type(value) in (int, float) and math.isfinite(value) for value in times)


@given(st.text(max_size=200))
async def test_tokens_that_are_unexpected(text: str) -> None:
    assert await find(text) is None
