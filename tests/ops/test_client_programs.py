"""The programs that docs/integrating.md shows, in three languages, each get the recommendation that their event triggers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chronotope.kafka.topics import apply_topics
from chronotope.local.apache_kafka import jars, unavailable
from chronotope.local.services import LocalServices
from chronotope.local.stack import LocalStack

pytestmark = [pytest.mark.integration, pytest.mark.kafka]
PROGRAMS = Path(__file__).resolve().parents[2] / "docs" / "clients"
NEEDED = ("kafkajs@2", "lz4js@0.2")


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = unavailable()
    if reason is not None:
        pytest.skip(f"*** NOT TESTED HERE: client programs: {reason} ***")
    with LocalStack(tmp_path_factory.mktemp("clients"), "kafka") as stack:
        apply_topics(stack.kafka)
        with LocalServices(stack) as services:
            services.await_ready()
            yield stack.kafka.bootstrap


def _run(*command: str | Path, cwd: Path | None = None) -> dict[str, Any]:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _check(answer: dict[str, Any], user: str, item: str) -> None:
    assert answer["user_id"] == user
    assert item in [each["item_id"] for each in answer["items"]], "one's own first place is all there is to return to"


def test_python(bootstrap: str) -> None:
    _check(_run(sys.executable, PROGRAMS / "roundtrip.py", bootstrap, "pia", "cafe-p"), "pia", "cafe-p")


def test_javascript(bootstrap: str, tmp_path: Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("*** NOT TESTED HERE: JavaScript client: node or npm was not found ***")
    installing = ["npm", "install", "--silent", "--no-audit", "--no-fund", *NEEDED]
    installed = subprocess.run(installing, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if installed.returncode:
        pytest.skip(
            f"*** NOT TESTED HERE: JavaScript client: npm cannot install {NEEDED}: {installed.stderr[-200:]} ***"
        )
    shutil.copy(PROGRAMS / "roundtrip.mjs", tmp_path)
    _check(_run("node", "roundtrip.mjs", bootstrap, "jan", "cafe-j", cwd=tmp_path), "jan", "cafe-j")


def test_java(bootstrap: str) -> None:
    _check(_run("java", "-cp", jars() / "*", PROGRAMS / "Roundtrip.java", bootstrap, "joe", "cafe-o"), "joe", "cafe-o")
