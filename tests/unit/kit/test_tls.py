"""TLS and mTLS between clients and services, with certificates of the right and of a wrong authority."""

import datetime as dt
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.client import open_channel
from services.kit.config import Settings, WrongSettingError
from services.kit.server import RpcServer

SERVICE = "posthouse.v1.MessageService"


class Authority:
    """An authority that issues certificates for posthouse.test into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        certificate = self._certificate(self._name, self._key.public_key(), authority=True)
        (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def settings(self, *, own: bool = True, mutual: bool = False) -> dict[str, Any]:
        """Return the settings of a process that trusts this authority, and has a certificate of it."""
        settings: dict[str, Any] = {"tls_ca": self.folder / "ca.pem", "tls_server_name": "posthouse.test"}
        if own:
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "posthouse.test")])
            certificate = self._certificate(name, key.public_key(), authority=False)
            (self.folder / "own.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            (self.folder / "own.key").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            settings |= {"tls_cert": self.folder / "own.pem", "tls_key": self.folder / "own.key"}
        return settings | {"tls_client_certificates": mutual}

    def _certificate(self, name: x509.Name, key: Any, *, authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("posthouse.test")]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[RpcServer] = []

    async def start(**settings: Any) -> int:
        server = RpcServer(Settings.model_validate(settings), 0, SERVICE)
        servers.append(server)
        await server.start()
        await server.set_serving(True)
        return server.port

    yield start
    for server in servers:
        await server.stop()


async def reaches(port: int, settings: dict[str, Any] | None) -> bool:
    """Tell whether a client with these settings gets an answer."""
    own = None if settings is None else Settings.model_validate(settings)
    async with open_channel(f"127.0.0.1:{port}", settings=own) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=SERVICE), timeout=60
            )
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - others get through
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_clients_check_the_server(serve: Serve, ours: Authority, theirs: Authority) -> None:
    port = await serve(**ours.settings())
    assert await reaches(port, ours.settings(own=False))
    assert not await reaches(port, theirs.settings(own=False))
    assert not await reaches(port, {**ours.settings(own=False), "tls_server_name": "elsewhere.test"})
    assert not await reaches(port, None)


async def test_servers_check_their_clients(serve: Serve, ours: Authority, theirs: Authority) -> None:
    port = await serve(**ours.settings(mutual=True))
    assert await reaches(port, ours.settings(mutual=True))
    # Trusts the server, and cannot prove itself to it.
    assert not await reaches(port, ours.settings(own=False))
    stranger = {**theirs.settings(mutual=True), "tls_ca": ours.folder / "ca.pem"}
    assert not await reaches(port, stranger)


async def test_a_file_that_is_not_there_is_named(ours: Authority, tmp_path: Path) -> None:
    settings = {**ours.settings(), "tls_key": tmp_path / "missing"}
    with pytest.raises(WrongSettingError, match="POSTHOUSE_TLS_KEY: cannot be read"):
        RpcServer(Settings.model_validate(settings), 0, SERVICE)
