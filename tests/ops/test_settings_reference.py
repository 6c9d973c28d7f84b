"""The settings page is that of the code, and every setting says what it means."""

import importlib.util
from pathlib import Path
from types import ModuleType

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
