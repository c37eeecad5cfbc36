"""All settings of all processes, read from the environment and from `.env`."""

import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]


def _world(name: str) -> AliasChoices:
    """Return the alias of a setting whose name the world knows; it carries no prefix."""
    return AliasChoices(name, name.lower())


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
    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        validation_alias=_world("NATS_URL"),
        description="NATS server, or several separated by commas, with JetStream on.",
    )
    data_dir: Path = Field(default=Path(".posthouse"), description="Folder of the embedded stack's data.")

    host: str = Field(default="127.0.0.1", description="Address every server binds to.")
    http_port: Port = Field(default=8000, description="Port of the HTTP gateway.")
    grpc_port: Port = Field(
        default=50051,
        description="Port of MessageService; the next two are ConversationService's and DispatchService's.",
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
    strict_phone_numbers: bool = Field(
        default=False, description="Refuse numbers that are possible but not assigned to any range."
    )

    routes: str = Field(
        default="sms=simulator mms=simulator email=simulator",
        description="Providers per channel in order of preference: `sms=a,b email=c`.",
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
    outbox_republish_after: float = Field(
        default=5.0,
        gt=0,
        description="Seconds after which committed work that nobody has claimed is published again.",
    )

    fault_points: str = Field(
        default="",
        description="Places where the process kills itself, for tests of recovery: `message.after_commit@3`.",
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
    twilio_phone_number: str | None = Field(
        default=None,
        validation_alias=_world("TWILIO_PHONE_NUMBER"),
        description="Number that POST /sms/send sends from.",
    )
    webhook_base_url: str = Field(
        default="http://127.0.0.1:8000", description="Public address of the gateway, as providers call it."
    )

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

    @cached_property
    def routing(self) -> dict[str, list[str]]:
        """Return the providers per channel, in order of preference."""
        return dict(_parse_route(part) for part in self.routes.split())


def _parse_route(part: str) -> tuple[str, list[str]]:
    channel, separator, names = part.partition("=")
    providers = [name for name in names.split(",") if name]
    if not separator or not channel or not providers:
        raise ValueError(f"POSTHOUSE_ROUTES: {part!r} is not of the form channel=provider,provider")
    return channel, providers


def load_settings(**overrides: object) -> Settings:
    """Return the settings, or stop the process with one clear line per wrong value."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
        _ = settings.routing
    except ValidationError as error:
        lines = [
            f"posthouse: wrong setting {_setting_name(str(item['loc'][0]))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        sys.exit("\n".join(lines))
    except ValueError as error:
        sys.exit(f"posthouse: wrong setting {error}")
    return settings


def _setting_name(location: str) -> str:
    known = Settings.model_fields.get(location.lower())
    return location.upper() if known is None or known.validation_alias else f"POSTHOUSE_{location.upper()}"
