"""One turn of refreshing: answer who asks, refresh whom it is time for, send it all, and note what was sent."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import msgspec
import numpy as np

from model_server.answering import Desk
from model_server.metrics import ServerMetrics
from model_server.next_behaviour import NextBehaviourPredictor
from model_server.publishing import Publisher
from model_server.recommending import Made, Recommender, Task
from model_server.refresh.scheduler import Refresh, RefreshScheduler
from model_server.responding import FeedbackDesk
from model_server.rules.hard import UNCONSTRAINED, Constraints
from model_server.settings import ServerSettings
from model_server.strategies import StrategySet
from model_server.users import OwnedUsers, Published, UserRecord
from schemas.recommendations import Recommendation


class Refresher:
    """Takes one micro-batch at a time from the desk and the scheduler through the recommender to the publisher."""

    def __init__(
        self,
        settings: ServerSettings,
        users: OwnedUsers,
        strategies: StrategySet,
        scheduler: RefreshScheduler,
        desk: Desk,
        recommender: Recommender,
        feedback: FeedbackDesk,
        predictor: NextBehaviourPredictor | None,
        metrics: ServerMetrics,
    ) -> None:
        self._settings, self._users, self._strategies = settings, users, strategies
        self._scheduler, self._desk, self._recommender = scheduler, desk, recommender
        self._feedback, self._predictor, self._metrics = feedback, predictor, metrics
        self.late = False

    def turn(self, publisher: Publisher, owns: Callable[[str], bool]) -> None:
        """One micro-batch, requests first; only users that this instance ``owns`` are published.

        From then on ``late`` says whether half of those who were refreshed by an event had waited for half of their patience.
        """
        self._metrics.pending.set(len(self._scheduler) + len(self._desk))
        urgent = self._desk.next(self._settings.max_batch)
        refreshes = self._scheduler.take(time.monotonic(), self._settings.max_batch - len(urgent))
        tasks = [each.task for each in urgent] + [self._standing(refresh) for refresh in refreshes]
        if not tasks:
            return
        self._metrics.batch_users.observe(len(tasks))
        with self._metrics.rank_seconds.time():
            made = self._recommender.make(tasks, time.time_ns() // 1_000_000)
        keys: list[Hashable] = [each.key for each in urgent] + [refresh.user_id for refresh in refreshes]
        self._publish(made, keys, publisher, owns)
        for each, answered in zip(urgent, made):
            if each.answer is not None and each.answer.set_running_or_notify_cancel():
                each.answer.set_result(msgspec.json.encode(answered.recommendation))
        if self._settings.shadow is not None:
            self._rank_shadow(self._settings.shadow, made)
        self._note_lateness(refreshes)

    def _note_lateness(self, refreshes: Sequence[Refresh]) -> None:
        now_ms = time.time_ns() // 1_000_000
        waited_ms = [now_ms - refresh.since_ms for refresh in refreshes if refresh.trigger == "event"]
        if waited_ms:
            self.late = statistics.median(waited_ms) > 500.0 * self._settings.event_patience_s

    def _standing(self, refresh: Refresh) -> Task:
        record = self._users.get(refresh.user_id)
        excluded = self._users.excluded(refresh.user_id, self._settings.blocked_items)
        return Task(
            user_id=refresh.user_id,
            trigger=refresh.trigger,
            since_ms=refresh.since_ms,
            k=self._settings.k,
            now_ms=refresh.now_ms,
            constraints=Constraints(excluded=excluded) if excluded else UNCONSTRAINED,
            last_item=record.last_item if record is not None else "",
            source_partition=record.partition if record is not None else -1,
            source_offset=record.offset if record is not None else -1,
            trace=record.trace if record is not None and refresh.trigger == "event" else [],
        )

    def _publish(
        self, made: Sequence[Made], keys: Sequence[Hashable], publisher: Publisher, owns: Callable[[str], bool]
    ) -> None:
        now_s = time.monotonic()
        outgoing: list[tuple[Task, Recommendation, Hashable]] = []
        active: list[Made] = []
        last_event_ms: list[int] = []
        for trigger, number in Counter(each.task.trigger for each in made).items():
            self._metrics.refreshes.labels(trigger).inc(number)
        for each, key in zip(made, keys):
            task = each.task
            if not owns(task.user_id):
                continue
            outgoing.append((task, each.recommendation, key))
            item_ids = tuple([item.item_id for item in each.recommendation.items])
            self._feedback.sent(each, item_ids)
            record = self._users.get(task.user_id)
            if record is None:
                continue
            self._note_sent(each, item_ids, record, now_s)
            if task.trigger == "event":
                active.append(each)
                last_event_ms.append(record.last_event_ms)
        publisher.publish(outgoing)
        if self._predictor is not None:
            publisher.predict(self._predictor.predict(active, last_event_ms))
        self._measure(made)

    def _note_sent(self, made: Made, item_ids: tuple[str, ...], record: UserRecord, now_s: float) -> None:
        record.refreshed_s = now_s
        if made.task.constraints.selects:
            # A restricted answer is not the standing one: the user's topic key must end with that again.
            self._scheduler.mark(made.task.user_id, "pattern", now_s=now_s, since_ms=made.task.since_ms)
            return
        recommendation = made.recommendation
        record.published = Published(
            version=recommendation.version,
            source_offset=recommendation.source_offset,
            strategy=recommendation.strategy,
            item_ids=item_ids,
        )

    def _rank_shadow(self, name: str, made: Sequence[Made]) -> None:
        strategy = self._strategies[name]
        for each, ranking in zip(made, self._recommender.rank(strategy, [each.task for each in made])):
            item_ids = tuple(item.item_id for item in ranking.items[: each.task.k])
            published = {item.item_id for item in each.recommendation.items}
            if published:
                self._metrics.shadow_overlap.observe(len(published.intersection(item_ids)) / len(published))
            record = self._users.get(each.task.user_id)
            if record is not None:
                record.shadow = (f"{name} (shadow)", item_ids)

    def _measure(self, made: Sequence[Made]) -> None:
        """One recommendation of each batch speaks for the gate and the experts: a sample is enough for a moving mean."""
        sample = made[0]
        self._metrics.explore_probability.observe(sample.ranking.explore_probability)
        for item in sample.ranking.items[:1]:
            given = np.abs(item.shares)
            for expert, share in zip(item.experts, (given / (given.sum() or 1.0)).tolist()):
                self._metrics.note_expert_share(expert, share)
