"""Settings from files: `NAME_FILE` names the file that has the setting NAME, as for mounted secrets."""

from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource


class SettingFileError(ValueError):
    """A file that a setting names cannot be read. The text begins with the setting's name."""


class FileSource(PydanticBaseSettingsSource):
    """Reads the files that the environment or `.env` name; a setting given itself goes before its file."""

    def __init__(self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        # Names in lower case. The first source goes before the others.
        self._variables: dict[str, str | None] = {}
        for source in reversed(sources):
            if isinstance(source, EnvSettingsSource):
                self._variables.update(source.env_vars)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the field's file, None without one, and the name it is given under."""
        alias = field.validation_alias
        key = str(alias.choices[0]) if isinstance(alias, AliasChoices) else field_name
        variable = key if alias else f"{self.config.get('env_prefix', '')}{field_name.upper()}"
        path = self._variables.get(f"{variable}_file".lower())
        if not path or self._variables.get(variable.lower()):
            return None, key, False
        try:
            return Path(path).read_text().strip(), key, False
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingFileError(f"{variable}_FILE: cannot be read: {reason}") from None

    def __call__(self) -> dict[str, Any]:
        """Return what is read from files."""
        fields = self.settings_cls.model_fields
        found = (self.get_field_value(field, name) for name, field in fields.items())
        return {key: value for value, key, _ in found if value}
