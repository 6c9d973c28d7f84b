"""A real Apache Kafka (KRaft, one to a few brokers) on loopback, from the jars that ``make kafka`` fetches."""

import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from chronotope.local.ports import LOOPBACK, free_ports, is_listening
from chronotope.local.process import ManagedProcess, ProcessFailed

CHECKOUT = Path(__file__).resolve().parents[2]
LOGGING_CONFIG = CHECKOUT / "ops" / "kafka" / "log4j2.properties"
JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def jars() -> Path:
    """The folder of Kafka's jars: ``CHRONOTOPE_KAFKA_JARS`` or ``ops/kafka/lib`` of the checkout."""
    return Path(os.environ.get("CHRONOTOPE_KAFKA_JARS", CHECKOUT / "ops" / "kafka" / "lib"))


def unavailable() -> str | None:
    """Why Apache Kafka cannot be started here, in words for the user; None if it can."""
    if shutil.which("java") is None:
        return "Apache Kafka needs Java 17 or newer on the PATH (java was not found)"
    if not any(jars().glob("kafka_2.13-*.jar")):
        return (
            f"Apache Kafka's jars are not in {jars()}: run 'make kafka' (it needs Maven), or set CHRONOTOPE_KAFKA_JARS"
        )
    return None


class ApacheKafka:
    """``brokers`` combined broker-controllers with their data under ``run_dir``; a killed broker can be started again.

    Raises ProcessFailed if Java or the jars are missing, or the brokers do not come up.
    """

    def __init__(self, run_dir: Path, brokers: int = 1, port: int | None = None) -> None:
        if brokers < 1:
            raise ValueError(f"brokers must be at least 1, got {brokers}")
        reason = unavailable()
        if reason is not None:
            raise ProcessFailed(reason)
        self._run_dir = run_dir.resolve()
        free = free_ports(2 * brokers)
        self.ports = [port or free[0], *free[1:brokers]]
        self._controller_ports = free[brokers:]
        self.bootstrap = ",".join(f"{LOOPBACK}:{each}" for each in self.ports)
        self.brokers = [self._broker(node) for node in range(brokers)]

    def start(self) -> "ApacheKafka":
        """Format the storage, start every broker and wait until each port answers."""
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        for node, port in enumerate(self.ports):
            if is_listening(port):
                raise ProcessFailed(f"port {port} of {LOOPBACK} is taken by another program")
            self._format(node, cluster_id)
        try:
            for broker in self.brokers:
                broker.start()
            for node in range(len(self.brokers)):
                self._await(node)
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self, node: int) -> None:
        """Start one stopped or killed broker again, on its old data and port."""
        self.brokers[node].start()
        self._await(node)

    def stop(self) -> None:
        """End every broker; the data stay under the run directory."""
        for broker in self.brokers:  # all at once: the last ones cannot shut down cleanly without a quorum
            broker.terminate()
        for broker in self.brokers:
            broker.stop()

    def discard_data(self) -> None:
        """Delete the brokers' data, once they have stopped; the logs stay."""
        for node in range(len(self.brokers)):
            shutil.rmtree(self._run_dir / f"kafka-{node + 1}-data", ignore_errors=True)

    def __enter__(self) -> "ApacheKafka":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _broker(self, node: int) -> ManagedProcess:
        return ManagedProcess(
            f"Apache Kafka (node {node + 1})",
            [*self._java(), "kafka.Kafka", str(self._properties_path(node))],
            self._run_dir / f"kafka-{node + 1}.log",
            cwd=self._run_dir,
            stop_timeout_s=10.0,
        )

    def _java(self) -> list[str]:
        return ["java", *JVM_OPTIONS, f"-Dlog4j2.configurationFile={LOGGING_CONFIG}", "-cp", f"{jars()}/*"]

    def _properties_path(self, node: int) -> Path:
        return self._run_dir / f"kafka-{node + 1}.properties"

    def _await(self, node: int) -> None:
        self.brokers[node].wait_until(lambda: is_listening(self.ports[node]), timeout_s=90, poll_s=0.1)

    def _format(self, node: int, cluster_id: str) -> None:
        self._run_dir.mkdir(parents=True, exist_ok=True)
        path = self._properties_path(node)
        path.write_text("".join(f"{name}={value}\n" for name, value in self._properties(node).items()))
        command = [*self._java(), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(path)]
        command += self._format_arguments()
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self._run_dir, check=False)
        if done.returncode:
            raise ProcessFailed(
                f"Apache Kafka's storage could not be formatted: {(done.stderr or done.stdout).strip()}"
            )

    def _format_arguments(self) -> list[str]:
        """Further arguments of the storage tool; a secured broker creates its first user here."""
        return []

    def _properties(self, node: int) -> dict[str, str | int]:
        replicas = min(3, len(self.brokers))
        voters = ",".join(f"{each + 1}@{LOOPBACK}:{port}" for each, port in enumerate(self._controller_ports))
        return {
            "process.roles": "broker,controller",
            "node.id": node + 1,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.ports[node]},CONTROLLER://{LOOPBACK}:{self._controller_ports[node]}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.ports[node]}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._run_dir / f"kafka-{node + 1}-data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": max(1, replicas - 1),
            "default.replication.factor": replicas,
            "min.insync.replicas": max(1, replicas - 1),
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker may come back once its old registration has expired.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "log.segment.bytes": 64 * 1024 * 1024,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        }  # fmt: skip
