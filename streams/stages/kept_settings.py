"""Settings that are part of a state: a snapshot keeps those that it was made with, whatever the settings say now."""

from typing import Any

from streams.stages.settings import MiningSettings

COUNTED = ("half_life_s", "max_transitions")


def kept_settings(stage: str, state: Any, settings: MiningSettings) -> dict[str, tuple[float, float]]:
    """Those of a stage's settings that its state was not made with: what is asked for and what is kept, by name."""
    asked, kept = _pairs(stage, state, settings)
    return {name: (value, kept[name]) for name, value in asked.items() if value != kept[name]}


def _pairs(stage: str, state: Any, settings: MiningSettings) -> tuple[dict[str, float], dict[str, float]]:
    names: tuple[str, ...]
    ours: object
    theirs: object
    match stage:
        case "region":
            names, ours, theirs = ("eps_m", "min_samples", "window_s"), settings.region, state.window.dbscan.settings
        case "user":
            names, ours, theirs = COUNTED, settings.user.transitions, state.transitions.settings
        case "transition":
            names, ours, theirs = COUNTED, settings.transition.counts, state.items.counts.settings
        case _:
            return {}, {}
    return {name: getattr(ours, name) for name in names}, {name: getattr(theirs, name) for name in names}
