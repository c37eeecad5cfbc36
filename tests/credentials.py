"""Credentials of every kind, good and bad, and an authenticator that knows them."""

import base64
import hmac
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from services.kit.api_keys import StoredKey, digest_of, make_secret
from services.kit.authentication import Authenticator
from services.kit.callers import Caller
from services.kit.config import Settings
from services.kit.scopes import SCOPES

PEPPER = "pepper-of-the-tests-which-is-long-enough"
ISSUER, AUDIENCE = "https://issuer.example", "posthouse"
SHARED = "shared-secret-of-the-tests-which-is-long"
GATEWAY = "token-of-the-gateway"
HOUR = 3600


@cache
def rsa_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@cache
def strangers_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@cache
def ed_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def jwks() -> str:
    keys = [
        {**json.loads(RSAAlgorithm.to_jwk(rsa_key().public_key())), "kid": "rsa", "use": "sig"},
        {**json.loads(OKPAlgorithm.to_jwk(ed_key().public_key())), "kid": "ed"},
    ]
    return json.dumps({"keys": keys})


def token(
    scope: Any = "read", *, key: Any = None, algorithm: str = "RS256", kid: str = "rsa", **claims: Any
) -> str:
    """Return a JWT; a claim that is None is left out."""
    now = int(time.time())
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "exp": now + HOUR, "iat": now}
    payload |= {"scope": scope, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key or rsa_key(), algorithm, headers={"kid": kid} if kid else None)


@dataclass
class MemoryKeys:
    """API keys in memory, as a KeyRing reads them."""

    keys: dict[str, StoredKey] = field(default_factory=dict)
    looks: int = 0

    def add(self, *scopes: str, end_time: float = math.inf, name: str = "") -> str:
        secret, prefix = make_secret()
        caller = Caller(f"key:{name or prefix}", frozenset(scopes))
        self.keys[prefix] = StoredKey(caller, digest_of(secret, PEPPER), end_time)
        return secret

    def revoke(self, secret: str) -> None:
        del self.keys[secret.split("_")[1]]

    async def stamp(self) -> object:
        self.looks += 1
        return tuple(self.keys)

    def now(self) -> float:
        return time.time()

    async def load(self) -> Mapping[str, StoredKey]:
        return dict(self.keys)


def auth_settings(folder: Path, **others: Any) -> Settings:
    """Return settings that take API keys and every kind of JWT."""
    (folder / "jwks.json").write_text(jwks())
    return Settings.model_validate(
        {
            "api_key_secret": PEPPER,
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "jwt_secret": SHARED,
            "jwt_keys": str(folder / "jwks.json"),
            "gateway_token": GATEWAY,
            "rate_limit_enabled": False,
            **others,
        }
    )


@dataclass(frozen=True)
class Cell:
    """A credential, and the scopes it stands for; None when it must not be taken."""

    name: str
    secret: str
    scopes: frozenset[str] | None

    def may(self, needed: str) -> bool:
        return self.scopes is not None and (not needed or needed in self.scopes or "admin" in self.scopes)

    def metadata(self, *, bearer: bool) -> list[tuple[str, str]]:
        if not self.secret:
            return []
        return [("authorization", f"Bearer {self.secret}") if bearer else ("x-api-key", self.secret)]


def cells(store: MemoryKeys) -> list[Cell]:
    """Return the rows of the matrix: every kind of credential."""
    now = int(time.time())
    good = [Cell(f"key {scope}", store.add(scope), frozenset({scope})) for scope in SCOPES]
    good += [
        Cell("key without scopes", store.add(), frozenset()),
        Cell("key of two", store.add("send", "read"), frozenset({"send", "read"})),
        *(Cell(f"RS256 {scope}", token(scope), frozenset({scope})) for scope in SCOPES),
        Cell("EdDSA", token("send", key=ed_key(), algorithm="EdDSA", kid="ed"), frozenset({"send"})),
        Cell("HS256", token(["read"], key=SHARED, algorithm="HS256", kid=""), frozenset({"read"})),
        Cell("JWT without scopes", token(None), frozenset()),
        Cell("JWT with scopes of others", token("openid superuser"), frozenset()),
    ]
    revoked = store.add("admin")
    store.revoke(revoked)
    public = rsa_key().public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    real = store.add("admin")
    bad = {
        "no key": "",
        "wrong key": "ph_0123456789abcdef_" + "x" * 43,
        "right prefix, wrong secret": real[:-1] + ("A" if real[-1] != "A" else "B"),
        "no form of a key": "nonsense",
        "expired key": store.add("admin", end_time=now - 1),
        "revoked key": revoked,
        "expired JWT": token("admin", exp=now - HOUR),
        "not yet": token("admin", nbf=now + HOUR),
        "wrong issuer": token("admin", iss="https://elsewhere.example"),
        "no issuer": token("admin", iss=None),
        "wrong audience": token("admin", aud="others"),
        "no audience": token("admin", aud=None),
        "no expiry": token("admin", exp=None),
        "no subject": token("admin", sub=None),
        "alg none": _unsigned("none"),
        "alg None": _unsigned("None"),
        "alg of another key": token("admin", key=ed_key(), algorithm="EdDSA", kid="rsa"),
        "alg that is not taken": token("admin", key=SHARED * 2, algorithm="HS512", kid=""),
        "unknown key id": token("admin", kid="other"),
        "another's signature": token("admin", key=strangers_key()),
        "wrong shared secret": token("admin", key="x" * 40, algorithm="HS256", kid=""),
        "public key as shared secret": _confused(public),
        "payload exchanged": _exchanged(),
        "three parts of nothing": "..",
    }
    return good + [Cell(name, secret, None) for name, secret in bad.items()]


def memory_authenticator(settings: Settings, store: MemoryKeys) -> Authenticator:
    authenticator = Authenticator.build(settings, store)
    assert authenticator is not None
    return authenticator


def _part(content: dict[str, Any] | bytes) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _claims() -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": int(time.time()) + HOUR, "scope": "admin"}


def _unsigned(algorithm: str) -> str:
    return f"{_part({'alg': algorithm, 'typ': 'JWT'})}.{_part(_claims())}."


def _confused(public: bytes) -> str:
    """Return a token signed by HMAC with what everybody knows; PyJWT itself refuses to make one."""
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rsa'})}.{_part(_claims())}"
    return f"{signed}.{_part(hmac.digest(public, signed.encode(), 'sha256'))}"


def _exchanged() -> str:
    header, _, signature = token("read").split(".")
    return f"{header}.{_part(_claims())}.{signature}"
