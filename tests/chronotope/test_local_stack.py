"""The local stack starts, answers and leaves nothing behind, whatever ends its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from confluent_kafka.admin import AdminClient

from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker, EmbeddedRedis
from chronotope.local.ports import is_listening
from chronotope.local.process import ManagedProcess, ProcessFailed

pytestmark = pytest.mark.integration

PARENT = """
import sys, time
from pathlib import Path
from chronotope.cli.signals import end_on_signals
from chronotope.local.stack import LocalStack
end_on_signals()
with LocalStack(Path(sys.argv[1])) as stack:
    print(stack.kafka.bootstrap.split(":")[1], stack.redis.url.get_secret_value().split(":")[2].split("/")[0], flush=True)
    time.sleep(60)
"""


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _eventually(holds, timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_embedded_broker_answers_and_ends(tmp_path: Path):
    with EmbeddedBroker(tmp_path) as broker:
        assert len(AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).brokers) == 1
        pid = broker.process.pid
    assert _is_gone(pid)
    assert (tmp_path / "broker.log").exists()


def test_embedded_redis_answers_keeps_nothing_and_ends(tmp_path: Path):
    with EmbeddedRedis(tmp_path) as server:
        client = redis.Redis.from_url(server.url)
        client.set("a", "b")
        assert client.config_get("save") == {"save": ""}
        pid = server.process.pid
        client.close()
    assert _is_gone(pid)
    assert not list(tmp_path.glob("*.rdb"))


def test_taken_port_is_named(broker: EmbeddedBroker, tmp_path: Path):
    with pytest.raises(ProcessFailed, match=f"port {broker.port} .* is taken"):
        EmbeddedBroker(tmp_path, broker.port).start()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_outlives_a_parent_that_gets(sig: signal.Signals, tmp_path: Path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    ports = [int(port) for port in parent.stdout.readline().split()]
    assert all(is_listening(port) for port in ports)
    parent.send_signal(sig)
    parent.wait(15)
    parent.stdout.close()
    assert _eventually(lambda: not any(is_listening(port) for port in ports))


def test_child_that_dies_at_start_is_reported_with_its_log(tmp_path: Path):
    child = ManagedProcess("a child", ["sh", "-c", "echo no such luck; exit 3"], tmp_path / "child.log").start()
    with pytest.raises(ProcessFailed, match=r"code 3(.|\n)*no such luck"):
        child.wait_until(lambda: False, timeout_s=10)


def test_child_that_ignores_sigterm_is_killed_with_everything_it_started(tmp_path: Path):
    script = "trap '' TERM; sleep 60 & echo $! > grandchild; wait; sleep 60"
    child = ManagedProcess("a child", ["sh", "-c", script], tmp_path / "log", cwd=tmp_path, stop_timeout_s=0.3).start()
    assert _eventually(lambda: (tmp_path / "grandchild").exists() and bool((tmp_path / "grandchild").read_text()))
    grandchild = int((tmp_path / "grandchild").read_text())
    child.stop()
    assert _is_gone(child.pid)
    assert _eventually(lambda: _is_gone(grandchild) or "Z" in Path(f"/proc/{grandchild}/stat").read_text().split()[2])


@pytest.mark.kafka
def test_apache_kafka_survives_a_killed_broker_with_its_data(kafka_broker: ApacheKafka):
    def topics() -> set[str]:
        return set(AdminClient({"bootstrap.servers": kafka_broker.bootstrap}).list_topics(timeout=20).topics)

    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    from confluent_kafka.admin import NewTopic

    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
    kafka_broker.brokers[0].kill()
    kafka_broker.restart(0)
    assert _eventually(lambda: "kept" in topics(), 30)
