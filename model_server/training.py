"""Learning that waits its turn: what was admitted is learned in blocks, a step at a time, when nobody waits for an answer."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from model_server.ranking import LazyLearner
from schemas.events import BehaviorEvent

_OVER = object()
ROOM_MADE_AT_ONCE = 8  # an eighth of the limit: to count many events costs little more than to count a few


class TrainingBacklog:
    """The admitted events of one strategy that it has not learned yet, oldest first.

    A block is started when ``block_events`` have come together or the oldest has waited ``patience_s``; beyond ``limit``
    events the oldest are only counted: the model then learns from a sample, and no ranking suffers.
    """

    def __init__(self, ranker: LazyLearner, limit: int, block_events: int = 64, patience_s: float = 1.0) -> None:
        self._ranker, self._limit, self._block_events, self._patience_s = ranker, limit, block_events, patience_s
        self._waiting: deque[tuple[float, int, Any]] = deque()
        self._running: Iterator[None] | None = None
        self.events = 0

    def admit(self, events: Sequence[BehaviorEvent], now_s: float) -> int:
        """Let rankings know these events, and learn from them later; how many older ones were only counted to make room."""
        self._waiting.append((now_s, len(events), self._ranker.admit(events)))
        self.events += len(events)
        return self._count_oldest(self._limit - self._limit // ROOM_MADE_AT_ONCE) if self.events > self._limit else 0

    def due(self, now_s: float) -> bool:
        """Whether there is a step to take."""
        if self._running is not None:
            return True
        return bool(self._waiting) and (
            self.events >= self._block_events or now_s - self._waiting[0][0] >= self._patience_s
        )

    @property
    def midway(self) -> bool:
        """Whether a block is begun and not at its end."""
        return self._running is not None

    def step(self) -> None:
        """One step of the running block, or the first of the next. Raises what the ranker raises; the block is dropped then."""
        if self._running is None:
            self._running = self._ranker.learning(self._next_block(), train=True)
        try:
            over = next(self._running, _OVER) is _OVER
        except Exception:
            self._running = None
            raise
        if over:
            self._running = None

    def finish(self) -> int:
        """Leave nothing half-way: end the running block and only count the rest; how many events were counted."""
        while self._running is not None:
            self.step()
        return self._count_oldest(0)

    def _next_block(self) -> list[Any]:
        block, events = [], 0
        while self._waiting and events < self._block_events:
            _, count, admitted = self._waiting.popleft()
            block.append(admitted)
            events += count
        self.events -= events
        return block

    def _count_oldest(self, left: int) -> int:
        """Only count the oldest, in one go, until at most ``left`` events (or the latest of several admissions) wait."""
        oldest, counted = [], 0
        while self.events > left and len(self._waiting) > (left > 0):
            _, count, admitted = self._waiting.popleft()
            oldest.append(admitted)
            self.events -= count
            counted += count
        for _ in self._ranker.learning(oldest, train=False):
            pass
        return counted


class TimeShare:
    """Keeps work at no more than a share of the time while other work waits.

    What may be spent grows with the time that passes, and what was overdrawn is made up for first. Little is saved up: it would
    be spent when the first ones wait.

    >>> share = TimeShare(0.25)
    >>> share.passed(1.0); share.spent(0.3)
    >>> share.allows(), share.passed(1.0), share.allows()
    (False, None, True)
    """

    SAVED_S, OVERDRAWN_S = 1.0, 2.0  # the share of so much time

    def __init__(self, share: float, part: float = 0.25) -> None:
        """``part`` of the share is for when the others must not wait long."""
        self._shares = {1.0: share, part: part * share}
        self._left_s = dict.fromkeys(self._shares, 0.0)

    def passed(self, seconds: float) -> None:
        """Time went by."""
        for part, share in self._shares.items():
            self._left_s[part] = min(self._left_s[part] + share * seconds, share * self.SAVED_S)

    def spent(self, seconds: float) -> None:
        """Part of it went into the work."""
        for part, share in self._shares.items():
            self._left_s[part] = max(self._left_s[part] - seconds, -share * self.OVERDRAWN_S)

    def allows(self, part: float = 1.0) -> bool:
        """Whether the work may go on although other work waits, with all of its share or the part that was named."""
        return self._left_s[part] > 0.0
