"""Makes the state of a stage's partition, new or from a snapshot."""

from collections.abc import Callable
from typing import Any

from streams.stages.place import PlaceStage
from streams.stages.region import RegionStage
from streams.stages.settings import MiningSettings
from streams.stages.transition import TransitionStage
from streams.stages.user import UserStage

STAGES: dict[str, Callable[[MiningSettings, int], Any]] = {
    "user": UserStage,
    "region": RegionStage,
    "transition": TransitionStage,
    "place": PlaceStage,
}


def stage_factory(stage: str, settings: MiningSettings) -> Callable[[int, bytes | None], Any]:
    """A function (partition, snapshot or None) -> state of that stage. Raises KeyError for an unknown stage."""
    new = STAGES[stage]

    def make(partition: int, snapshot: bytes | None) -> Any:
        state = new(settings, partition)
        if snapshot is not None:
            state.load(snapshot)
        return state

    return make
