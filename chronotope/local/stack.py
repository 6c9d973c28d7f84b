"""Everything around our services: a broker and Redis, started here or already there, and where the logs are."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker, EmbeddedRedis
from schemas.settings import KafkaSettings, RedisSettings

BrokerKind = Literal["embedded", "kafka"]
RUNS = Path("var") / "runs"


def new_run_dir(name: str) -> Path:
    """A fresh folder for the logs of one run: ``var/runs/NAME-DATE-TIME-PID`` under the working directory."""
    path = (RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}").resolve()
    path.mkdir(parents=True)
    return path


class LocalStack:
    """A context manager over a broker and Redis; ``kafka`` and ``redis`` are how to reach them.

    ``bootstrap`` and ``redis_url`` name running ones, which are left alone; what is started here ends with the block, and its
    logs stay in ``run_dir``. Raises ProcessFailed if something does not come up.
    """

    def __init__(
        self,
        run_dir: Path,
        broker: BrokerKind = "embedded",
        bootstrap: str | None = None,
        redis_url: str | None = None,
        broker_port: int | None = None,
        redis_port: int | None = None,
    ) -> None:
        self.run_dir = run_dir
        self._broker_kind: BrokerKind = broker
        self._bootstrap = bootstrap
        self._redis_url = redis_url
        self._ports = (broker_port, redis_port)
        self._running = ExitStack()
        self.broker_name = "the given cluster"
        self.kafka = KafkaSettings()
        self.redis = RedisSettings()

    def __enter__(self) -> "LocalStack":
        with ExitStack() as running:
            if self._bootstrap is None:
                self.kafka = KafkaSettings(bootstrap=self._start_broker(running))
            else:
                self.kafka = KafkaSettings(bootstrap=self._bootstrap)
            if self._redis_url is None:
                server = running.enter_context(EmbeddedRedis(self.run_dir, self._ports[1]))
                self._redis_url = server.url
            self.redis = RedisSettings(url=SecretStr(self._redis_url))
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def environment(self) -> dict[str, str]:
        """Our own environment with the addresses of this stack, for a child process."""
        return os.environ | {
            "CHRONOTOPE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "CHRONOTOPE_REDIS_URL": self.redis.url.get_secret_value(),
        }

    def _start_broker(self, running: ExitStack) -> str:
        port = self._ports[0]
        if self._broker_kind == "embedded":
            broker = running.enter_context(EmbeddedBroker(self.run_dir, port))
            self.broker_name = "embedded broker"
            return broker.bootstrap
        kafka = ApacheKafka(self.run_dir, port=port)
        running.callback(kafka.discard_data)
        running.enter_context(kafka)
        self.broker_name = "Apache Kafka"
        return kafka.bootstrap
