"""The manifests are valid Kubernetes, run commands and settings that exist, and scale no further than the partitions."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic_settings import BaseSettings
from typer.main import get_command

from chronotope.cli.main import app
from model_server.settings import ServerSettings
from schemas.settings import KafkaSettings, RedisSettings
from schemas.topics import EVENTS
from streams.settings import WorkerSettings

FOLDER = Path(__file__).resolve().parents[2] / "ops" / "kubernetes"
KUBERNETES_VERSION = "1.31"


def _objects() -> list[dict[str, Any]]:
    files = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml")
    return [part for path in files for part in yaml.safe_load_all(path.read_text())]


CORE = [part for part in _objects() if part["kind"] != "ScaledObject"]


@pytest.mark.parametrize("manifest", CORE, ids=lambda part: f"{part['kind']}/{part['metadata']['name']}")
def test_manifest_is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_kustomizations_name_every_file() -> None:
    for kustomization in FOLDER.rglob("kustomization.yaml"):
        named = set(yaml.safe_load(kustomization.read_text())["resources"])
        present = {path.name for path in kustomization.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert present == {name for name in named if not name.startswith("..")}


def test_containers_run_commands_of_ours() -> None:
    command = get_command(app)
    for part in CORE:
        if part["kind"] not in ("StatefulSet", "Job"):
            continue
        for container in part["spec"]["template"]["spec"]["containers"]:
            words = list(container["args"])
            found: Any = command
            while words and hasattr(found, "commands"):
                found = found.commands[words.pop(0)]
            assert not words, container["args"]


def test_settings_are_settings_of_ours() -> None:
    classes: list[type[BaseSettings]] = [KafkaSettings, RedisSettings, WorkerSettings, ServerSettings]
    known = {
        (settings.model_config.get("env_prefix", "") + name).upper()
        for settings in classes
        for name in settings.model_fields
    }
    lines = (FOLDER / "base" / "settings.env").read_text().split()
    assert {line.partition("=")[0] for line in lines} <= known


def test_scaling_ends_at_the_partition_count() -> None:
    scaling = next(part for part in _objects() if part["kind"] == "ScaledObject")
    trigger = scaling["spec"]["triggers"][0]["metadata"]
    assert trigger["topic"] == EVENTS.name
    assert scaling["spec"]["maxReplicaCount"] == EVENTS.partitions
    assert trigger["consumerGroup"] == WorkerSettings.model_fields["app_id"].default
