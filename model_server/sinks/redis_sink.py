"""The Redis sink: a thread that writes the latest recommendation of each user, whenever Redis is there."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import NamedTuple

import redis
import structlog
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from model_server.metrics import ServerMetrics
from schemas.settings import RedisSettings

log = structlog.get_logger(__name__)
COMPARE_AND_SET = files("model_server.sinks").joinpath("compare_and_set.lua").read_text()


class StoredRecommendation(NamedTuple):
    """One recommendation on its way to Redis."""

    user_id: str
    version: int
    expires_at_ms: int
    value: bytes


class Written(NamedTuple):
    """Redis holds ``version`` of the user or, if ``stands`` is above it, that later version."""

    user_id: str
    version: int
    stands: int


def redis_client(settings: RedisSettings) -> redis.Redis:
    """A client that waits no longer than the settings allow and never retries by itself (a restart must be noticed)."""
    options = {"ssl_ca_certs": settings.ssl_ca_file} if settings.ssl_ca_file else {}
    return redis.Redis.from_url(
        settings.url.get_secret_value(),
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


def write(script: Script, prefix: str, batch: Sequence[StoredRecommendation]) -> list[int]:
    """Compare-and-set these with one call of the script; the version that stood for each user before (0: none)."""
    keys = [f"{prefix}recommendation:{each.user_id}" for each in batch]
    arguments: list[int | bytes] = []
    for each in batch:
        arguments += (each.version, each.expires_at_ms, each.value)
    return [int(version) for version in script(keys=keys, args=arguments)]


class RedisSink:
    """Keeps at most one waiting recommendation per user, the latest, and writes them in batches with one script call.

    While Redis is away the waiting ones stay (one per user), and are written when it is back; what a restarted Redis has
    lost is asked for from ``everything`` and written again. ``put`` never blocks; ``written`` are taken by ``drain``.
    """

    BATCH = 128
    LONGEST_PAUSE_S = 1.0
    CHECK_EVERY_S = 1.0

    def __init__(
        self,
        settings: RedisSettings,
        metrics: ServerMetrics,
        everything: Callable[[], Iterable[StoredRecommendation]],
    ) -> None:
        self._prefix = settings.key_prefix
        self._client = redis_client(settings)
        self._script = self._client.register_script(COMPARE_AND_SET)
        self._metrics, self._everything = metrics, everything
        self._waiting: OrderedDict[str, StoredRecommendation] = OrderedDict()
        self._in_flight = 0
        self._written: list[Written] = []
        self._lock = threading.Condition()
        self._closing = False
        self._server_run_id: str | None = None
        self._up: bool | None = None
        self._thread = threading.Thread(target=self._run, name="redis-sink", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Recommendations that are not in Redis yet."""
        return len(self._waiting) + self._in_flight

    def put(self, recommendations: Iterable[StoredRecommendation]) -> None:
        """Write these soon; an older waiting version of the same user is dropped."""
        with self._lock:
            for recommendation in recommendations:
                self._keep_latest(recommendation)
            self._lock.notify()

    def drain(self) -> list[Written]:
        """What Redis has confirmed since the last call."""
        with self._lock:
            written, self._written = self._written, []
        return written

    def flush(self, timeout_s: float) -> int:
        """Wait until nothing waits; how many still do."""
        give_up_s = time.monotonic() + timeout_s
        while self.waiting and time.monotonic() < give_up_s:
            time.sleep(0.01)
        return self.waiting

    def close(self) -> None:
        """Stop the thread; what still waits is given up (its offsets were not stored)."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout=5.0)
        self._client.close()

    def _keep_latest(self, recommendation: StoredRecommendation) -> None:
        waiting = self._waiting.get(recommendation.user_id)
        if waiting is None or waiting.version < recommendation.version:
            self._waiting[recommendation.user_id] = recommendation

    def _run(self) -> None:
        pause_s = 0.05
        checked_s = float("-inf")
        while not self._closing:
            batch = self._take(self.CHECK_EVERY_S if self._up else pause_s)
            try:
                if not self._up or time.monotonic() - checked_s > self.CHECK_EVERY_S:
                    self._greet()
                    checked_s = time.monotonic()
                if batch:
                    with self._metrics.redis_seconds.time():
                        before = write(self._script, self._prefix, batch)
                    self._confirm(batch, before)
                pause_s = 0.05
            except (redis.RedisError, OSError) as error:
                self._put_back(batch, error)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, self.LONGEST_PAUSE_S)

    def _take(self, wait_s: float) -> list[StoredRecommendation]:
        with self._lock:
            self._lock.wait_for(lambda: self._waiting or self._closing, wait_s)
            batch = [self._waiting.popitem(last=False)[1] for _ in range(min(self.BATCH, len(self._waiting)))]
            self._in_flight = len(batch)
            return batch

    def _greet(self) -> None:
        """Note which server process answers; one that was restarted may have lost what we wrote."""
        run_id = str(self._client.info("server").get("run_id", ""))
        if self._server_run_id not in (None, run_id):
            log.info("redis was restarted, writing everything again")
            self.put(self._everything())
        self._server_run_id = run_id
        self._up = True
        self._metrics.sink_up.labels("redis").set(1)

    def _put_back(self, batch: list[StoredRecommendation], error: Exception) -> None:
        self._metrics.sink_errors.labels("redis").inc()
        self._metrics.sink_up.labels("redis").set(0)
        if self._up is not False:
            log.warning("redis is away", error=str(error))
        self._up = False
        with self._lock:
            for recommendation in batch:
                self._keep_latest(recommendation)
            self._in_flight = 0

    def _confirm(self, batch: list[StoredRecommendation], before: list[int]) -> None:
        with self._lock:
            self._written += [
                Written(each.user_id, each.version, max(each.version, stood)) for each, stood in zip(batch, before)
            ]
            self._in_flight = 0
