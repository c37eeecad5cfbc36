"""Taking messages and webhooks in, and keeping what was kept of them."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from services.kit.sender_pools import parse_sender_pools
from services.kit.settings.fields import checked


class IntakeSettings(BaseSettings):
    """Taking messages and webhooks in, and keeping what was kept of them."""

    commit_batch_size: int = Field(
        default=300,
        ge=1,
        le=5000,
        description="Messages at which a transaction of intake takes no further call.",
    )
    commit_queue_size: int = Field(
        default=20000, ge=1, description="Messages that may wait for their transaction; more are refused."
    )
    idempotency_retention: float = Field(
        default=172_800.0, ge=86_400, description="Seconds an idempotency key is kept; at least a day."
    )
    provider_event_retention: float = Field(
        default=2_592_000.0,
        ge=86_400,
        description="Seconds news of a provider is known as a repeat; at least a day.",
    )
    message_retention_days: int = Field(
        default=0, ge=0, le=36_500, description="Days messages are kept; 0: for ever. See docs/privacy.md."
    )
    webhook_log_retention: float = Field(
        default=2_592_000.0, ge=3600, description="Seconds the raw requests of providers are kept."
    )
    webhook_forged_bytes: int = Field(
        default=1_048_576,
        ge=0,
        description=(
            "Bytes kept in an hour of requests without their proof, of each provider by each message process;"
            " the rest is counted."
        ),
    )
    webhook_parking_time: float = Field(
        default=86_400.0,
        ge=60,
        description="Seconds a receipt waits for the message whose provider id it names.",
    )
    webhook_verification: bool = Field(
        default=True,
        description="Check who sent a webhook. Can be switched off on loopback only, for development.",
    )
    webhook_max_body_bytes: int = Field(
        default=31 * 1024 * 1024,
        ge=1024,
        description="Largest webhook the gateway takes, in bytes; SendGrid's may have 30 MB.",
    )
    strict_phone_numbers: bool = Field(
        default=False, description="Refuse numbers that are possible but not assigned to any range."
    )
    sender_pools: Annotated[str, checked(parse_sender_pools)] = Field(
        default="",
        description=(
            "Senders to choose from: `support=+15550001111,+15550002222 default=hello@example.com`;"
            " `default` is for sends that name none."
        ),
    )
