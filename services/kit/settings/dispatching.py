"""Sending: routes, retries, breakers and rates."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from services.kit.provider_limits import parse_provider_limits, parse_sender_limits
from services.kit.routes import parse_routes
from services.kit.settings.fields import checked
from services.kit.unknown_policy import parse_unknown_policy


class DispatchSettings(BaseSettings):
    """Sending: routes, retries, breakers and rates."""

    dead_letter_retention: float = Field(
        default=2_592_000.0,
        ge=86_400,
        description="Seconds a dead letter is kept and can be replayed; at least a day.",
    )
    routes: Annotated[str, checked(parse_routes)] = Field(
        default="sms=simulator mms=simulator email=simulator",
        description="Providers per channel in order of preference: `sms=a,b sms[to=+44]=c:3|d:1,a email=e`.",
    )
    unknown_policy: Annotated[str, checked(parse_unknown_policy)] = Field(
        default="simulator=resend",
        description=(
            "What becomes of what a provider has proved not to have: `twilio=resend smtp/email=hold`;"
            " hold where nothing is said."
        ),
    )
    dispatch_batch_size: int = Field(
        default=1000, ge=1, le=5000, description="Most messages a dispatcher claims at once."
    )
    dispatch_concurrency: int = Field(
        default=4, ge=1, le=64, description="Batches a dispatcher works on at the same time."
    )
    dispatch_lease: float = Field(
        default=30.0,
        ge=1,
        description="Seconds a claim holds before other dispatchers may take the work over.",
    )
    dispatch_max_attempts: int = Field(
        default=5, ge=1, le=100, description="Attempts before a message becomes a dead letter."
    )
    dispatch_max_age: float = Field(
        default=86_400.0,
        gt=0,
        description="Seconds of age beyond which a message is not tried again; it counts from its due time.",
    )
    dispatch_retry_base: float = Field(
        default=1.0, gt=0, description="Seconds of the first retry's backoff; each next one doubles it."
    )
    dispatch_retry_max: float = Field(
        default=300.0, gt=0, description="Seconds that no backoff of ours goes beyond."
    )
    dispatch_retry_budget: float = Field(
        default=0.15,
        ge=0,
        le=10,
        description="Retries per first attempt while nothing succeeds; each success allows two more.",
    )
    dispatch_failover_after: int = Field(
        default=2,
        ge=1,
        le=100,
        description="Failures of a message at a provider before the next one gets it.",
    )
    breaker_failures: int = Field(
        default=10, ge=1, le=10_000, description="Failures in a row that open a provider's breaker."
    )
    breaker_failure_rate: float = Field(
        default=0.5, gt=0, le=1, description="Share of failures within 30 seconds that opens it."
    )
    breaker_cool_down: float = Field(
        default=10.0, gt=0, description="Seconds an open breaker waits before it lets probes through."
    )
    breaker_probes: int = Field(
        default=10, ge=1, le=1000, description="Probes that decide; four of five must succeed to close it."
    )
    provider_rates: Annotated[str, checked(parse_provider_limits)] = Field(
        default="",
        description="Messages per second all dispatchers together give a provider: `twilio=30 smtp=5`.",
    )
    provider_concurrency: Annotated[str, checked(parse_provider_limits)] = Field(
        default="",
        description="Messages all dispatchers together have under way at a provider: `twilio=10`.",
    )
    sender_rates: Annotated[str, checked(parse_sender_limits)] = Field(
        default="",
        description="Messages per second all dispatchers together send from a sender: `+15551234567=1 *=10`.",
    )
    outbox_republish_after: float = Field(
        default=5.0,
        gt=0,
        description="Seconds after which committed work that nobody has claimed is published again.",
    )
    outbox_max_age: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that committed work may wait before health says that the outbox does not move.",
    )
