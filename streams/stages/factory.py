"""Makes the state of a stage's partition, new or from a snapshot."""

from collections.abc import Callable
from typing import Any

from streams.stages.lone_region import LoneRegionStage
from streams.stages.place import PlaceStage
from streams.stages.region import RegionStage
from streams.stages.settings import MiningSettings
from streams.stages.transition import TransitionStage
from streams.stages.union import UnionStage
from streams.stages.user import UserStage


def _region(settings: MiningSettings, partition: int) -> RegionStage | LoneRegionStage:
    """With one partition there is nothing to share, and the union stage stays without input."""
    return (RegionStage if settings.partitions > 1 else LoneRegionStage)(settings, partition)


def crowd_stage(partitions: int) -> str:
    """The stage that tells of crowds."""
    return "union" if partitions > 1 else "region"


STAGES: dict[str, Callable[[MiningSettings, int], Any]] = {
    "user": UserStage,
    "region": _region,
    "union": UnionStage,
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
