"""Where the services are, and how a channel to them is opened."""

from dataclasses import dataclass
from pathlib import Path

import grpc

_MAX_BYTES = 32 * 1024 * 1024
_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.max_send_message_length", _MAX_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The calls are repeated here, with keys and by the server's wishes.
    ("grpc.enable_retries", 0),
    # Behind a name there may be several copies.
    ("grpc.lb_policy_name", "round_robin"),
]


@dataclass(frozen=True, slots=True)
class Options:
    """How a client reaches Posthouse and how patient it is.

    `target` is MessageService's host:port. `conversation_target` is ConversationService's; by default the
    next port, as Posthouse has it by itself. Behind a proxy that serves both, give the same address twice.
    `api_key` and `token` (a JWT) are credentials, one of the two at most. `ca` turns TLS on: a file of
    authorities in PEM, or "system" for those of the system. `certificate` and `key` are files of the client's
    own certificate, for mutual TLS; `server_name` is for certificates whose name is not the address.
    `timeout` is in seconds and for one attempt; `attempts` is how often a call is made at most.
    """

    target: str = "127.0.0.1:50051"
    conversation_target: str | None = None
    api_key: str | None = None
    token: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None
    timeout: float = 10.0
    attempts: int = 5

    def __post_init__(self) -> None:
        if self.api_key and self.token:
            raise ValueError("give an api_key or a token, not both")
        if (self.certificate or self.key) and not (self.ca and self.certificate and self.key):
            raise ValueError("a certificate needs its key, and ca to check the server with")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what goes along with every call."""
        if self.api_key:
            return (("x-api-key", self.api_key),)
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    @property
    def watched(self) -> str:
        """Return the address of ConversationService."""
        if self.conversation_target:
            return self.conversation_target
        host, separator, port = self.target.rpartition(":")
        if not separator or not port.isdecimal():
            raise ValueError(f"{self.target!r} has no port to count on from: give conversation_target")
        return f"{host}:{int(port) + 1}"

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return what TLS needs, None without TLS."""
        if not self.ca:
            return None
        return grpc.ssl_channel_credentials(
            None if self.ca == "system" else Path(self.ca).read_bytes(),
            Path(self.key).read_bytes() if self.key else None,
            Path(self.certificate).read_bytes() if self.certificate else None,
        )

    @property
    def arguments(self) -> list[tuple[str, int | str]]:
        """Return the channel arguments."""
        name = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        return [*_OPTIONS, *name]
