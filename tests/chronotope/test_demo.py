"""The whole path, from a file to recommendations, as a user runs it; and nothing is left when it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from chronotope.local.apache_kafka import unavailable
from chronotope.simulator import Simulation, SimulatorSettings
from schemas.events import BehaviorEvent

pytestmark = pytest.mark.integration

KEYS = [
    "events_sent", "events_processed", "events_repeated", "events_rejected", "events_late", "clusters_live",
    "periodic_entities", "transition_states", "recommendations_published", "users_with_recommendations", "freshness_ms",
    "events_per_s",
]  # fmt: skip
STEP_S = 240


@pytest.fixture
def history(tmp_path: Path) -> tuple[Path, list[BehaviorEvent]]:
    """Two weeks of twelve simulated people, three events that must be rejected, and two that come twice."""
    settings = SimulatorSettings(users=12, places=25, days=14, crowd_users=10, crowds_per_day=1.0)
    events = list(Simulation(settings).events())
    for number, flaw in enumerate(({"action": "stare"}, {"event_time_ms": 5}, {"user_id": ""})):
        good = events[100 * (number + 1)]
        events.insert(100 * (number + 1), msgspec.structs.replace(good, event_id=f"bad-{number}", **flaw))
    for at in (50, 250):
        events.insert(at, events[at])
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(event) for event in events))
    return path, events


def _left_in(run_dir: Path) -> list[str]:
    """The commands of the processes that still work in a folder."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")) == run_dir:
                left.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return left


def _demo(path: Path, run_dir: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "chronotope", "demo", "--data", str(path), "--format", "jsonl"]
    return subprocess.Popen(
        [*command, "--run-dir", str(run_dir), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _assert_logs_are_for_machines(run_dir: Path) -> None:
    """Every line is JSON that names its process; there are few of them, however many events there were, and none names a user."""
    for service, name in (("worker", "worker-1.log"), ("server", "model-server.log")):
        text = (run_dir / name).read_text()
        written = text[: text.rindex("}\n") + 1]  # what native libraries say when the interpreter has ended is not ours
        lines = [json.loads(line) for line in written.splitlines()]
        assert 3 <= len(lines) <= 40
        assert {line["service"] for line in lines} == {service}
        assert all({"event", "level", "timestamp", "instance"} <= set(line) for line in lines)
        assert "user-" not in text


@pytest.mark.parametrize("broker", ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_every_event_is_accounted_for_and_every_user_gets_recommendations(history, tmp_path: Path, broker: str):
    if broker == "kafka" and (reason := unavailable()):
        pytest.skip(reason)
    path, events = history
    run_dir = (tmp_path / "run").resolve()
    demo = _demo(path, run_dir, "--broker", broker, "--json", str(tmp_path / "out" / "summary.json"))
    out, err = demo.communicate(timeout=STEP_S)
    assert demo.returncode == 0, err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary) == KEYS
    assert summary["events_sent"] == len(events)
    assert summary["events_rejected"] == 3
    assert summary["events_repeated"] == 2
    assert summary["events_processed"] + summary["events_rejected"] + summary["events_late"] == len(events)
    assert summary["users_with_recommendations"] == len({event.user_id for event in events} - {""})
    assert summary["recommendations_published"] >= summary["users_with_recommendations"]
    assert min(summary[name] for name in ("clusters_live", "periodic_entities", "transition_states")) > 0
    assert 0 <= summary["freshness_ms"]["p50"] <= summary["freshness_ms"]["p99"]
    assert "users_with_recommendations" in out
    assert f"which events were rejected, and why: chronotope validate --data {path} --format jsonl" in err
    _assert_logs_are_for_machines(run_dir)
    assert _left_in(run_dir) == []


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_demo_that_is_interrupted_leaves_nothing_running(history, tmp_path: Path, sig: signal.Signals):
    path, _ = history
    run_dir = (tmp_path / "run").resolve()
    demo = _demo(path, run_dir, "--rate", "20")
    deadline = time.monotonic() + STEP_S
    while len(_left_in(run_dir)) < 4:  # the broker, Redis, a worker and the server
        assert demo.poll() is None, demo.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    demo.send_signal(sig)
    demo.communicate(timeout=STEP_S)
    assert demo.returncode == (130 if sig == signal.SIGINT else -sig)
    while _left_in(run_dir):
        assert time.monotonic() < deadline
        time.sleep(0.1)
