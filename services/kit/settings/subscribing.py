"""Settings of subscriptions: where events may be posted to, and how often."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from services.kit.networks import parse_networks
from services.kit.public_targets import parse_ports
from services.kit.settings.fields import checked


class SubscriptionSettings(BaseSettings):
    """Posting of events to endpoints of customers."""

    subscription_networks: Annotated[str, checked(parse_networks)] = Field(
        default="",
        description="Networks that events may be posted to although they are not public: `10.1.2.0/24`.",
    )
    subscription_ports: Annotated[str, checked(parse_ports)] = Field(
        default="80 443 8080 8443", description="Ports that events may be posted to; *: any."
    )
    subscription_timeout: float = Field(
        default=15.0, gt=0, le=60, description="Seconds an endpoint may take to answer."
    )
    subscription_concurrency: int = Field(
        default=16, ge=1, le=256, description="Requests to one endpoint a process has under way at most."
    )
    subscription_attempts: int = Field(
        default=12, ge=1, le=100, description="Attempts to post an event before it is given up."
    )
    subscription_retry_base: float = Field(
        default=5.0, gt=0, description="Seconds of the first backoff; each next one is four times as long."
    )
    subscription_retry_max: float = Field(
        default=21_600.0, gt=0, le=86_400, description="Seconds no backoff of a post goes beyond."
    )
    subscription_disable_after: float = Field(
        default=432_000.0,
        gt=0,
        description="Seconds without a success after which a failing subscription is disabled.",
    )
    subscription_retention: float = Field(
        default=1_209_600.0,
        ge=691_200,
        description="Seconds the log of posted events is kept and can be replayed; at least 8 days.",
    )
