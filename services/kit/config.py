"""All settings of all processes, read from the environment, from `.env`, and from files that these name."""

import sys
from functools import cached_property
from typing import Final, NoReturn

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from services.kit.keyring import Keyring, parse_keys
from services.kit.routes import Routes, parse_routes
from services.kit.settings.access import AccessSettings
from services.kit.settings.carriers import CarrierSettings
from services.kit.settings.dispatching import DispatchSettings
from services.kit.settings.fields import words
from services.kit.settings.from_files import FileSource, SettingFileError
from services.kit.settings.intake import IntakeSettings
from services.kit.settings.limiting import LimitSettings
from services.kit.settings.servers import ServerSettings
from services.kit.settings.subscribing import SubscriptionSettings
from services.kit.settings.watching import WatchSettings

# EX_CONFIG of sysexits.h: to start again does not help, so a supervisor must not.
EXIT_WRONG_SETTING: Final = 78


class WrongSettingError(ValueError):
    """A setting that only its user can judge is wrong. Each line of the text begins with a name."""


# The bases stand in this order because the fields of the last come first.
class Settings(
    CarrierSettings,
    AccessSettings,
    LimitSettings,
    SubscriptionSettings,
    WatchSettings,
    DispatchSettings,
    IntakeSettings,
    ServerSettings,
):
    """Every setting, with a default that works on a laptop. The README's table lists them."""

    model_config = SettingsConfigDict(
        env_prefix="POSTHOUSE_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings are looked for, in this order."""
        files = FileSource(settings_cls, env_settings, dotenv_settings)
        return (init_settings, env_settings, dotenv_settings, files, file_secret_settings)

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
    def keyring(self) -> Keyring:
        """Return the keys of content at rest."""
        return Keyring(parse_keys(self.encryption_keys.get_secret_value()), seals=self.encryption_seal)

    @property
    def followed(self) -> frozenset[str]:
        """Return the dependencies that readiness follows."""
        return words(self.ready_follows)

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
        return read_settings(**overrides)
    except WrongSettingError as error:
        refuse(error)


def refuse(error: WrongSettingError) -> NoReturn:
    """Stop the process with one line for each setting that is wrong."""
    for line in str(error).splitlines():
        print(f"posthouse: wrong setting {line}", file=sys.stderr)  # noqa: T201 - before there are logs
    sys.exit(EXIT_WRONG_SETTING)


def read_settings(**overrides: object) -> Settings:
    """Return the settings, or raise WrongSettingError with a line per wrong value."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
        _check_together(settings)
    except ValidationError as error:
        lines = [
            f"{_setting_name(str(item['loc'][0]))}: " + item["msg"].removeprefix("Value error, ")
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise WrongSettingError("\n".join(lines)) from None
    except SettingFileError as error:
        raise WrongSettingError(str(error)) from None
    return settings


def _setting_name(location: str) -> str:
    known = Settings.model_fields.get(location.lower())
    return location.upper() if known is None or known.validation_alias else f"POSTHOUSE_{location.upper()}"
