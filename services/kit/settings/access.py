"""Who may call, and how connections and what is stored are secured."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from services.kit.settings.fields import checked_keys, some_of


class AccessSettings(BaseSettings):
    """Who may call, and how connections and what is stored are secured."""

    gateway_token: SecretStr | None = Field(
        default=None,
        description="What the gateway proves itself to the services with. `posthouse up` makes one.",
    )
    api_key_secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description=(
            "Key of the digests of API keys, 32 characters or more; setting it turns authentication on."
        ),
    )
    jwt_issuer: str | None = Field(
        default=None, description="Issuer whose JWTs are taken; setting it turns authentication on."
    )
    jwt_audience: str | None = Field(default=None, description="Audience that JWTs must name.")
    jwt_secret: SecretStr | None = Field(
        default=None, min_length=32, description="Key of JWTs signed with HS256, 32 characters or more."
    )
    jwt_keys: str | None = Field(
        default=None, description="JWKS of JWTs signed with RS256 or EdDSA: a file or an https address."
    )
    jwt_scopes_claim: str = Field(
        default="scope", min_length=1, description="Claim of JWTs that lists the scopes."
    )
    open_endpoints: Annotated[str, some_of("health", "reflection", "docs", "metrics")] = Field(
        default="health reflection docs metrics",
        description="What needs no credential where others do: any of health, reflection, docs, metrics.",
    )
    encryption_keys: Annotated[SecretStr, AfterValidator(checked_keys)] = Field(
        default=SecretStr(""),
        description=(
            "Keys of content at rest, `id:key id2:key2`: the first encrypts, all decrypt."
            " `posthouse encryption new-key` makes one."
        ),
    )
    encryption_seal: bool = Field(
        default=True, description="Encrypt what is stored from now on, where there are keys."
    )
    tls_cert: Path | None = Field(
        default=None, description="Certificate chain of the gRPC servers in PEM; turns TLS on."
    )
    tls_key: Path | None = Field(default=None, description="Private key of that certificate in PEM.")
    tls_ca: Path | None = Field(
        default=None, description="Authorities in PEM that clients, and with mTLS servers, trust."
    )
    tls_client_certificates: bool = Field(
        default=False, description="mTLS: servers ask clients for a certificate of that authority."
    )
    tls_server_name: str | None = Field(
        default=None, description="Name in the servers' certificate, where it is not that of their address."
    )
