"""A Prometheus on loopback that scrapes a local stack with the rules of ops/prometheus, for tests and pictures."""

import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from confluent_kafka import Producer

from chronotope.local.ports import LOOPBACK, free_ports
from chronotope.local.process import ManagedProcess
from chronotope.local.services import LocalServices
from schemas.events import FeedbackKind, RecommendationFeedback
from schemas.recommendations import Recommendation
from schemas.settings import KafkaSettings
from schemas.topics import FEEDBACK

RULES = Path(__file__).resolve().parent / "prometheus"
READY_TIMEOUT_S = 20.0


def missing() -> str | None:
    """Why there can be no Prometheus here; None if there can."""
    return (
        None if shutil.which("prometheus") else "the prometheus binary is not here (Debian's package prometheus has it)"
    )


def targets_of(services: LocalServices) -> dict[str, list[str]]:
    """The addresses to scrape, by the job names of ops/prometheus/prometheus.yml."""
    return {
        "chronotope-worker": [f"{LOOPBACK}:{worker.port}" for worker in services.workers],
        "chronotope-server": [f"{LOOPBACK}:{services.server.port}"],
    }


def use_recommendations(services: LocalServices, kafka: KafkaSettings, user: str = "user-1") -> None:
    """Somebody clicks on the first item that was recommended, and a stranger asks for something.

    Raises ValueError while the user has no recommendation.
    """
    services.server.get(f"/recommendations/stranger-{time.time_ns()}", timeout_s=10)
    body = services.server.get(f"/recommendations/{user}")
    if body is None:
        raise ValueError(f"nothing is recommended to {user}")
    shown = msgspec.json.decode(body, type=Recommendation)
    producer = Producer(kafka.confluent_producer())
    kinds: tuple[FeedbackKind, ...] = ("impression", "click")
    for kind in kinds:
        feedback = RecommendationFeedback(
            request_id=shown.request_id, user_id=user, item_id=shown.items[0].item_id, kind=kind,
            event_time_ms=int(time.time() * 1000),
        )  # fmt: skip
        producer.produce(FEEDBACK.name, msgspec.json.encode(feedback), user)
    producer.flush(5)


class LocalPrometheus:
    """A context manager; the configuration is that of ops/prometheus with static targets and an interval of one second."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]]) -> None:
        (self.port,) = free_ports(1)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(_configuration(targets)))
        self._process = ManagedProcess(
            "prometheus",
            [
                shutil.which("prometheus") or "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={LOOPBACK}:{self.port}",
                "--log.level=warn",
            ],
            folder / "prometheus.log",
        )

    def __enter__(self) -> "LocalPrometheus":
        self._process.start()
        self._process.wait_until(self._ready, READY_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression now. Raises HTTPError if it does not parse."""
        result: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return result

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """The series of an expression from ``start_s`` to ``end_s`` (Unix time)."""
        span = {"start": start_s, "end": end_s, "step": step_s}
        result: list[dict[str, Any]] = self._get("query_range", query=expression, **span)["result"]
        return result

    def metric_names(self) -> set[str]:
        """Every metric that was scraped or recorded."""
        return set(self._get("label/__name__/values"))

    def alerts(self) -> dict[str, str]:
        """The pending and firing alerts by name."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self._get("alerts")["alerts"]}

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, path: str, **parameters: Any) -> Any:
        address = f"http://{LOOPBACK}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]


def _configuration(targets: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    return config
