"""The dashboard files are those of their declarations and query metrics that the processes export."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

from model_server.metrics import ServerMetrics
from streams.metrics import WorkerMetrics

ROOT = Path(__file__).resolve().parents[2]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "ops" / "dashboards.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _exported() -> set[str]:
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


def test_files_are_those_of_the_declarations() -> None:
    generator = _generator()
    files = generator.dashboard_files()
    assert {path.name for path in generator.DASHBOARDS.glob("*.json")} == set(files)
    for name, text in files.items():
        assert (generator.DASHBOARDS / name).read_text() == text, "run python ops/dashboards.py"


def test_every_query_uses_exported_metrics() -> None:
    exported = _exported()
    for text in _generator().dashboard_files().values():
        for panel in json.loads(text)["panels"]:
            for target in panel["targets"]:
                used = set(re.findall(r"\b(?:chronotope|process)_[a-z0-9_]+", target["expr"]))
                assert used, target["expr"]
                assert used <= exported, f"{panel['title']}: nobody exports {used - exported}"


def test_every_dashboard_has_a_uid_and_a_data_source_variable() -> None:
    for text in _generator().dashboard_files().values():
        board = json.loads(text)
        assert board["uid"].startswith("chronotope-")
        assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
        assert all(panel["datasource"]["uid"] == "${datasource}" for panel in board["panels"])
