"""Callers are told apart by key, else by address; only trusted proxies and our gateway are believed."""

from hashlib import sha256

import pytest

from services.kit.bulk_limits import parse_bulk_limits
from services.kit.config import WrongSettingError, read_settings
from services.kit.networks import limited_address, parse_networks, peer_address
from services.kit.rate_limit_clients import Clients, credential

PROXIES = "10.0.0.0/8, 2001:db8:ffff::/48"
TOKEN = "token-of-the-gateway"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # no proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the left one is the caller's claim
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1", "10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 10.0.0.7"], "10.0.0.7"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("2001:db8:ffff::1", ["[2001:db8:1::5]:80"], "2001:db8:1::5"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_forwarded_addresses_are_believed_from_proxies_only(
    peer: str, forwarded: list[str], address: str
) -> None:
    assert Clients(trusted_proxies=PROXIES).address(peer, forwarded) == address
    assert Clients().address(peer, forwarded) == peer


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("testclient", "unknown"),
    ],
)
def test_what_counts_as_one_address(text: str, counted: str) -> None:
    assert limited_address(text) == counted


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:50051", "127.0.0.1"),
        ("ipv6:%5B2001:db8:1:2::7%5D:50051", "2001:db8:1:2::/64"),
        ("ipv6:[::1]:5", "::/64"),
        ("unix:/run/posthouse.sock", "unknown"),
    ],
)
def test_peers_of_grpc(peer: str, address: str) -> None:
    assert limited_address(peer_address(peer)) == address


def test_the_same_key_is_the_same_client_in_either_header_and_from_anywhere() -> None:
    clients = Clients()
    first = clients.of_call([("x-api-key", "k1")], "ipv4:192.0.2.1:1")
    assert first.key == clients.of_call([("authorization", "Bearer k1")], "ipv4:192.0.2.2:1").key
    assert first.key != clients.of_call([("x-api-key", "k2")], "ipv4:192.0.2.1:1").key
    assert "k1" not in first.key
    assert first.address == "192.0.2.1"


def test_without_a_key_the_address_is_the_client() -> None:
    clients = Clients()
    for metadata in ([], [("x-api-key", "")], [("user-agent", "k1")]):
        assert clients.of_call(metadata, "ipv4:192.0.2.1:1").key == "ip:192.0.2.1"
    assert credential([("x-api-key", ""), ("authorization", "Bearer k")]) == "k"
    assert credential([("authorization", "bearer  k")]) == "k"
    assert credential([("authorization", "Basic k")]) == ""
    assert credential([("authorization", "k")]) == ""


def test_the_gateway_names_its_caller_and_nobody_else_can() -> None:
    clients = Clients(gateway_token=TOKEN)
    said = [("x-posthouse-address", "198.51.100.7")]
    assert clients.of_call([("x-posthouse-gateway", TOKEN), *said], "ipv4:127.0.0.1:1").key == (
        "ip:198.51.100.7"
    )
    forgeries: list[list[tuple[str, str | bytes]]] = [
        [],
        [("x-posthouse-gateway", "token")],
        [("x-posthouse-gateway", "")],
        [("x-posthouse-gateway", TOKEN + "x")],
        [("x-posthouse-gateway-bin", TOKEN.encode())],
    ]
    for forged in forgeries:
        assert not clients.is_gateway(forged)
        assert clients.of_call([*forged, *said], "ipv4:127.0.0.1:1").key == "ip:127.0.0.1"


def test_without_a_token_nobody_is_the_gateway() -> None:
    for value in ("", "anything"):
        assert not Clients().is_gateway([("x-posthouse-gateway", value)])


def test_a_key_and_the_gateway_token_travel_together() -> None:
    clients = Clients(gateway_token=TOKEN)
    client = clients.of_call(
        [("x-api-key", "k"), ("x-posthouse-gateway", TOKEN), ("x-posthouse-address", "198.51.100.7")],
        "ipv4:127.0.0.1:1",
    )
    assert client.key.startswith("key:")
    assert client.address == "198.51.100.7"


BULK = f"secret=500 sha256:{sha256(b'other').hexdigest()}=600,bulk-*=700 192.0.2.0/24=800 b64==900"


@pytest.mark.parametrize(
    ("secret", "address", "limit"),
    [
        ("secret", "203.0.113.1", 500),
        ("other", "203.0.113.1", 600),
        ("bulk-", "203.0.113.1", 700),
        ("bulk-7", "203.0.113.1", 700),
        ("", "192.0.2.200", 800),
        ("bulk-7", "192.0.2.200", 800),  # the highest that fits
        ("b64=", "192.0.2.200", 900),
        ("nobody", "203.0.113.1", 0),
        ("", "203.0.113.1", 0),
        ("", "nonsense", 0),
    ],
)
def test_bulk_senders_have_limits_of_their_own(secret: str, address: str, limit: int) -> None:
    assert Clients(bulk=BULK).identify(secret, address).limit == limit


def test_a_star_is_everyone() -> None:
    for secret in ("", "key"):
        assert Clients(bulk="*=5000 key=10").identify(secret, "203.0.113.1").limit == 5000


@pytest.mark.parametrize(
    "text", ["key", "=5", "key=", "key=0", "key=-1", "key=1e9", "key=3000000000", "sha256:12=5", "key=٣"]
)
def test_a_wrong_bulk_setting_stops_the_start_and_prints_no_key(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="entry 1 is not"):
        parse_bulk_limits(text)
    monkeypatch.setenv("POSTHOUSE_RATE_LIMIT_BULK", text)
    with pytest.raises(WrongSettingError, match=r"^POSTHOUSE_RATE_LIMIT_BULK: ") as refused:
        read_settings()
    assert text not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTHOUSE_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("POSTHOUSE_TRUSTED_PROXIES", "proxy.example"),
        ("RATE_LIMIT_STORAGE", "memcached://localhost"),
        ("RATE_LIMIT_REQUESTS", "0"),
        ("RATE_LIMIT_PERIOD", "0"),
    ],
)
def test_other_wrong_settings_stop_the_start(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettingError, match=f"^{name}: "):
        read_settings()


def test_networks_are_separated_by_spaces_or_commas() -> None:
    assert [str(network) for network in parse_networks("10.1.2.3/8, ::1  192.0.2.7")] == [
        "10.0.0.0/8",
        "::1/128",
        "192.0.2.7/32",
    ]
    assert parse_networks("") == ()
