"""Alert rules parse, fire in promtool's unit tests, name runbooks that exist and metrics that the processes export."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from model_server.metrics import ServerMetrics
from streams.metrics import WorkerMetrics

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "ops" / "prometheus"
METRIC = re.compile(r"\bchronotope_[a-z0-9_]+")


def _promtool(*arguments: str, cwd: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT CHECKED: promtool is not here (Debian's package prometheus has it)")
    done = subprocess.run([promtool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def exported_names() -> set[str]:
    """Every sample name that a worker or a server can export."""
    names: set[str] = set()
    for registry in (WorkerMetrics().registry, ServerMetrics().registry):
        for family in registry.collect():
            suffixes = {
                "counter": ["_total"],
                "histogram": ["_bucket", "_sum", "_count"],
                "summary": ["_sum", "_count"],
            }
            names |= {family.name + suffix for suffix in suffixes.get(family.type, [""])}
    return names


def test_configuration_and_rules_parse() -> None:
    _promtool("check", "config", "prometheus.yml", cwd=PROMETHEUS)
    _promtool("check", "rules", "recording.yml", "alerts.yml", cwd=PROMETHEUS)


def test_each_alert_fires_on_its_fault_alone() -> None:
    _promtool("test", "rules", "alerts_test.yml", cwd=PROMETHEUS / "tests")


def test_every_alert_is_unit_tested_and_has_a_runbook() -> None:
    tested = (PROMETHEUS / "tests" / "alerts_test.yml").read_text()
    for rule in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]:
        assert f"alertname: {rule['alert']}" in tested, rule["alert"]
        page = ROOT / rule["annotations"]["runbook"]
        assert rule["alert"] in page.read_text(), f"{page} does not name {rule['alert']}"


@pytest.mark.parametrize("name", ["recording.yml", "alerts.yml"])
def test_rules_use_metrics_that_are_exported(name: str) -> None:
    recorded = re.findall(r"record: (\S+)", (PROMETHEUS / "recording.yml").read_text())
    for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]:
        for rule in group["rules"]:
            used = set(METRIC.findall(re.sub(r"chronotope:[a-z0-9_:]+", "", rule["expr"])))
            assert used <= exported_names(), f"{rule} uses metrics that nobody exports: {used - exported_names()}"
            assert set(re.findall(r"chronotope:[a-z0-9_:]+", rule["expr"])) <= set(recorded)
