"""Writes docs/settings.md: every setting with its environment variable, default, unit and meaning, from the code.

Run ``python ops/settings_reference.py`` after a change of a setting; a test holds the page against the code.
"""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
MODULES = ("schemas", "streams", "model_server", "chronotope")
HEAD = """# Settings

Every setting is an environment variable; the defaults suit one machine, and each is shown as it would be set: lists and tables
are JSON. This page is generated from the code (`python ops/settings_reference.py`).
"""


def settings_classes() -> list[type[BaseSettings]]:
    """Every settings class of the packages' ``settings`` modules, by module and then in the order of declaration."""
    found: list[type[BaseSettings]] = []
    for package in MODULES:
        path = importlib.import_module(package).__path__
        if not any(module.name == "settings" for module in pkgutil.iter_modules(path)):
            continue
        module = importlib.import_module(f"{package}.settings")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__:
                found.append(value)
    return found


def reference_page() -> str:
    """The Markdown text of the page."""
    return HEAD + "".join(_section(settings) for settings in settings_classes())


def _section(settings: type[BaseSettings]) -> str:
    prefix = settings.model_config.get("env_prefix", "")
    summary = (settings.__doc__ or "").strip().splitlines()[0]
    rows = "".join(
        _row(prefix, name, field) for name, field in settings.model_fields.items() if not _has_own_section(field)
    )
    title = f"\n## {settings.__name__} (`{settings.__module__}`)\n\n{summary}\n\n"
    return title + "| variable | default | meaning |\n| --- | --- | --- |\n" + rows


def _has_own_section(field: FieldInfo) -> bool:
    kinds = get_args(field.annotation) or (field.annotation,)
    return any(isinstance(kind, type) and issubclass(kind, BaseSettings) for kind in kinds)


def _row(prefix: str, name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, dict | list | tuple | frozenset):
        default = json.dumps(default if isinstance(default, dict) else [*default])
    shown = "" if default is None else f"`{default}`"
    return f"| `{(prefix + name).upper()}` | {shown} | {field.description} |\n"


if __name__ == "__main__":
    PAGE.write_text(reference_page())
