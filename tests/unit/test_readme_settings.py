"""The README's table of settings is the class's."""

import re
from pathlib import Path

from pydantic import SecretStr

from services.kit.config import Settings

_README = Path(__file__).parents[2] / "README.md"


def test_the_table_has_every_setting_with_its_default_and_meaning() -> None:
    block = re.search(r"<!-- settings -->\n(.*?)<!-- /settings -->", _README.read_text(), re.DOTALL)
    assert block is not None
    assert block[1].splitlines() == ["| name | default | meaning |", "|---|---|---|", *_rows()]


def _rows() -> list[str]:
    return [_row(name) for name in Settings.model_fields]


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    variable = name.upper() if field.validation_alias else f"POSTHOUSE_{name.upper()}"
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    shown = "" if default is None or default == "" else f" `{default}`"
    meaning = (field.description or "").replace("|", r"\|")
    return f"| `{variable}` |{shown} | {meaning} |"
