"""The providers, and the register of tenants."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from services.kit.reply_to import parse_reply_to
from services.kit.settings.fields import checked, world


class CarrierSettings(BaseSettings):
    """The providers, and the register of tenants."""

    simulator_secret: SecretStr | None = Field(
        default=None, description="Key that signs the simulator's webhooks. `posthouse up` makes one."
    )
    simulator_path: Path = Field(
        default=Path(".posthouse/simulator.db"), description="File in which the simulator remembers."
    )
    simulator_profile: str = Field(
        default="", description="Behaviour of the simulator as JSON: a SimulatorProfile, or a list of them."
    )
    twilio_account_sid: str | None = Field(
        default=None,
        pattern="^[A-Za-z0-9]{1,64}$",
        validation_alias=world("TWILIO_ACCOUNT_SID"),
        description="Account that messages are sent with when a route uses twilio.",
    )
    twilio_auth_token: SecretStr | None = Field(
        default=None,
        validation_alias=world("TWILIO_AUTH_TOKEN"),
        description="Auth token of that account; it signs Twilio's webhooks, and setting it enables them.",
    )
    twilio_api_key: str | None = Field(
        default=None,
        validation_alias=world("TWILIO_API_KEY"),
        description="SID of an API key to send with in place of the auth token.",
    )
    twilio_api_secret: SecretStr | None = Field(
        default=None, validation_alias=world("TWILIO_API_SECRET"), description="Secret of that API key."
    )
    twilio_messaging_service_sid: str | None = Field(
        default=None,
        validation_alias=world("TWILIO_MESSAGING_SERVICE_SID"),
        description="Messaging service to send with; its sender pool must hold the senders used.",
    )
    twilio_webhook_key: SecretStr | None = Field(
        default=None, description="Shared key of webhooks that Twilio signs with HMAC-SHA256."
    )
    twilio_base_url: str = Field(
        default="https://api.twilio.com",
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="Address of Twilio's API, for a region: https://api.dublin.ie1.twilio.com.",
    )
    twilio_timeout: float = Field(
        default=20.0, gt=0, le=300, description="Seconds a request to Twilio may take."
    )
    twilio_concurrency: int = Field(
        default=40,
        ge=1,
        le=100,
        description="Requests to Twilio all dispatchers together have under way at most.",
    )
    twilio_phone_number: str | None = Field(
        default=None,
        validation_alias=world("TWILIO_PHONE_NUMBER"),
        description="Number that POST /sms/send sends from.",
    )
    phone_region: str = Field(
        default="US",
        pattern="^[A-Z]{2}$",
        description="Country (ISO 3166) of numbers without country code that conversations are looked up by.",
    )
    monitor_api_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        validation_alias=world("MONITOR_API_URL"),
        description="Collections Monitor that knows whose number is which tenant's; unset: none is asked.",
    )
    monitor_timeout: float = Field(
        default=5.0, gt=0, le=60, description="Seconds a request to the monitor may take."
    )
    monitor_reconcile_interval: float = Field(
        default=300.0,
        ge=0.05,
        le=86_400,
        description="Seconds until an unknown number is asked about again; doubles each time, up to a day.",
    )
    sendgrid_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=world("SENDGRID_API_KEY"),
        description="API key with the permission to send mail, for routes that use sendgrid.",
    )
    sendgrid_webhook_public_key: str = Field(
        default="",
        validation_alias=world("SENDGRID_WEBHOOK_PUBLIC_KEY"),
        description="Verification key of SendGrid's Event Webhook in base64; setting it enables the webhook.",
    )
    sendgrid_inbound_token: SecretStr | None = Field(
        default=None,
        description="Secret in the address of SendGrid's Inbound Parse, `?token=`; setting it enables that.",
    )
    sendgrid_base_url: str = Field(
        default="https://api.sendgrid.com",
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="Address of SendGrid's API, for a region: https://api.eu.sendgrid.com.",
    )
    reply_to: Annotated[str, checked(parse_reply_to)] = Field(
        default="",
        description=(
            "Where e-mail is answered to, by sender: `desk@example.com=desk@in.example.com *=in@example.com`;"
            " unset: to its sender."
        ),
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        validation_alias=world("SMTP_URL"),
        description="Server for routes that use smtp: smtp://user:password@host:587, or smtps://.",
    )
    smtp_connections: int = Field(
        default=4,
        ge=1,
        le=50,
        description="Connections to the SMTP server all dispatchers together use at most.",
    )
    smtp_allow_plaintext: bool = Field(
        default=False, description="Allow SMTP_URL to have tls=none for a host beyond loopback."
    )
    webhook_base_url: str = Field(
        default="http://127.0.0.1:8000", description="Public address of the gateway, as providers call it."
    )
