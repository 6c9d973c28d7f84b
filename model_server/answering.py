"""Requests, from the topic and over HTTP, as tasks that go before every refresh."""

import queue
import time
from collections.abc import Hashable
from concurrent.futures import Future
from typing import NamedTuple

import msgspec

from model_server.consuming import Record
from model_server.ledger import OffsetLedger
from model_server.metrics import ServerMetrics
from model_server.recommending import Task
from model_server.rules.hard import Constraints
from model_server.settings import ServerSettings
from model_server.users import OwnedUsers
from schemas.events import RecommendationRequest
from schemas.headers import Headers
from schemas.topics import REQUESTS

MOST_ITEMS = 1_000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A look-up that wants a fresh answer: the request, and where the encoded recommendation goes."""

    request: RecommendationRequest
    answer: "Future[bytes]"


class Urgent(NamedTuple):
    """A task to answer now, the ledger key that it settles, and who waits for it."""

    task: Task
    key: Hashable
    answer: "Future[bytes] | None"


class Desk:
    """Where requests queue, first come first served. ``ask`` is thread-safe, the rest is not."""

    def __init__(
        self, settings: ServerSettings, users: OwnedUsers, ledger: OffsetLedger, metrics: ServerMetrics
    ) -> None:
        self._settings, self._users, self._ledger, self._metrics = settings, users, ledger, metrics
        self._asks: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._urgent: list[Urgent] = []

    def __len__(self) -> int:
        return len(self._urgent) + self._asks.qsize()

    def ask(self, request: RecommendationRequest) -> "Future[bytes]":
        """Have a request answered that did not come through Kafka."""
        answer: Future[bytes] = Future()
        self._asks.put(Ask(request=request, answer=answer))
        return answer

    def take(self, request: RecommendationRequest, record: Record, wall_ms: int) -> None:
        """A request from the topic; one that nobody can be waiting for any more is not answered."""
        if wall_ms - record.appended_ms > self._settings.request_max_age_s * 1000:
            self._metrics.refused.labels(REQUESTS.name, "expired").inc()
            return
        key = ("request", record.source, record.offset)
        self._ledger.owe(record.source, record.offset, key)
        self._urgent.append(Urgent(self._task(request, record.appended_ms, record.trace), key, None))

    def next(self, limit: int) -> list[Urgent]:
        """At most ``limit`` of the waiting requests."""
        while not self._asks.empty():
            ask = self._asks.get_nowait()
            self._urgent.append(Urgent(self._task(ask.request, time.time_ns() // 1_000_000, []), None, ask.answer))
        due, self._urgent = self._urgent[:limit], self._urgent[limit:]
        return due

    def _task(self, request: RecommendationRequest, since_ms: int, trace: Headers) -> Task:
        record = self._users.get(request.user_id)
        return Task(
            user_id=request.user_id,
            trigger="request",
            since_ms=since_ms,
            k=min(max(request.k, 1), MOST_ITEMS),
            now_ms=request.request_time_ms,
            lat=request.lat,
            lon=request.lon,
            request_id=request.request_id,
            constraints=Constraints(
                excluded=self._users.excluded(request.user_id, self._settings.blocked_items),
                categories=frozenset(request.categories),
                lat=request.lat,
                lon=request.lon,
                radius_m=request.radius_m,
            ),
            last_item=record.last_item if record is not None else "",
            source_partition=record.partition if record is not None else -1,
            source_offset=record.offset if record is not None else -1,
            trace=trace,
        )
