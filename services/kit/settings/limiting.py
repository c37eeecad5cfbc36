"""Rate limits."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from services.kit.networks import parse_networks
from services.kit.settings.fields import checked, checked_bulk_limits, world


class LimitSettings(BaseSettings):
    """Rate limits."""

    rate_limit_enabled: bool = Field(
        default=True,
        validation_alias=world("RATE_LIMIT_ENABLED"),
        description="Limit how much callers may do.",
    )
    rate_limit_requests: int = Field(
        default=100,
        ge=1,
        le=2**31 - 1,
        validation_alias=world("RATE_LIMIT_REQUESTS"),
        description="Requests to each endpoint, and messages in all, that a client may send in a period.",
    )
    rate_limit_period: int = Field(
        default=60,
        ge=1,
        le=86400,
        validation_alias=world("RATE_LIMIT_PERIOD"),
        description="Seconds of the sliding window.",
    )
    rate_limit_storage: str = Field(
        default="memory://",
        pattern="^(memory://|rediss?://.+)$",
        validation_alias=world("RATE_LIMIT_STORAGE"),
        description="Where the counts are: memory:// (each process its own) or redis://host:6379/0 (shared).",
    )
    rate_limit_sender_requests: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Messages from one sender in a period; default RATE_LIMIT_REQUESTS.",
    )
    rate_limit_ip_requests: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Messages from one network address in a period; default RATE_LIMIT_REQUESTS.",
    )
    rate_limit_bulk: Annotated[SecretStr, AfterValidator(checked_bulk_limits)] = Field(
        default=SecretStr(""),
        description=(
            "Limits of bulk senders as `who=requests`: an API key, sha256:digest, prefix*, network or *."
        ),
    )
    trusted_proxies: Annotated[str, checked(parse_networks)] = Field(
        default="", description="Networks of proxies whose X-Forwarded-For is believed: `10.0.0.0/8 ::1`."
    )
