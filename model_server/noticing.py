"""Catalogue and pattern changes: told to every strategy, and the users whom they concern marked for a refresh."""

import time
from collections.abc import Sequence

from model_server.intake import Received
from model_server.items import ItemTable
from model_server.metrics import ServerMetrics
from model_server.next_behaviour import NextBehaviourPredictor
from model_server.reasons import ReasonWriter
from model_server.refresh.due import DueTimes
from model_server.refresh.scheduler import RefreshScheduler
from model_server.settings import ServerSettings
from model_server.strategies import StrategySet
from model_server.users import OwnedUsers
from schemas.events import Item
from schemas.patterns import Pattern, PeriodicityUpdate, ProfileUpdate, TransitionUpdate
from schemas.topics import CATALOG


class PatternDesk:
    """Takes in what the shared topics bring, and what time brings: visits that are due.

    Patterns appended before ``live_since_ms`` (wall clock) are read again at every start; the recommendations that stand know
    them, so they mark nobody.
    """

    def __init__(
        self,
        settings: ServerSettings,
        items: ItemTable,
        users: OwnedUsers,
        strategies: StrategySet,
        scheduler: RefreshScheduler,
        reasons: ReasonWriter,
        predictor: NextBehaviourPredictor | None,
        metrics: ServerMetrics,
    ) -> None:
        self._settings, self._items, self._users, self._strategies = settings, items, users, strategies
        self._scheduler, self._reasons, self._predictor, self._metrics = scheduler, reasons, predictor, metrics
        self.due = DueTimes(settings.due_lead_s)
        self.live_since_ms = time.time_ns() // 1_000_000

    def take(self, received: Sequence[Received], wall_ms: int) -> None:
        """Items and patterns, in the order of their topics."""
        items = self._admitted([each.message for each in received if isinstance(each.message, Item)])
        if items:
            self._strategies.upsert_items(items)
            self._metrics.items.set(len(self._items))
        patterns = [each for each in received if not isinstance(each.message, Item)]
        if patterns:
            self._take_patterns(patterns, wall_ms)

    def _admitted(self, items: list[Item]) -> list[Item]:
        """Those that are known or that there is room for; what one batch brings in too much is let in."""
        admitted = [item for item in items if self._items.admits(item.item_id)]
        if len(admitted) < len(items):
            self._metrics.refused.labels(CATALOG.name, "items_full").inc(len(items) - len(admitted))
        return admitted

    def mark_due(self, wall_ms: int) -> None:
        """Mark the users whose usual visit is near."""
        for visit in self.due.pop_due(wall_ms):
            if visit.user_id in self._users:
                self._scheduler.mark(
                    visit.user_id, "due", now_s=time.monotonic(), since_ms=visit.prepare_at_ms, now_ms=visit.due_ms
                )

    def _take_patterns(self, received: Sequence[Received], wall_ms: int) -> None:
        patterns: list[Pattern] = [each.message for each in received]
        self._reasons.note(patterns)
        if self._predictor is not None:
            self._predictor.note(patterns)
        for pattern in patterns:
            if isinstance(pattern, PeriodicityUpdate):
                self.due.note(pattern, wall_ms)
        own = [each for each in received if is_own(each.message)]
        others = [each for each in received if not is_own(each.message)]
        self._apply(own, self._settings.own_pattern_pause_s)
        self._apply(others, self._settings.pattern_pause_s)

    def _apply(self, received: Sequence[Received], pause_s: float) -> None:
        if not received:
            return
        patterns: list[Pattern] = [each.message for each in received]
        concerned = self._strategies.apply_patterns(patterns)
        received = [each for each in received if each.record.appended_ms >= self.live_since_ms]
        if not received:
            return
        now_s = time.monotonic()
        since_ms = min(each.record.appended_ms for each in received)
        now_ms = max(pattern.event_time_ms for pattern in patterns)
        for user_id in concerned:
            record = self._users.get(user_id)
            if record is not None:
                self._scheduler.mark(
                    user_id, "pattern", now_s=now_s, since_ms=since_ms, now_ms=max(now_ms, record.last_event_ms),
                    not_before_s=record.refreshed_s + pause_s,
                )  # fmt: skip


def is_own(pattern: Pattern) -> bool:
    """Whether a pattern is one user's own: an echo of that user's events, so that it never has to hurry."""
    if isinstance(pattern, PeriodicityUpdate | TransitionUpdate):
        return pattern.user_id is not None
    return isinstance(pattern, ProfileUpdate)
