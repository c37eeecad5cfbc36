"""All settings of all processes, read from the environment and from `.env`."""

import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.bulk_limits import parse_bulk_limits
from services.kit.networks import parse_networks
from services.kit.provider_limits import parse_provider_limits, parse_sender_limits
from services.kit.routes import Routes, parse_routes
from services.kit.sender_pools import parse_sender_pools
from services.kit.unknown_policy import parse_unknown_policy

Port = Annotated[int, Field(ge=1, le=65535)]


class WrongSettingError(ValueError):
    """A setting that only its user can judge is wrong. The text begins with its name."""


def _world(name: str) -> AliasChoices:
    """Return the alias of a setting whose name the world knows; it carries no prefix."""
    return AliasChoices(name, name.lower())


def _checked_networks(text: str) -> str:
    parse_networks(text)
    return text


def _checked_provider_limits(text: str) -> str:
    parse_provider_limits(text)
    return text


def _checked_sender_limits(text: str) -> str:
    parse_sender_limits(text)
    return text


def _checked_sender_pools(text: str) -> str:
    parse_sender_pools(text)
    return text


def _checked_routes(text: str) -> str:
    parse_routes(text)
    return text


def _checked_unknown_policy(text: str) -> str:
    parse_unknown_policy(text)
    return text


def _checked_bulk_limits(secret: SecretStr) -> SecretStr:
    parse_bulk_limits(secret.get_secret_value())
    return secret


def _checked_endpoints(text: str) -> str:
    unknown = set(text.split()) - {"health", "reflection", "docs", "metrics"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is none of health, reflection, docs, metrics")
    return text


class Settings(BaseSettings):
    """Every setting, with a default that works on a laptop. The README's table lists them."""

    model_config = SettingsConfigDict(
        env_prefix="POSTHOUSE_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: str = Field(
        default="postgresql://posthouse:posthouse@127.0.0.1:5432/posthouse",
        validation_alias=_world("DATABASE_URL"),
        description="PostgreSQL that holds the ledger.",
    )
    database_replica_url: str | None = Field(
        default=None,
        validation_alias=_world("DATABASE_REPLICA_URL"),
        description="Replica of it that ConversationService reads from; default DATABASE_URL.",
    )
    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        validation_alias=_world("NATS_URL"),
        description="NATS server, or several separated by commas, with JetStream on.",
    )
    nats_replicas: int = Field(
        default=1,
        ge=1,
        le=5,
        description="Servers of a NATS cluster that keep each stream: 1, 3 or 5.",
    )
    data_dir: Path = Field(default=Path(".posthouse"), description="Folder of the embedded stack's data.")

    host: str = Field(default="127.0.0.1", description="Address every server binds to.")
    http_port: Port = Field(default=8000, description="Port of the HTTP gateway.")
    grpc_port: Port = Field(
        default=50051,
        description="Port of MessageService; the next two are ConversationService's and DispatchService's.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65533,
        description=(
            "Port of MessageService's /metrics; the next two are the others'; 0: none; default: the third "
            "port after POSTHOUSE_GRPC_PORT. The gateway serves its own at POSTHOUSE_HTTP_PORT."
        ),
    )
    message_address: str | None = Field(
        default=None, description="Where clients find MessageService; default 127.0.0.1 and its port."
    )
    conversation_address: str | None = Field(
        default=None, description="Where clients find ConversationService; default 127.0.0.1 and its port."
    )
    dispatch_address: str | None = Field(
        default=None, description="Where clients find DispatchService; default 127.0.0.1 and its port."
    )

    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: str = Field(default="json", pattern="^(json|console)$", description="json or console.")

    otel_exporter_otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        validation_alias=_world("OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Collector of traces, by OTLP over gRPC: `http://127.0.0.1:4317`; unset: none are made.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1.0,
        ge=0,
        le=1,
        validation_alias=_world("OTEL_TRACES_SAMPLER_ARG"),
        description="Share of requests that are traced, where the caller has not decided.",
    )

    database_pool_size: int = Field(default=20, ge=2, le=200, description="Connections a process may hold.")
    database_timeout: float = Field(
        default=30.0, gt=0, description="Seconds to wait for a connection or a statement."
    )
    grpc_max_message_bytes: int = Field(
        default=32 * 1024 * 1024, ge=65536, description="Largest gRPC message a server takes, in bytes."
    )
    grpc_max_concurrent_rpcs: int = Field(
        default=1000, ge=1, description="Calls a server works on at once; more are refused as overloaded."
    )
    http_max_body_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Largest HTTP body the gateway takes, in bytes."
    )
    shutdown_grace: float = Field(
        default=10.0, gt=0, description="Seconds a process may take to finish what is in flight on SIGTERM."
    )

    commit_batch_size: int = Field(
        default=1000, ge=1, le=5000, description="Most messages that share one transaction of intake."
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
    search_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Share of its time a conversation process may spend on indexing for search; 0: none.",
    )
    message_retention_days: int = Field(
        default=0, ge=0, le=36_500, description="Days messages are kept; 0: for ever. See docs/privacy.md."
    )
    webhook_log_retention: float = Field(
        default=2_592_000.0, ge=3600, description="Seconds the raw requests of providers are kept."
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

    sender_pools: Annotated[str, AfterValidator(_checked_sender_pools)] = Field(
        default="",
        description=(
            "Senders to choose from: `support=+15550001111,+15550002222 default=hello@example.com`;"
            " `default` is for sends that name none."
        ),
    )
    dead_letter_retention: float = Field(
        default=2_592_000.0,
        ge=86_400,
        description="Seconds a dead letter is kept and can be replayed; at least a day.",
    )
    routes: Annotated[str, AfterValidator(_checked_routes)] = Field(
        default="sms=simulator mms=simulator email=simulator",
        description="Providers per channel in order of preference: `sms=a,b sms[to=+44]=c:3|d:1,a email=e`.",
    )
    unknown_policy: Annotated[str, AfterValidator(_checked_unknown_policy)] = Field(
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
    dispatch_retry_base: float = Field(
        default=1.0, gt=0, description="Seconds of the first retry's backoff; each next one doubles it."
    )
    dispatch_retry_max: float = Field(default=300.0, gt=0, description="Seconds no backoff goes beyond.")
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
    provider_rates: Annotated[str, AfterValidator(_checked_provider_limits)] = Field(
        default="", description="Messages per second a dispatcher gives a provider: `twilio=30 smtp=5`."
    )
    provider_concurrency: Annotated[str, AfterValidator(_checked_provider_limits)] = Field(
        default="", description="Messages a dispatcher has under way at a provider: `twilio=10`."
    )
    watch_streams: int = Field(
        default=10_000, ge=1, description="Watchers of events a process serves at once; more are refused."
    )
    watch_heartbeat: float = Field(
        default=15.0,
        gt=0,
        le=300,
        description="Seconds without an event after which a watcher gets a sign of life.",
    )
    watch_buffer: int = Field(
        default=20_000, ge=1, description="Newest events a process keeps for watchers that come back."
    )
    watch_backlog: int = Field(
        default=10_000,
        ge=1,
        description="Events that may wait for one slow watcher before its stream is ended.",
    )
    sender_rates: Annotated[str, AfterValidator(_checked_sender_limits)] = Field(
        default="", description="Messages per second a dispatcher sends from a sender: `+15551234567=1 *=10`."
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

    fault_points: str = Field(
        default="",
        description="Places where the process kills itself, for tests of recovery: `message.after_commit@3`.",
    )

    rate_limit_enabled: bool = Field(
        default=True,
        validation_alias=_world("RATE_LIMIT_ENABLED"),
        description="Limit how much callers may do.",
    )
    rate_limit_requests: int = Field(
        default=100,
        ge=1,
        le=2**31 - 1,
        validation_alias=_world("RATE_LIMIT_REQUESTS"),
        description="Requests to each endpoint, and messages in all, that a client may send in a period.",
    )
    rate_limit_period: int = Field(
        default=60,
        ge=1,
        le=86400,
        validation_alias=_world("RATE_LIMIT_PERIOD"),
        description="Seconds of the sliding window.",
    )
    rate_limit_storage: str = Field(
        default="memory://",
        pattern="^(memory://|rediss?://.+)$",
        validation_alias=_world("RATE_LIMIT_STORAGE"),
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
    rate_limit_bulk: Annotated[SecretStr, AfterValidator(_checked_bulk_limits)] = Field(
        default=SecretStr(""),
        description=(
            "Limits of bulk senders as `who=requests`: an API key, sha256:digest, prefix*, network or *."
        ),
    )
    trusted_proxies: Annotated[str, AfterValidator(_checked_networks)] = Field(
        default="", description="Networks of proxies whose X-Forwarded-For is believed: `10.0.0.0/8 ::1`."
    )
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
    open_endpoints: Annotated[str, AfterValidator(_checked_endpoints)] = Field(
        default="health reflection docs metrics",
        description="What needs no credential where others do: any of health, reflection, docs, metrics.",
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
        validation_alias=_world("TWILIO_ACCOUNT_SID"),
        description="Account that messages are sent with when a route uses twilio.",
    )
    twilio_auth_token: SecretStr | None = Field(
        default=None,
        validation_alias=_world("TWILIO_AUTH_TOKEN"),
        description="Auth token of that account; it signs Twilio's webhooks, and setting it enables them.",
    )
    twilio_api_key: str | None = Field(
        default=None,
        validation_alias=_world("TWILIO_API_KEY"),
        description="SID of an API key to send with in place of the auth token.",
    )
    twilio_api_secret: SecretStr | None = Field(
        default=None, validation_alias=_world("TWILIO_API_SECRET"), description="Secret of that API key."
    )
    twilio_messaging_service_sid: str | None = Field(
        default=None,
        validation_alias=_world("TWILIO_MESSAGING_SERVICE_SID"),
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
        default=40, ge=1, le=100, description="Requests to Twilio a dispatcher has under way at most."
    )
    twilio_phone_number: str | None = Field(
        default=None,
        validation_alias=_world("TWILIO_PHONE_NUMBER"),
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
        validation_alias=_world("MONITOR_API_URL"),
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
        validation_alias=_world("SENDGRID_API_KEY"),
        description="API key with the permission to send mail, for routes that use sendgrid.",
    )
    sendgrid_webhook_public_key: str = Field(
        default="",
        validation_alias=_world("SENDGRID_WEBHOOK_PUBLIC_KEY"),
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
    smtp_url: SecretStr | None = Field(
        default=None,
        validation_alias=_world("SMTP_URL"),
        description="Server for routes that use smtp: smtp://user:password@host:587, or smtps://.",
    )
    smtp_connections: int = Field(
        default=4, ge=1, le=50, description="Connections to the SMTP server a dispatcher has at most."
    )
    smtp_allow_plaintext: bool = Field(
        default=False, description="Allow SMTP_URL to have tls=none for a host beyond loopback."
    )
    webhook_base_url: str = Field(
        default="http://127.0.0.1:8000", description="Public address of the gateway, as providers call it."
    )

    @property
    def authenticates(self) -> bool:
        """Tell whether callers need a credential."""
        return self.api_key_secret is not None or self.jwt_issuer is not None

    @cached_property
    def message_target(self) -> str:
        """Return host:port of MessageService for clients."""
        return self.message_address or f"127.0.0.1:{self.grpc_port}"

    @cached_property
    def conversation_target(self) -> str:
        """Return host:port of ConversationService for clients."""
        return self.conversation_address or f"127.0.0.1:{self.grpc_port + 1}"

    @cached_property
    def dispatch_target(self) -> str:
        """Return host:port of DispatchService for clients."""
        return self.dispatch_address or f"127.0.0.1:{self.grpc_port + 2}"

    @property
    def route_rules(self) -> Routes:
        """Return the routes."""
        return parse_routes(self.routes)

    @property
    def routing(self) -> dict[str, list[str]]:
        """Return all providers of each channel's routes, those of its general route first."""
        return self.route_rules.providers


def _check_together(settings: Settings) -> None:
    """Raise WrongSettingError for settings that are right each, and wrong together."""
    jwt_keys = settings.jwt_keys or settings.jwt_secret
    for given, name, needed, reason in (
        (settings.jwt_issuer, "JWT_AUDIENCE", settings.jwt_audience, "tokens may be for others"),
        (settings.jwt_issuer, "JWT_KEYS", jwt_keys, "or POSTHOUSE_JWT_SECRET"),
        (jwt_keys, "JWT_ISSUER", settings.jwt_issuer, "JWTs need it"),
        (settings.tls_cert, "TLS_KEY", settings.tls_key, "the certificate needs it"),
        (settings.tls_key, "TLS_CERT", settings.tls_cert, "the key needs it"),
        (settings.tls_client_certificates, "TLS_CA", settings.tls_ca, "client certificates need it"),
        (settings.tls_client_certificates, "TLS_CERT", settings.tls_cert, "client certificates need it"),
    ):
        if given and not needed:
            raise WrongSettingError(f"POSTHOUSE_{name}: must be set: {reason}")


def load_settings(**overrides: object) -> Settings:
    """Return the settings, or stop the process with one clear line per wrong value."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
        _check_together(settings)
    except ValidationError as error:
        lines = [
            f"posthouse: wrong setting {_setting_name(str(item['loc'][0]))}: "
            + item["msg"].removeprefix("Value error, ")
            for item in error.errors(include_input=False, include_url=False)
        ]
        sys.exit("\n".join(lines))
    except WrongSettingError as error:
        sys.exit(f"posthouse: wrong setting {error}")
    return settings


def _setting_name(location: str) -> str:
    known = Settings.model_fields.get(location.lower())
    return location.upper() if known is None or known.validation_alias else f"POSTHOUSE_{location.upper()}"
