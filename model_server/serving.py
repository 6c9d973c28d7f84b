"""The serving loop: take in what Kafka brings, learn, refresh whom it concerns, and settle what the sinks confirm."""

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from functools import partial

import msgspec
import structlog

from model_server.answering import Desk
from model_server.consuming import OwnedConsumer, Record, SharedConsumer, StartingPoint, last_versions
from model_server.intake import Intake
from model_server.items import ItemTable
from model_server.learning import Learner
from model_server.ledger import OffsetLedger, Source
from model_server.metrics import ServerMetrics
from model_server.next_behaviour import NextBehaviourPredictor
from model_server.noticing import PatternDesk
from model_server.publishing import Publisher
from model_server.reasons import ReasonWriter
from model_server.recommending import Recommender
from model_server.recovery import CheckpointKeeper
from model_server.refresh.scheduler import RefreshScheduler
from model_server.refreshing import Refresher
from model_server.responding import FeedbackDesk
from model_server.served_state import ServedState
from model_server.settings import ServerSettings
from model_server.sinks.redis_refill import RedisRefill, standing_recommendations
from model_server.sinks.topic import TopicSink
from model_server.strategies import build_strategies
from model_server.training import TimeShare
from model_server.users import OwnedUsers
from model_server.versions import VersionClock
from schemas.avro_wire import ConfluentAvroDecoder, RegistrySchemaSource
from schemas.events import BehaviorEvent, RecommendationRequest
from schemas.partitioning import partition_of
from schemas.recommendations import Recommendation
from schemas.topics import CATALOG, EVENTS, FEEDBACK, PATTERN_TOPICS, RECOMMENDATIONS, REQUESTS

log = structlog.get_logger(__name__)
OWNED_TOPICS = (EVENTS, REQUESTS, FEEDBACK)
SHARED_TOPICS = (CATALOG, *PATTERN_TOPICS)
SETTLE_EVERY_S = 0.2
STANDSTILL_S = 60.0
# Of learning's share of the time, what it keeps while recommendations come late, or are more than one batch.
LATE_PART = 0.25


class Server:
    """One instance. ``run`` is the only thread that touches the models; the look-up methods are thread-safe."""

    def __init__(self, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.items = ItemTable(settings.max_items)
        self.users = OwnedUsers(settings.max_users)
        self.versions = VersionClock()
        self.strategies = build_strategies(settings, self.items, metrics)
        reasons = ReasonWriter(self.items, settings.reasons_per_item)
        self._predictor = (
            NextBehaviourPredictor(self.items, metrics, settings.max_users) if settings.predictions else None
        )
        recommender = Recommender(settings, self.items, self.strategies, reasons, self.versions, metrics)
        self.scheduler = RefreshScheduler(
            {
                "event": settings.event_patience_s,
                "pattern": settings.pattern_patience_s,
                "due": settings.due_patience_s,
                "request": settings.event_patience_s,
            },
            settings.refreshes_per_s,
        )
        self.ledger = OffsetLedger()
        self._desk = Desk(settings, self.users, self.ledger, metrics)
        self._learner = Learner(
            settings, self.users, self.items, self.strategies, self.scheduler, self.ledger, self._predictor, metrics
        )
        self._patterns = PatternDesk(
            settings, self.items, self.users, self.strategies, self.scheduler, reasons, self._predictor, metrics
        )
        self._feedback = FeedbackDesk(settings, self.users, self._learner, metrics)
        self._checkpoints = (
            CheckpointKeeper(settings.checkpoint_dir, settings, metrics)
            if settings.checkpoint_dir is not None
            else None
        )
        self._state = ServedState(
            self.items, self.users, self.strategies, self._feedback, self._predictor, self.versions
        )
        if self._checkpoints is not None:
            self._state.restore(self._checkpoints, self._learner, self._patterns)
        registry = settings.registry.client_config()
        avro = ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource(registry)) if registry is not None else None
        self._intake = Intake((*OWNED_TOPICS, *SHARED_TOPICS), settings.events.limits(), metrics, avro)
        self._learning_share = TimeShare(settings.learning_share, LATE_PART)
        self._assigned = False
        self._refresher = Refresher(
            settings, self.users, self.strategies, self.scheduler, self._desk, recommender, self._feedback,
            self._predictor, metrics,
        )  # fmt: skip
        self._stored_at_s = self._turned_at_s = time.monotonic()
        for value in last_versions(settings.kafka, RECOMMENDATIONS):
            self._raise_version(value)
        self._shared = SharedConsumer(settings.kafka, SHARED_TOPICS)
        self._owned: OwnedConsumer | None = None
        self._refill = (
            RedisRefill(settings.redis, partial(standing_recommendations, settings.kafka))
            if settings.redis is not None
            else None
        )
        self.publisher = Publisher(
            TopicSink(settings.kafka), settings.redis, self.ledger, metrics, self._sink_failed, self._overtaken
        )

    # --- what other threads may call ---

    def ask(self, request: RecommendationRequest) -> "Future[bytes]":
        """Have a fresh recommendation made for a request; the future is given its JSON."""
        return self._desk.ask(request)

    def latest(self, user_id: str) -> bytes | None:
        """The JSON of the recommendation that this instance last sent the user."""
        return self.publisher.latest(user_id)

    def owned_partitions(self) -> list[int]:
        """The partitions of the users' topics that this instance owns now."""
        owned = self._owned.owned.copy() if self._owned is not None else set()
        return sorted(source.partition for source in owned if source.topic == EVENTS.name)

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
        behind = len(self._learner.behind())
        if behind:
            reasons.append(f"events of {behind} partitions are still being learned again")
        return reasons

    # --- the loop ---

    def run(self, stopping: Callable[[], bool]) -> None:
        """Serve until ``stopping`` says so, then flush the sinks, commit and leave."""
        try:
            self._catch_up(stopping)
            self._owned = self._join()
            while not stopping():
                self._turn(self._owned)
        finally:
            self._leave()

    def _turn(self, owned: OwnedConsumer) -> None:
        """Records in, learning, due users, refreshes, confirmations."""
        now_s = time.monotonic()
        self._learning_share.passed(now_s - self._turned_at_s)
        self._turned_at_s = now_s
        learning = self.strategies.learning_due()
        busy = bool(len(self.scheduler) or len(self._desk))
        wait_s = 0.0 if busy or learning else self._settings.consume_wait_s
        records = owned.poll(self._settings.consume_batch, wait_s)
        self._take_owned(records)
        self._take_shared(self._shared.poll(self._settings.consume_batch))
        self._patterns.mark_due(time.time_ns() // 1_000_000)
        self._refresher.turn(self.publisher, self._owns)
        self.publisher.settle()
        if self._checkpoints is not None and self._checkpoints.due and not self._learner.behind():
            self._save_or_end_block(self._checkpoints)
        elif learning and (not (busy or records) or self._may_learn()):
            self._learn_step()
        if time.monotonic() - self._stored_at_s > SETTLE_EVERY_S:
            self._store_offsets(owned)

    def _may_learn(self) -> bool:
        """Whether learning may go on although recommendations wait."""
        are_late = self._refresher.late or len(self.scheduler) > self._settings.max_batch
        return self._learning_share.allows(LATE_PART if are_late else 1.0)

    def _save_or_end_block(self, checkpoints: CheckpointKeeper) -> None:
        """A checkpoint holds no half-learned block; to end one all at once would hold everybody up for half a second."""
        if self.strategies.midway():
            self._learn_step(begin=False)
        else:
            checkpoints.save(self._state.collect, self._learner.learned)

    def _learn_step(self, begin: bool = True) -> None:
        started_s = time.monotonic()
        self.strategies.learn_step(begin)
        self._learning_share.spent(time.monotonic() - started_s)

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
            learned=lambda source: self._learner.learned.get(source, 0),
            on_gained=self._gained,
            on_lost=self._lost,
        )

    def _leave(self) -> None:
        self.publisher.flush(5.0)
        if self._owned is not None:
            self._store_offsets(self._owned)
            self._owned.close()
            if self._checkpoints is not None and not self._learner.behind():
                self._checkpoints.save(self._state.collect, self._learner.learned)
                self._checkpoints.wait()
        self._shared.close()
        if self._refill is not None:
            self._refill.close()
        self.publisher.close()

    # --- input ---

    def _take_owned(self, records: Sequence[Record]) -> None:
        if not records:
            return
        wall_ms = time.time_ns() // 1_000_000
        latest = {record.source: record.offset for record in records}  # those of a partition come in order
        for source, offset in latest.items():
            self.ledger.consumed(source, offset)
        events, feedback = [], []
        for received in self._intake.receive(records, wall_ms):
            if isinstance(received.message, BehaviorEvent):
                events.append(received)
            elif isinstance(received.message, RecommendationRequest):
                self._desk.take(received.message, received.record, wall_ms)
            else:
                feedback.append(received)
        self._learner.take(events)
        self._feedback.take(feedback)
        for source, offset in latest.items():
            self._learner.advance(source, offset)

    def _take_shared(self, records: Sequence[Record]) -> None:
        if records:
            wall_ms = time.time_ns() // 1_000_000
            self._patterns.take(list(self._intake.receive(records, wall_ms)), wall_ms)

    # --- settling ---

    def _store_offsets(self, owned: OwnedConsumer) -> None:
        self._stored_at_s = time.monotonic()
        owned.store(self.ledger.committable())
        self._metrics.unsettled.set(len(self.ledger))
        self._metrics.ready.set(not self.problems())
        self._metrics.evicted_users.inc(self.users.take_evicted())
        self.strategies.measure()
        for source, lag in owned.lag().items():
            self._metrics.lag.labels(self._settings.group, source.topic, source.partition).set(lag)

    def _sink_failed(self, user_id: str, keys: list[Hashable]) -> None:
        for key in keys:
            if key != user_id:
                self.ledger.forgive(key)  # a request: by now nobody waits for its answer
        if user_id in keys:
            self.scheduler.mark(user_id, "event", now_s=time.monotonic(), since_ms=time.time_ns() // 1_000_000)

    def _overtaken(self, user_id: str, version: int) -> None:
        """Redis holds a later version than our clock had reached (another instance's, or a clock that stepped back)."""
        self.versions.raise_to(version)
        if user_id in self.users:
            self.scheduler.mark(user_id, "event", now_s=time.monotonic(), since_ms=time.time_ns() // 1_000_000)

    def _raise_version(self, value: bytes) -> None:
        try:
            self.versions.raise_to(msgspec.json.decode(value, type=Recommendation).version)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("a record of the recommendations topic is not a recommendation")

    # --- ownership ---

    def _owns(self, user_id: str) -> bool:
        """Whether this instance speaks for the user; a look-up may ask about anybody's."""
        owned = self._owned
        if owned is None:
            return False
        record = self.users.get(user_id)
        partition = record.partition if record is not None else partition_of(user_id.encode(), owned.partitions)
        return (EVENTS.name, partition) in owned.owned  # equal to a Source, and made faster

    def _gained(self, starts: dict[Source, StartingPoint]) -> None:
        for source, start in starts.items():
            if source.topic == EVENTS.name:
                self._learner.settled[source] = start.settled
        self._assigned = True  # last, or readiness asked in between would not know what is to be learned again

    def _lost(self, sources: list[Source]) -> None:
        self.publisher.flush(2.0)
        if self._owned is not None:
            self._store_offsets(self._owned)
        self._metrics.lag.clear()  # what is still owned is set again at once
        self.ledger.drop(sources)
        gone = {source.partition for source in sources if source.topic == EVENTS.name}
        lost_users = {user for user in self.users if (r := self.users.get(user)) is not None and r.partition in gone}
        self.scheduler.forget(lost_users.__contains__, time.monotonic())
        self._patterns.due.forget(lost_users.__contains__)
        self.publisher.give_up(lost_users)
        for source in sources:
            self._learner.settled.pop(source, None)
