"""docker-compose.yml holds together: what it names exists, its commands parse, its settings are known."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import parse

from chronotope.diagnosis.installation import known_variables, settings_models

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
# The keys of the compose specification that a service of ours may use.
SERVICE_KEYS = {
    "image", "build", "command", "environment", "ports", "volumes", "healthcheck", "depends_on", "deploy", "restart",
    "stop_grace_period",
}  # fmt: skip
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def test_stack_is_whole():
    assert set(SERVICES) == {"kafka", "redis", "topics", "worker", "server", "prometheus", "grafana"}
    assert set(OURS) == {"topics", "worker", "server"}


@pytest.mark.parametrize("name", SERVICES)
def test_service_uses_known_keys_and_starts_from_something(name: str):
    service = SERVICES[name]
    assert set(service) <= SERVICE_KEYS
    assert "image" in service or "build" in service
    assert ":" in service["image"] or name in OURS, "a foreign image names its version"


@pytest.mark.parametrize("name", OURS)
def test_command_is_one_of_ours(name: str):
    parse(OURS[name]["command"])


def test_command_that_does_not_exist_would_be_noticed():
    with pytest.raises(Exception, match="No such command"):
        parse(["topics", "aply"])


@pytest.mark.parametrize("name", OURS)
def test_setting_is_known_and_valid(name: str, monkeypatch: pytest.MonkeyPatch):
    environment = OURS[name]["environment"]
    assert set(environment) <= known_variables()
    for variable, value in environment.items():
        monkeypatch.setenv(variable, str(value))
    for model in settings_models():
        model()


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_exist_and_can_meet_their_condition(name: str):
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] in CONDITIONS
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[needed]
        if how["condition"] == "service_completed_successfully":
            assert SERVICES[needed].get("restart") != "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"topics"}))
def test_long_running_service_has_a_health_check(name: str):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_alone(name: str):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_folders_and_volumes_exist(name: str):
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).is_dir()
        else:
            assert source in COMPOSE["volumes"]


def test_kafka_is_the_version_that_the_tests_run_against():
    pom = (ROOT / "ops" / "kafka" / "pom.xml").read_text()
    version = SERVICES["kafka"]["image"].split(":")[1]
    assert f"<kafka.version>{version}</kafka.version>" in pom


def test_image_starts_our_command_line_without_root():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["chronotope"]' in lines
    assert "USER chronotope" in lines
