"""TLS between clients and services, where the settings have certificates."""

from pathlib import Path

import grpc

from services.kit.config import Settings, WrongSettingError


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return what a server proves itself with, None without TLS; raises WrongSettingError.

    With POSTHOUSE_TLS_CLIENT_CERTIFICATES only clients that the CA vouches for may connect.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    own = (_read("TLS_KEY", settings.tls_key), _read("TLS_CERT", settings.tls_cert))
    authority = _read("TLS_CA", settings.tls_ca) if settings.tls_ca else None
    return grpc.ssl_server_credentials(
        [own],
        root_certificates=authority if settings.tls_client_certificates else None,
        require_client_auth=settings.tls_client_certificates,
    )


def channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """Return what a client trusts and proves itself with, None without TLS; raises WrongSettingError."""
    if settings.tls_ca is None and settings.tls_cert is None:
        return None
    own = {}
    if settings.tls_client_certificates and settings.tls_key is not None and settings.tls_cert is not None:
        own = {
            "private_key": _read("TLS_KEY", settings.tls_key),
            "certificate_chain": _read("TLS_CERT", settings.tls_cert),
        }
    authority = _read("TLS_CA", settings.tls_ca) if settings.tls_ca else None
    return grpc.ssl_channel_credentials(root_certificates=authority, **own)


def channel_options(settings: Settings) -> list[tuple[str, str]]:
    """Return the options of a channel whose servers' certificate bears another name than their address."""
    name = settings.tls_server_name
    return [("grpc.ssl_target_name_override", name)] if name else []


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongSettingError(f"POSTHOUSE_{name}: cannot be read: {error.strerror}") from None
