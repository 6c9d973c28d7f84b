"""The serving loop: take in what Kafka brings, learn, refresh whom it concerns, and settle what the sinks confirm."""

import queue
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future

import msgspec
import structlog

from model_server.consuming import OwnedConsumer, Record, SharedConsumer, StartingPoint, last_versions
from model_server.intake import Intake, Received, RecentIds
from model_server.items import ItemTable
from model_server.ledger import OffsetLedger, Source
from model_server.metrics import ServerMetrics
from model_server.publishing import Publisher
from model_server.reasons import ReasonWriter
from model_server.recommending import Made, Recommender, Task
from model_server.refresh.due import DueTimes
from model_server.refresh.scheduler import Refresh, RefreshScheduler
from model_server.rules.fallback import FallbackRanker
from model_server.rules.hard import Constraints
from model_server.settings import ServerSettings
from model_server.sinks.topic import TopicSink
from model_server.strategies import Strategy, build_strategy
from model_server.users import OwnedUsers, Published
from model_server.versions import VersionClock
from schemas.events import BehaviorEvent, Item, RecommendationFeedback, RecommendationRequest
from schemas.partitioning import partition_of
from schemas.patterns import Pattern, PeriodicityUpdate, ProfileUpdate, TransitionUpdate
from schemas.recommendations import Recommendation
from schemas.topics import CATALOG, EVENTS, FEEDBACK, PATTERN_TOPICS, RECOMMENDATIONS, REQUESTS
from schemas.validation import EventLimits

log = structlog.get_logger(__name__)
OWNED_TOPICS = (EVENTS, REQUESTS, FEEDBACK)
SHARED_TOPICS = (CATALOG, *PATTERN_TOPICS)
TOLERATED_DISORDER_MS = 300_000
SETTLE_EVERY_S = 0.2
STANDSTILL_S = 60.0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A look-up that wants a fresh answer: the request, and where the encoded recommendation goes."""

    request: RecommendationRequest
    answer: "Future[bytes]"


class Server:
    """One instance. ``run`` is the only thread that touches the models; ``ask``, ``latest`` and ``problems`` are thread-safe."""

    def __init__(self, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.items = ItemTable()
        self.users = OwnedUsers(settings.max_users)
        self.versions = VersionClock()
        self._fallback = FallbackRanker(self.items)
        self._strategies: dict[str, Strategy] = {name: build_strategy(name, settings) for name in settings.strategies}
        self._reasons = ReasonWriter(self.items, settings.reasons_per_item)
        self._recommender = Recommender(
            settings, self.items, self._strategies, self._fallback, self._reasons, self.versions, metrics
        )
        self._scheduler = RefreshScheduler(
            {
                "event": settings.event_patience_s,
                "pattern": settings.pattern_patience_s,
                "due": settings.due_patience_s,
                "request": settings.event_patience_s,
            },
            settings.refreshes_per_s,
        )
        self._due = DueTimes(settings.due_lead_s)
        self._ledger = OffsetLedger()
        self._asks: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._urgent: list[tuple[Task, Hashable, Future[bytes] | None]] = []
        self._learned: dict[Source, int] = {}
        self._settled: dict[Source, int] = {}
        self._recent = RecentIds(100_000)
        self._assigned = False
        self._settled_at_s = 0.0
        self._turned_at_s = time.monotonic()
        self._blocked = frozenset(settings.blocked_items)
        self._intake = Intake((*OWNED_TOPICS, *SHARED_TOPICS), EventLimits(), metrics)
        for value in last_versions(settings.kafka, RECOMMENDATIONS):
            self._raise_version(value)
        self._shared = SharedConsumer(settings.kafka, SHARED_TOPICS)
        self._owned: OwnedConsumer | None = None
        self._publisher = Publisher(
            TopicSink(settings.kafka), settings.redis, self._ledger, metrics, self._sink_failed, self._overtaken
        )

    # --- what other threads may call ---

    def ask(self, request: RecommendationRequest) -> "Future[bytes]":
        """Have a fresh recommendation made for a request; the future is given its JSON."""
        answer: Future[bytes] = Future()
        self._asks.put(Ask(request=request, answer=answer))
        return answer

    def latest(self, user_id: str) -> bytes | None:
        """The JSON of the recommendation that this instance last sent the user."""
        return self._publisher.latest(user_id)

    def moving(self) -> bool:
        """Whether the loop has turned lately; a batch may take seconds while a model compiles, not minutes."""
        return time.monotonic() - self._turned_at_s < STANDSTILL_S

    def problems(self) -> list[str]:
        """What keeps this instance from being ready; nothing if it is."""
        reasons = []
        if not self._shared.caught_up:
            reasons.append("the pattern and catalogue topics are still being read")
        if not self._assigned:
            reasons.append("no partitions have been assigned yet")
        behind = [source for source, settled in self._settled.items() if self._learned.get(source, 0) < settled]
        if behind:
            reasons.append(f"events of {len(behind)} partitions are still being learned again")
        return reasons

    # --- the loop ---

    def run(self, stopping: Callable[[], bool]) -> None:
        """Serve until ``stopping`` says so, then flush the sinks, commit and leave."""
        try:
            self._catch_up(stopping)
            self._owned = self._join()
            while not stopping():
                self.step()
        finally:
            self._leave()

    def step(self) -> None:
        """One turn: records in, learning, due users, refreshes, confirmations."""
        assert self._owned is not None
        self._turned_at_s = time.monotonic()
        busy = bool(len(self._scheduler) or self._urgent)
        records = self._owned.poll(self._settings.consume_batch, 0.0005 if busy else self._settings.consume_wait_s)
        self._take_owned(records)
        self._take_shared(self._shared.poll(self._settings.consume_batch))
        self._take_asks()
        self._mark_due()
        self._refresh()
        self._publisher.settle()
        if time.monotonic() - self._settled_at_s > SETTLE_EVERY_S:
            self._store_offsets()

    def _catch_up(self, stopping: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + self._settings.catch_up_timeout_s
        while not self._shared.caught_up and not stopping():
            self._turned_at_s = time.monotonic()
            self._take_shared(self._shared.poll(self._settings.consume_batch, 0.05))
            if time.monotonic() > give_up_s:
                raise TimeoutError("the pattern and catalogue topics could not be read to their end in time")

    def _join(self) -> OwnedConsumer:
        return OwnedConsumer(
            self._settings.kafka,
            self._settings.group,
            OWNED_TOPICS,
            session_timeout_ms=self._settings.session_timeout_ms,
            learned=lambda source: self._learned.get(source, 0),
            on_gained=self._gained,
            on_lost=self._lost,
        )

    def _leave(self) -> None:
        self._publisher.flush(5.0)
        if self._owned is not None:
            self._store_offsets()
            self._owned.close()
        self._shared.close()
        self._publisher.close()

    # --- input ---

    def _take_owned(self, records: Sequence[Record]) -> None:
        if not records:
            return
        events: list[Received] = []
        wall_ms = time.time_ns() // 1_000_000
        for record in records:
            self._ledger.consumed(record.source, record.offset)
        for received in self._intake.receive(records, wall_ms):
            match received.message:
                case BehaviorEvent():
                    events.append(received)
                case RecommendationRequest() as request:
                    self._take_request(request, received.record, wall_ms)
                case RecommendationFeedback():
                    pass
        self._learn(events)
        for record in records:
            self._learned[record.source] = max(record.offset + 1, self._learned.get(record.source, 0))

    def _learn(self, events: Sequence[Received]) -> None:
        fresh: list[BehaviorEvent] = []
        now_s = time.monotonic()
        for received in events:
            source, record = received.record.source, received.record
            event = received.message
            if record.offset >= self._learned.get(source, 0):
                accepted = self._accept(event)
                if accepted is None:
                    continue
                fresh.append(accepted)
                self._test(accepted)
                self.users.learn(accepted, source, record.offset, keep_seen=self._settings.exclude_seen)
            if record.offset >= self._settled.get(source, 0):
                self._ledger.owe(source, record.offset, event.user_id)
                self._scheduler.mark(event.user_id, "event", now_s=now_s, since_ms=record.appended_ms)
        if fresh:
            with self._metrics.observe_seconds.time():
                self._observe(fresh)
            self._metrics.users.set(len(self.users))
            self._metrics.items.set(len(self.items))

    def _accept(self, event: BehaviorEvent) -> BehaviorEvent | None:
        """The event in the order of its user: a little late is taken as of now, very late is left to the late topic."""
        if not self._recent.is_new(event.event_id):
            self._metrics.refused.labels(EVENTS.name, "duplicate").inc()
            return None
        record = self.users.get(event.user_id)
        if record is None or event.event_time_ms >= record.last_event_ms:
            return event
        if record.last_event_ms - event.event_time_ms > TOLERATED_DISORDER_MS:
            self._metrics.refused.labels(EVENTS.name, "late").inc()
            return None
        return msgspec.structs.replace(event, event_time_ms=record.last_event_ms)

    def _test(self, event: BehaviorEvent) -> None:
        """The next event tests the recommendation that was sent before it, if that one knew of the event before."""
        record = self.users.get(event.user_id)
        if record is None or record.published is None or record.published.source_offset != record.offset:
            return
        strategy, item_ids = record.published.strategy, record.published.item_ids
        self._metrics.tested.labels(strategy).inc()
        if event.item_id in item_ids:
            rank = item_ids.index(event.item_id) + 1
            self._metrics.reciprocal_rank.labels(strategy).inc(1 / rank)
            for k in (1, 5, 10):
                if rank <= k:
                    self._metrics.hits.labels(strategy, str(k)).inc()

    def _observe(self, events: list[BehaviorEvent]) -> None:
        self._fallback.observe(events)
        for strategy in self._strategies.values():
            self._guarded(strategy, "observe", strategy.ranker.observe, events)

    def _take_shared(self, records: Sequence[Record]) -> None:
        if not records:
            return
        items: list[Item] = []
        patterns: list[Received] = []
        for received in self._intake.receive(records, time.time_ns() // 1_000_000):
            if isinstance(received.message, Item):
                items.append(received.message)
            else:
                patterns.append(received)
        if items:
            self.items.upsert(items)
            self._fallback.upsert_items(items)
            for strategy in self._strategies.values():
                self._guarded(strategy, "upsert_items", strategy.ranker.upsert_items, items)
            self._metrics.items.set(len(self.items))
        if patterns:
            self._take_patterns(patterns)

    def _take_patterns(self, received: Sequence[Received]) -> None:
        wall_ms = time.time_ns() // 1_000_000
        self._reasons.note([each.message for each in received])
        for each in received:
            if isinstance(each.message, PeriodicityUpdate):
                self._due.note(each.message, wall_ms)
        own = [each for each in received if _is_own(each.message)]
        others = [each for each in received if not _is_own(each.message)]
        self._apply(own, self._settings.own_pattern_pause_s)
        self._apply(others, self._settings.pattern_pause_s)

    def _apply(self, received: Sequence[Received], pause_s: float) -> None:
        if not received:
            return
        patterns: list[Pattern] = [each.message for each in received]
        concerned: set[str] = set(self._fallback.apply_patterns(patterns))
        for strategy in self._strategies.values():
            for users in self._guarded(strategy, "apply_patterns", strategy.ranker.apply_patterns, patterns):
                concerned |= users
        if self._owned is None:
            return
        now_s = time.monotonic()
        since_ms = min(each.record.appended_ms for each in received)
        now_ms = max(pattern.event_time_ms for pattern in patterns)
        for user_id in concerned:
            record = self.users.get(user_id)
            if record is not None:
                self._scheduler.mark(
                    user_id, "pattern", now_s=now_s, since_ms=since_ms, now_ms=max(now_ms, record.last_event_ms),
                    not_before_s=record.refreshed_s + pause_s,
                )  # fmt: skip

    def _guarded(self, strategy: Strategy, call: str, function: Callable[[list], object], batch: list) -> list:  # type: ignore[type-arg]
        """The results of one call on the batch or, if that fails, of one call per element: a bad one spoils only itself."""
        try:
            return [function(batch)]
        except Exception:
            self._metrics.model_errors.labels(strategy.name, call).inc()
            log.exception("a batch failed, trying its elements one by one", strategy=strategy.name, call=call)
        results = []
        for element in batch:
            try:
                results.append(function([element]))
            except Exception:
                self._metrics.model_errors.labels(strategy.name, call).inc()
        return results

    # --- requests ---

    def _take_request(self, request: RecommendationRequest, record: Record, wall_ms: int) -> None:
        if wall_ms - record.appended_ms > self._settings.request_max_age_s * 1000:
            self._metrics.refused.labels(REQUESTS.name, "expired").inc()
            return
        key = ("request", request.request_id, record.offset)
        self._ledger.owe(record.source, record.offset, key)
        self._urgent.append((self._request_task(request, record.appended_ms), key, None))

    def _take_asks(self) -> None:
        while not self._asks.empty():
            ask = self._asks.get_nowait()
            task = self._request_task(ask.request, time.time_ns() // 1_000_000)
            self._urgent.append((task, None, ask.answer))

    def _request_task(self, request: RecommendationRequest, since_ms: int) -> Task:
        limits = Constraints(
            excluded=self._excluded(request.user_id),
            categories=frozenset(request.categories),
            lat=request.lat,
            lon=request.lon,
            radius_m=request.radius_m,
        )
        return self._task(
            request.user_id, "request", since_ms, limits,
            k=min(max(request.k, 1), 1_000), now_ms=request.request_time_ms, lat=request.lat, lon=request.lon,
            request_id=request.request_id,
        )  # fmt: skip

    def _task(
        self, user_id: str, trigger: str, since_ms: int, constraints: Constraints, **circumstances: object
    ) -> Task:
        record = self.users.get(user_id)
        return Task(
            user_id=user_id,
            trigger=trigger,  # type: ignore[arg-type]
            since_ms=since_ms,
            constraints=constraints,
            last_item=record.last_item if record is not None else "",
            source_partition=record.partition if record is not None else -1,
            source_offset=record.offset if record is not None else -1,
            **circumstances,  # type: ignore[arg-type]
        )

    def _excluded(self, user_id: str) -> frozenset[str]:
        record = self.users.get(user_id)
        if record is None or not (record.seen or record.dismissed):
            return self._blocked
        now_ms = time.time_ns() // 1_000_000
        dismissed = {item for item, until_ms in record.dismissed.items() if until_ms > now_ms}
        return self._blocked | record.seen | dismissed

    # --- refreshing ---

    def _mark_due(self) -> None:
        wall_ms = time.time_ns() // 1_000_000
        for visit in self._due.pop_due(wall_ms):
            if visit.user_id in self.users:
                self._scheduler.mark(
                    visit.user_id, "due", now_s=time.monotonic(), since_ms=visit.prepare_at_ms, now_ms=visit.due_ms
                )

    def _refresh(self) -> None:
        self._metrics.pending.set(len(self._scheduler) + len(self._urgent))
        urgent, self._urgent = self._urgent[: self._settings.max_batch], self._urgent[self._settings.max_batch :]
        refreshes = self._scheduler.take(time.monotonic(), self._settings.max_batch - len(urgent))
        tasks = [task for task, _, _ in urgent] + [self._standing(refresh) for refresh in refreshes]
        if not tasks:
            return
        keys: list[Hashable] = [key for _, key, _ in urgent] + [refresh.user_id for refresh in refreshes]
        self._metrics.batch_users.observe(len(tasks))
        with self._metrics.rank_seconds.time():
            made = self._recommender.make(tasks, time.time_ns() // 1_000_000)
        self._publish(made, keys, [answer for _, _, answer in urgent])

    def _standing(self, refresh: Refresh) -> Task:
        constraints = Constraints(excluded=self._excluded(refresh.user_id))
        return self._task(
            refresh.user_id, refresh.trigger, refresh.since_ms, constraints, k=self._settings.k, now_ms=refresh.now_ms
        )

    def _publish(
        self, made: Sequence[Made], keys: Sequence[Hashable], answers: "Sequence[Future[bytes] | None]"
    ) -> None:
        now_s = time.monotonic()
        outgoing: list[tuple[Task, Recommendation, Hashable]] = []
        for each, key in zip(made, keys):
            self._metrics.refreshes.labels(each.task.trigger).inc()
            self._metrics.explore_probability.observe(each.ranking.explore_probability)
            if self._owns(each.task.user_id):
                outgoing.append((each.task, each.recommendation, key))
                self._note_published(each, now_s)
        self._publisher.publish(outgoing)
        for each, answer in zip(made, answers):
            if answer is not None and not answer.cancelled():
                answer.set_result(msgspec.json.encode(each.recommendation))

    def _owns(self, user_id: str) -> bool:
        """Whether this instance speaks for the user; a look-up may ask about anybody's."""
        if user_id in self.users:
            return True
        if self._owned is None:
            return False
        return Source(EVENTS.name, partition_of(user_id.encode(), self._owned.partitions)) in self._owned.owned

    def _note_published(self, made: Made, now_s: float) -> None:
        record = self.users.get(made.task.user_id)
        if record is None:
            return
        record.refreshed_s = now_s
        if made.task.constraints.selects:
            self._scheduler.mark(
                made.task.user_id, "pattern", now_s=now_s, since_ms=made.task.since_ms, not_before_s=now_s + 0.1
            )
        record.published = Published(
            version=made.recommendation.version,
            source_offset=made.recommendation.source_offset,
            strategy=made.recommendation.strategy,
            item_ids=tuple(item.item_id for item in made.recommendation.items),
        )

    # --- settling ---

    def _store_offsets(self) -> None:
        assert self._owned is not None
        self._settled_at_s = time.monotonic()
        self._owned.store(self._ledger.committable())
        self._metrics.unsettled.set(len(self._ledger))
        self._metrics.ready.set(not self.problems())
        for source, lag in self._owned.lag().items():
            self._metrics.lag.labels(source.topic, source.partition).set(lag)

    def _sink_failed(self, user_id: str, keys: list[Hashable]) -> None:
        for key in keys:
            if key == user_id:
                self._scheduler.mark(user_id, "event", now_s=time.monotonic(), since_ms=time.time_ns() // 1_000_000)

    def _overtaken(self, user_id: str, version: int) -> None:
        """Redis holds a later version than our clock had reached (another instance's, or a clock that stepped back)."""
        self.versions.raise_to(version)
        if user_id in self.users:
            self._scheduler.mark(user_id, "event", now_s=time.monotonic(), since_ms=time.time_ns() // 1_000_000)

    def _raise_version(self, value: bytes) -> None:
        try:
            self.versions.raise_to(msgspec.json.decode(value, type=Recommendation).version)
        except msgspec.DecodeError:
            log.warning("a record of the recommendations topic is not a recommendation")

    # --- ownership ---

    def _gained(self, starts: dict[Source, StartingPoint]) -> None:
        self._assigned = True
        for source, start in starts.items():
            self._settled[source] = start.settled

    def _lost(self, sources: list[Source]) -> None:
        self._publisher.flush(2.0)
        self._store_offsets()
        self._ledger.drop(sources)
        gone = {source.partition for source in sources if source.topic == EVENTS.name}
        lost_users = {user for user in self.users if (r := self.users.get(user)) is not None and r.partition in gone}
        self._scheduler.forget(lost_users.__contains__, time.monotonic())
        self._due.forget(lost_users.__contains__)
        for source in sources:
            self._settled.pop(source, None)


def _is_own(pattern: Pattern) -> bool:
    """Whether a pattern is one user's own: an echo of that user's events, so that it never has to hurry."""
    if isinstance(pattern, PeriodicityUpdate | TransitionUpdate):
        return pattern.user_id is not None
    return isinstance(pattern, ProfileUpdate)
