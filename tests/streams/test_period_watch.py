"""Periods that a stage has published: found, and withdrawn when their key falls silent, whoever else goes on."""

import numpy as np

from processors.temporal import PeriodicitySettings
from schemas.patterns import PeriodicityUpdate
from streams.stages.periodicity import PeriodWatch

DAY_S = 86_400.0


def watch() -> PeriodWatch:
    return PeriodWatch(PeriodicitySettings(), lambda key: {"entity_kind": "item", "entity": f"item-{key}"})


def visits(key: int, first_day: int, days: int, every: int) -> tuple[np.ndarray, np.ndarray]:
    """Visits every few days at about six in the evening."""
    time_s = (first_day + every * np.arange(days // every) + 0.75) * DAY_S
    return np.full(len(time_s), key), time_s + np.random.default_rng(key).normal(0, 600, len(time_s))


def settled(found: PeriodWatch) -> dict[str, PeriodicityUpdate]:
    """The last message of each entity when there is nothing left to examine."""
    latest: dict[str, PeriodicityUpdate] = {}
    for _ in range(100):
        if not found.untested:
            return latest
        latest |= {update.entity: update for update in found.examine(2, 0)}  # type: ignore[union-attr,misc]
    raise AssertionError("the examinations do not end")


def test_the_periods_of_keys_that_fell_silent_are_withdrawn_when_others_move_time_on() -> None:
    found = watch()
    for key in range(8):
        found.update(*visits(key, 16_000, 200, every=3 + key % 4))
    assert sum(bool(update.periods) for update in settled(found).values()) == 8
    found.update(np.array([99]), np.array([16_400 * DAY_S]))
    withdrawn = settled(found)
    assert {entity for entity, update in withdrawn.items() if not update.periods} == {f"item-{key}" for key in range(8)}
    assert found.untested == 0


def test_nothing_is_examined_again_when_nothing_happened() -> None:
    found = watch()
    found.update(*visits(1, 16_000, 100, every=2))
    settled(found)
    assert (found.untested, found.examine(5, 0)) == (0, [])
