"""Events in the order of their users: each tests what was sent before it, and is then learned from."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from model_server.intake import Received, RecentIds
from model_server.items import ItemTable
from model_server.ledger import OffsetLedger, Source
from model_server.metrics import ServerMetrics
from model_server.next_behaviour import NextBehaviourPredictor
from model_server.refresh.scheduler import RefreshScheduler
from model_server.settings import ServerSettings
from model_server.strategies import StrategySet
from model_server.users import OwnedUsers, UserRecord
from schemas.events import BehaviorEvent
from schemas.topics import EVENTS

TOLERATED_DISORDER_MS = 300_000
HITS_AT = (1, 5, 10)
MISSED = 0  # the rank, from 1, of what was not recommended


class Learner:
    """Tests, then trains; and books the refresh that each event's user is owed.

    ``learned`` and ``settled`` tell, by source, what the state holds already and what the sinks have: an event read again
    after a restart is neither learned twice nor, if its recommendation was confirmed, refreshed again.
    """

    def __init__(
        self,
        settings: ServerSettings,
        users: OwnedUsers,
        items: ItemTable,
        strategies: StrategySet,
        scheduler: RefreshScheduler,
        ledger: OffsetLedger,
        predictor: NextBehaviourPredictor | None,
        metrics: ServerMetrics,
    ) -> None:
        self._keep_seen = settings.exclude_seen
        self._users, self._items, self._strategies = users, items, strategies
        self._scheduler, self._ledger = scheduler, ledger
        self._predictor, self._metrics = predictor, metrics
        self._recent = RecentIds(100_000)
        self._ranks: Counter[tuple[str, int]] = Counter()  # by strategy: of what was tested and no metric tells yet
        self.learned: dict[Source, int] = {}
        self.settled: dict[Source, int] = {}

    def take(self, events: Sequence[Received]) -> None:
        """Learn from these events and mark their users."""
        fresh: list[BehaviorEvent] = []
        now_s = time.monotonic()
        for event, record in events:
            source, offset = record.source, record.offset
            if offset >= self.learned.get(source, 0):
                accepted = self._accept(event)
                if accepted is None:
                    continue
                fresh.append(accepted)
                self._test(accepted)
                self._users.learn(accepted, source, offset, keep_seen=self._keep_seen, trace=record.trace)
            if offset >= self.settled.get(source, 0):
                self._ledger.owe(source, offset, event.user_id)
                self._scheduler.mark(event.user_id, "event", now_s=now_s, since_ms=record.appended_ms)
        self._report_ranks()
        self._train(fresh)

    def take_clicks(self, clicks: Iterable[BehaviorEvent], partition: int) -> None:
        """Clicks on recommendations are behaviour too; they have no offset of their own."""
        fresh = []
        for click in clicks:
            accepted = self._accept(click)
            if accepted is not None:
                fresh.append(accepted)
                record = self._users.of(click.user_id, partition)
                record.last_event_ms, record.last_item = accepted.event_time_ms, accepted.item_id
                now_ms = time.time_ns() // 1_000_000
                self._scheduler.mark(click.user_id, "event", now_s=time.monotonic(), since_ms=now_ms)
        self._train(fresh)

    def advance(self, source: Source, offset: int) -> None:
        """The state holds what this record brought."""
        self.learned[source] = max(offset + 1, self.learned.get(source, 0))

    def behind(self) -> list[Source]:
        """Sources whose settled events are not all learned (again) yet."""
        settled_now = self.settled.copy()  # in one step: readiness is asked from another thread
        return [source for source, settled in settled_now.items() if self.learned.get(source, 0) < settled]

    def _train(self, events: Sequence[BehaviorEvent]) -> None:
        if events:
            with self._metrics.observe_seconds.time():
                self._strategies.observe(events)
            self._metrics.users.set(len(self._users))

    def _accept(self, event: BehaviorEvent) -> BehaviorEvent | None:
        """The event in the order of its user: a little late is taken as of now, very late is left to the late topic."""
        if not self._recent.is_new(event.event_id):
            self._metrics.refused.labels(EVENTS.name, "duplicate").inc()
            return None
        if not self._items.admits(event.item_id):
            self._metrics.refused.labels(EVENTS.name, "items_full").inc()
            return None
        record = self._users.get(event.user_id)
        if record is None or event.event_time_ms >= record.last_event_ms:
            return event
        if record.last_event_ms - event.event_time_ms > TOLERATED_DISORDER_MS:
            self._metrics.refused.labels(EVENTS.name, "late").inc()
            return None
        return msgspec.structs.replace(event, event_time_ms=record.last_event_ms)

    def _test(self, event: BehaviorEvent) -> None:
        record = self._users.get(event.user_id)
        if self._predictor is not None:
            self._predictor.observe(
                event, record.last_event_ms if record is not None and record.last_event_ms else None
            )
        if record is not None and record.published is not None and record.published.source_offset == record.offset:
            self._test_ranking(event.item_id, record)

    def _test_ranking(self, item_id: str, record: UserRecord) -> None:
        """The next event tests the recommendation that was sent before it, if that one knew of the event before."""
        assert record.published is not None
        tested = {record.published.strategy: record.published.item_ids}
        if record.shadow is not None:
            tested[record.shadow[0]] = record.shadow[1]
        for strategy, item_ids in tested.items():
            self._ranks[strategy, item_ids.index(item_id) + 1 if item_id in item_ids else MISSED] += 1

    def _report_ranks(self) -> None:
        """Put into the metrics at which ranks the tested recommendations had what came."""
        metrics = self._metrics
        for (strategy, rank), number in self._ranks.items():
            metrics.tested.labels(strategy).inc(number)
            if rank == MISSED:
                continue
            metrics.reciprocal_rank.labels(strategy).inc(number / rank)
            for k in HITS_AT:
                if rank <= k:
                    metrics.hits.labels(strategy, str(k)).inc(number)
        self._ranks.clear()
