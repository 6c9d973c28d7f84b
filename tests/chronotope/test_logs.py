"""Whoever logs, and whatever a process ends by, machines read JSON lines that name the process."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from chronotope.cli.logs import configure_logs

configure_logs("worker", instance="worker-0")
structlog.get_logger().debug("not written")
structlog.get_logger().info("state recovered", partition=3)
logging.getLogger("aiokafka").info("not written")
logging.getLogger("aiokafka").warning("%s is away", "the broker")
user = "alice"
raise RuntimeError("no room")
"""


def test_every_line_is_json_and_names_its_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [(line["event"], line["level"]) for line in lines] == [
        ("state recovered", "info"), ("the broker is away", "warning"), ("ended by an error", "critical"),
    ]  # fmt: skip
    assert all((line["service"], line["instance"]) == ("worker", "worker-0") for line in lines)
    assert (lines[0]["partition"], lines[1]["logger"]) == (3, "aiokafka")
    assert "RuntimeError: no room" in lines[2]["exception"]
    assert "alice" not in done.stderr
