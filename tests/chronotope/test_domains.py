"""The settings of each domain are settings, and its page shows how they are used."""

import shlex
from pathlib import Path

import pytest

from model_server.settings import ServerSettings
from schemas.settings import EventSettings
from streams.settings import WorkerSettings

DOMAINS = Path(__file__).resolve().parents[2] / "docs" / "domains"
SETTINGS = (DOMAINS.parent / "settings.md").read_text()


def chosen(domain: str) -> dict[str, str]:
    """As a shell reads the file."""
    lines = shlex.split((DOMAINS / f"{domain}.env").read_text(), comments=True)
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("domain", ["shop", "venues", "city"])
def test_every_line_of_a_domain_is_taken_by_the_worker_or_the_server(
    domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in chosen(domain).items():
        assert f"| `{name}` |" in SETTINGS, name
        monkeypatch.setenv(name, value)
    taken = {"WORKER": WorkerSettings(), "SERVER": ServerSettings(), "EVENT": EventSettings()}
    for name in chosen(domain):
        kind, field = name.removeprefix("CHRONOTOPE_").split("_", 1)
        assert field.lower() in taken[kind].model_fields_set, name


def test_domains_differ_in_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for domain in ("shop", "venues", "city"):
        with monkeypatch.context() as patched:
            for name, value in chosen(domain).items():
                patched.setenv(name, value)
            found[domain] = WorkerSettings()
    assert found["shop"].half_life_s < found["venues"].half_life_s
    assert found["city"].window_s < found["venues"].window_s


@pytest.mark.parametrize("domain", ["shop", "venues", "city"])
def test_the_page_of_a_domain_names_its_settings_and_the_commands(domain: str) -> None:
    page = (DOMAINS / f"{domain}.md").read_text()
    assert f"docs/domains/{domain}.env" in page
    assert "chronotope evaluate" in page and "chronotope demo" in page
