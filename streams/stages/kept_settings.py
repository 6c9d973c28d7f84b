"""Settings that are part of a state: a snapshot keeps those that it was made with, whatever the settings say now."""

from typing import Any

from processors.temporal.periods import PeriodicitySettings
from streams.stages.periodicity import PeriodWatch
from streams.stages.settings import MiningSettings

COUNTED = ("half_life_s", "max_transitions")


def kept_settings(stage: str, state: Any, settings: MiningSettings) -> dict[str, tuple[float, float]]:
    """Those of a stage's settings that its state was not made with: what is asked for and what is kept, by name."""
    pairs: list[tuple[str, Any, Any]] = []
    match stage:
        case "region":
            pairs = _each(("eps_m", "min_samples", "window_s"), settings.region, state.window.dbscan.settings)
        case "user":
            pairs = _each(COUNTED, settings.user.transitions, state.transitions.settings)
            pairs.append(_periodic(settings.user.periodicity, state.user_periods))
        case "transition":
            pairs = _each(COUNTED, settings.transition.counts, state.items.counts.settings)
        case "place":
            pairs = [_periodic(settings.place.periodicity, state.periods)]
    return {name: (asked, kept) for name, asked, kept in pairs if asked != kept}


def _each(names: tuple[str, ...], asked: object, kept: object) -> list[tuple[str, Any, Any]]:
    return [(name, getattr(asked, name), getattr(kept, name)) for name in names]


def _periodic(asked: PeriodicitySettings, watch: PeriodWatch) -> tuple[str, Any, Any]:
    return "max_periodic_keys", asked.max_keys, watch.bank.settings.max_keys
