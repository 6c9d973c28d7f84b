"""The settings page is that of the code, and every setting says what it means."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_reference", ROOT / "ops" / "settings_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_that_of_the_code() -> None:
    generator = _generator()
    assert generator.PAGE.read_text() == generator.reference_page(), "run python ops/settings_reference.py"


def test_every_setting_is_described() -> None:
    for settings in _generator().settings_classes():
        for name, field in settings.model_fields.items():
            assert field.description, f"{settings.__name__}.{name} has no description"


def test_every_default_can_be_copied_from_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = _generator()
    for settings in generator.settings_classes():
        prefix = settings.model_config["env_prefix"]
        asked = settings()
        for name, field in settings.model_fields.items():
            cells = generator._row(prefix, name, field).split(" | ")
            if cells[1].strip() and not generator._has_own_section(field):
                monkeypatch.setenv((prefix + name).upper(), cells[1].strip().strip("`"))
        assert settings() == asked, settings.__name__
