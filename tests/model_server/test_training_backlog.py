"""Learning waits its turn: in order, in blocks, a step at a time; under overload events are counted, never lost."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from model_server.fusion_ranker import FusionRanker, FusionSettings
from model_server.metrics import ServerMetrics
from model_server.ranking import LazyLearner, Query
from model_server.refresh.scheduler import Refresh
from model_server.refreshing import Refresher
from model_server.rules.fallback import FallbackRanker
from model_server.settings import ServerSettings
from model_server.strategies import ADMITTED_AT_ONCE, Strategy, StrategySet
from model_server.training import TimeShare, TrainingBacklog
from schemas.events import BehaviorEvent
from schemas.recommendations import Trigger

START_MS = 1_333_238_400_000


def events(*numbers: int) -> list[BehaviorEvent]:
    return [
        BehaviorEvent(
            event_id=str(n),
            user_id=f"u{n % 5}",
            item_id=f"i{n % 7}",
            action="view",
            event_time_ms=START_MS + n * 3_600_000,
        )
        for n in numbers
    ]


class Recorder:
    """Learns in three steps and keeps what it was given."""

    def __init__(self) -> None:
        self.trained: list[list[str]] = []
        self.counted: list[str] = []
        self.steps = 0

    def admit(self, admitted: Sequence[BehaviorEvent]) -> list[str]:
        return [event.event_id for event in admitted]

    def learning(self, admitted: Sequence[Any], train: bool) -> Iterator[None]:
        ids = [event_id for block in admitted for event_id in block]
        if not train:
            self.counted += ids
            return
        self.trained.append(ids)
        for _ in range(2):
            self.steps += 1
            yield
        self.steps += 1


def test_a_block_is_learned_when_it_is_full_or_has_waited_long_enough() -> None:
    recorder = Recorder()
    backlog = TrainingBacklog(recorder, limit=100, block_events=4, patience_s=1.0)
    backlog.admit(events(0, 1), now_s=0.0)
    assert not backlog.due(0.9)
    assert backlog.due(1.0)
    backlog.admit(events(2, 3, 4), now_s=0.5)
    assert backlog.due(0.5)
    backlog.step()
    assert (recorder.steps, recorder.trained) == (1, [["0", "1", "2", "3", "4"]])
    backlog.step()
    backlog.step()
    assert recorder.steps == 3
    assert not backlog.due(99.0)


def test_beyond_the_limit_the_oldest_are_counted_and_the_newest_trained() -> None:
    recorder = Recorder()
    backlog = TrainingBacklog(recorder, limit=4, block_events=4)
    assert [backlog.admit(events(n, n + 1), now_s=0.0) for n in range(0, 10, 2)] == [0, 0, 2, 2, 2]
    assert recorder.counted == [str(n) for n in range(6)]
    assert backlog.finish() == 4
    assert recorder.counted == [str(n) for n in range(10)]
    assert backlog.events == 0


def test_much_beyond_the_limit_room_for_many_is_made_at_once() -> None:
    recorder = Recorder()
    backlog = TrainingBacklog(recorder, limit=16, block_events=4)
    assert [backlog.admit(events(n), now_s=0.0) for n in range(20)] == [0] * 16 + [3, 0, 0, 3]
    assert recorder.counted == [str(n) for n in range(6)]
    assert backlog.events == 14


def test_an_admission_beyond_the_limit_is_trained_if_nothing_else_waits() -> None:
    recorder = Recorder()
    backlog = TrainingBacklog(recorder, limit=2, block_events=4)
    assert backlog.admit(events(0, 1, 2, 3), now_s=0.0) == 0
    backlog.step()
    assert recorder.trained == [["0", "1", "2", "3"]]


def test_a_failing_block_is_dropped_and_the_next_goes_on() -> None:
    class Failing(Recorder):
        def learning(self, admitted: Sequence[Any], train: bool) -> Iterator[None]:
            if admitted[0] == ["0"]:
                raise RuntimeError("bad block")
            yield from super().learning(admitted, train)

    failing = Failing()
    backlog = TrainingBacklog(failing, limit=100, block_events=1)
    backlog.admit(events(0), now_s=0.0)
    backlog.admit(events(1), now_s=0.0)
    with pytest.raises(RuntimeError, match="bad block"):
        backlog.step()
    backlog.step()
    assert failing.trained == [["1"]]


class Lazy(Recorder, FallbackRanker):
    """A ranker that learns in steps, and notes them."""

    def __init__(self) -> None:
        FallbackRanker.__init__(self)
        Recorder.__init__(self)


def one_that_learns_later() -> tuple[Lazy, StrategySet]:
    """A ranker that learns in steps, and the strategies of which it is the only one."""
    lazy = Lazy()
    strategy = Strategy(name="lazy", ranker=lazy, item_ids=lambda: lazy.item_ids)
    return lazy, StrategySet(lambda: (FallbackRanker(), [strategy]), ServerMetrics())


def test_a_block_can_be_ended_step_by_step_without_beginning_the_next() -> None:
    lazy, strategies = one_that_learns_later()
    strategies.observe(events(*range(64)))
    strategies.observe(events(*range(64, 128)))
    assert not strategies.midway()
    strategies.learn_step()
    assert strategies.midway()
    while strategies.midway():
        strategies.learn_step(begin=False)
    strategies.learn_step(begin=False)
    assert (len(lazy.trained), lazy.steps) == (1, 3)
    assert strategies.learning_due()


def test_many_events_are_admitted_a_few_at_a_time_so_that_a_step_stays_short() -> None:
    lazy, strategies = one_that_learns_later()
    strategies.observe(events(*range(600)))
    while strategies.learning_due():
        strategies.learn_step()
    assert [len(block) for block in lazy.trained] == [ADMITTED_AT_ONCE, ADMITTED_AT_ONCE, 600 - 2 * ADMITTED_AT_ONCE]
    assert [event_id for block in lazy.trained for event_id in block] == [str(n) for n in range(600)]


def test_learning_keeps_to_its_share_of_the_time() -> None:
    share, spent_s = TimeShare(0.2), 0.0
    for _ in range(1_000):
        step_s = 0.05 if share.allows() else 0.0
        share.spent(step_s)
        share.passed(0.03 + step_s)
        spent_s += step_s
    assert 0.17 < spent_s / (30.0 + spent_s) < 0.23


def test_what_was_not_spent_while_nothing_waited_is_not_saved_up() -> None:
    share, steps = TimeShare(0.2), 0
    for _ in range(600):
        share.passed(0.1)
    while share.allows():
        share.spent(0.05)
        steps += 1
    assert steps * 0.05 <= 0.45


def test_while_others_must_not_wait_long_learning_keeps_to_a_part_of_its_share() -> None:
    share, spent_s = TimeShare(0.2), 0.0
    share.passed(60.0)
    for _ in range(1_000):
        step_s = 0.06 if share.allows(0.25) else 0.0
        share.spent(step_s)
        share.passed(0.06 + step_s)
        spent_s += step_s
    assert 0.045 < spent_s / (60.0 + spent_s) < 0.055


def test_a_part_of_the_share_is_spent_sooner() -> None:
    share = TimeShare(0.2)
    share.passed(1.0)
    share.spent(0.1)
    assert share.allows() and not share.allows(0.25)


@pytest.mark.parametrize(
    ("waited_ms", "triggers", "late"),
    [
        ((10, 20, 90), ("event",) * 3, False),
        ((10, 40, 90), ("event",) * 3, True),
        ((90, 90, 10), ("pattern", "due", "event"), False),
    ],
)
def test_refreshes_are_late_when_half_of_those_by_events_waited_for_half_their_patience(
    waited_ms: tuple[int, ...], triggers: tuple[Trigger, ...], late: bool
) -> None:
    refresher: Any = Refresher.__new__(Refresher)
    refresher.late = False
    refresher._settings = ServerSettings(redis=None, event_patience_s=0.06)
    now_ms = time.time_ns() // 1_000_000
    refresher._note_lateness(
        [
            Refresh(user_id="u", trigger=trigger, not_before_s=0.0, deadline_s=0.0, since_ms=now_ms - waited)
            for waited, trigger in zip(waited_ms, triggers, strict=True)
        ]
    )
    assert refresher.late is late
    refresher._note_lateness([])
    assert refresher.late is late


def test_the_fused_strategy_knows_at_once_what_it_learns_later() -> None:
    ranker = FusionRanker(FusionSettings(sequence=""))
    assert isinstance(ranker, LazyLearner)
    backlog = TrainingBacklog(ranker, limit=1_000, block_events=8)
    backlog.admit(events(*range(40)), now_s=0.0)
    (ranking,) = ranker.rank([Query(user_id="u1", k=7)])
    assert {"i1", "i6"} <= {item.item_id for item in ranking.items}
    assert float(ranker.visits.touches.sum()) == 0.0
    while backlog.due(0.0):
        backlog.step()
    assert float(ranker.visits.touches.sum()) == 40.0
    backlog.admit(events(*range(40, 60)), now_s=0.0)
    backlog.finish()
    assert float(ranker.visits.touches.sum()) == 60.0
