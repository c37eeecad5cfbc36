"""What every process needs: where the others are, how it listens, logs and ends."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from services.kit.fault_points import parse_fault_points
from services.kit.settings.fields import Port, check_database_url, check_nats_url, checked, some_of, world


class ServerSettings(BaseSettings):
    """What every process needs: where the others are, how it listens, logs and ends."""

    database_url: Annotated[str, checked(check_database_url)] = Field(
        default="postgresql://posthouse:posthouse@127.0.0.1:5432/posthouse",
        validation_alias=world("DATABASE_URL"),
        description="PostgreSQL that holds the ledger.",
    )
    database_replica_url: Annotated[str, checked(check_database_url)] | None = Field(
        default=None,
        validation_alias=world("DATABASE_REPLICA_URL"),
        description="Replica of it that ConversationService reads from; default DATABASE_URL.",
    )
    nats_url: Annotated[str, checked(check_nats_url)] = Field(
        default="nats://127.0.0.1:4222",
        validation_alias=world("NATS_URL"),
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
        validation_alias=world("OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Collector of traces, by OTLP over gRPC: `http://127.0.0.1:4317`; unset: none are made.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1.0,
        ge=0,
        le=1,
        validation_alias=world("OTEL_TRACES_SAMPLER_ARG"),
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
    http_max_header_bytes: int = Field(
        default=65_536,
        ge=8192,
        le=131_072,
        description="Most bytes of a request line and its headers that the gateway takes.",
    )
    http_header_timeout: float = Field(
        default=10.0, gt=0, description="Seconds a client may take to send a request line and its headers."
    )
    http_body_timeout: float = Field(
        default=60.0, gt=0, description="Seconds a client may take to send the body of a request."
    )
    ready_follows: Annotated[str, some_of("postgresql", "nats", "outbox", always="postgresql")] = Field(
        default="postgresql nats outbox",
        description=(
            "What /ready and gRPC health follow: postgresql, and any of nats, outbox; sends are taken"
            " without those two."
        ),
    )
    drain_notice: float = Field(
        default=0.5,
        ge=0,
        description="Seconds a process goes on after it has said on SIGTERM that it is not ready any more.",
    )
    shutdown_grace: float = Field(
        default=10.0, gt=0, description="Seconds a process may take to finish what is in flight on SIGTERM."
    )
    fault_points: Annotated[str, checked(parse_fault_points)] = Field(
        default="",
        description="Places where the process kills itself, for tests of recovery: `message.after_commit@3`.",
    )
