"""The manifests are valid Kubernetes, run commands and settings that exist, and scale no further than the partitions."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
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
STRING, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
# A KEDA trigger's metadata are strings, whatever they mean; a name that the Kafka scaler does not know is ignored by it.
KAFKA_TRIGGER_NAMES = (
    "activationLagThreshold", "allowIdleConsumers", "bootstrapServers", "consumerGroup", "ensureEvenDistributionOfPartitions",
    "excludePersistentLag", "lagThreshold", "limitToPartitionsWithLag", "offsetResetPolicy", "partitionLimitation", "sasl",
    "scaleToZeroOnInvalidOffset", "tls", "topic", "version",
)  # fmt: skip
KAFKA_TRIGGER = {
    "type": "object", "additionalProperties": False, "required": ["bootstrapServers", "consumerGroup", "topic"],
    "properties": dict.fromkeys(KAFKA_TRIGGER_NAMES, STRING),
}  # fmt: skip
# What keda.sh/v1alpha1 says of a ScaledObject, as far as a manifest of ours may go.
SCALED_OBJECT = {
    "type": "object", "additionalProperties": False, "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": "ScaledObject"},
        "metadata": {
            "type": "object", "additionalProperties": False, "required": ["name"],
            "properties": {"name": STRING, "namespace": STRING, "labels": {"type": "object"}, "annotations": {"type": "object"}},
        },
        "spec": {
            "type": "object", "additionalProperties": False, "required": ["scaleTargetRef", "triggers"],
            "properties": {
                "scaleTargetRef": {
                    "type": "object", "additionalProperties": False, "required": ["name"],
                    "properties": {"apiVersion": STRING, "kind": STRING, "name": STRING, "envSourceContainerName": STRING},
                },
                "pollingInterval": COUNT, "cooldownPeriod": COUNT, "initialCooldownPeriod": COUNT, "idleReplicaCount": COUNT,
                "minReplicaCount": COUNT, "maxReplicaCount": COUNT, "advanced": {"type": "object"},
                "fallback": {"type": "object", "required": ["failureThreshold", "replicas"]},
                "triggers": {
                    "type": "array", "minItems": 1,
                    "items": {
                        "type": "object", "additionalProperties": False, "required": ["type", "metadata"],
                        "properties": {
                            "type": {"const": "kafka"}, "name": STRING, "metadata": KAFKA_TRIGGER,
                            "authenticationRef": {"type": "object", "required": ["name"]},
                            "metricType": {"enum": ["AverageValue", "Value", "Utilization"]},
                            "useCachedMetrics": {"type": "boolean"},
                        },
                    },
                },
            },
        },
    },
}  # fmt: skip


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


def test_scaled_objects_are_valid_and_scale_something_that_is_there() -> None:
    jsonschema.Draft202012Validator.check_schema(SCALED_OBJECT)
    names = {(part["kind"], part["metadata"]["name"]) for part in CORE}
    scaled = [part for part in _objects() if part["kind"] == "ScaledObject"]
    assert scaled
    for part in scaled:
        jsonschema.validate(part, SCALED_OBJECT)
        target = part["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in names


def test_scaled_object_with_a_number_for_a_string_or_a_misspelt_name_would_be_noticed() -> None:
    for name, value in (("lagThreshold", 50_000), ("lagTreshold", "50000")):
        part = copy.deepcopy(next(part for part in _objects() if part["kind"] == "ScaledObject"))
        part["spec"]["triggers"][0]["metadata"][name] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(part, SCALED_OBJECT)


def test_pods_have_probes_resources_and_no_variables_of_services() -> None:
    """Kubernetes sets CHRONOTOPE_SERVER_SERVICE_HOST and the like for our own services, which the doctor takes for settings."""
    for part in CORE:
        if part["kind"] not in ("StatefulSet", "Job"):
            continue
        pod = part["spec"]["template"]["spec"]
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert {"requests", "limits"} <= set(container["resources"])
            if part["kind"] == "StatefulSet":
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_scaling_ends_at_the_partition_count() -> None:
    scaling = next(part for part in _objects() if part["kind"] == "ScaledObject")
    trigger = scaling["spec"]["triggers"][0]["metadata"]
    assert trigger["topic"] == EVENTS.name
    assert scaling["spec"]["maxReplicaCount"] == EVENTS.partitions
    assert trigger["consumerGroup"] == WorkerSettings.model_fields["app_id"].default
