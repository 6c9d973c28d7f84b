"""Crowds that walk over tile borders, meet and part, and what one window of everything holds of them by brute force."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from processors.spatial import SlidingDBSCAN
from schemas.events import BehaviorEvent
from schemas.patterns import ClusterUpdate, Pattern, TransitionUpdate
from streams.pipeline import PatternPipeline
from streams.stages.factory import crowd_stage, stage_factory
from streams.stages.settings import ForecastWatchSettings, MiningSettings, RegionStageSettings

BIN_S = 20.0
FORECASTS = ForecastWatchSettings(bin_s=BIN_S, seasons=(6, 24), horizon=6, min_events=1)
REGION = RegionStageSettings(
    eps_m=120.0, min_samples=4, window_s=300.0, min_users=2, forecasts=FORECASTS, move_gap_s=50.0
)
STEP = 40


def settings_for(partitions: int) -> MiningSettings:
    return MiningSettings(partitions=partitions, region=REGION)


def walking_crowds(events: int = 1600) -> list[BehaviorEvent]:
    """Six crowds and noise; some events come late."""
    rng = np.random.default_rng(5)
    found = []
    for at in range(events):
        crowd = int(rng.integers(0, 6))
        angle = at / 260.0 + crowd * np.pi / 3
        lat, lon = 40.0 + 0.012 * np.sin(angle) * (crowd % 3), -74.0 + 0.015 * np.cos(angle)
        if rng.random() < 0.15:
            lat, lon = 40.0 + rng.uniform(-0.05, 0.05), -74.0 + rng.uniform(-0.05, 0.05)
        late_ms = int(rng.integers(0, 90_000)) if rng.random() < 0.05 else 0
        found.append(
            BehaviorEvent(
                event_id=f"e{at}", user_id=f"u{rng.integers(0, 40)}", item_id=f"i{crowd}", action="checkin",
                event_time_ms=1_400_000_000_000 + 1000 * at - late_ms,
                lat=float(lat + rng.normal(0, 5e-4)), lon=float(lon + rng.normal(0, 5e-4)),
            )
        )  # fmt: skip
    return found


EVENTS_SEEN = walking_crowds()


class Truth:
    """One window of everything, and the crowds in it by brute force."""

    def __init__(self) -> None:
        self.dbscan = SlidingDBSCAN(REGION.eps_m, REGION.min_samples, REGION.window_s)
        self.events: list[BehaviorEvent] = []

    def absorb(self, events: Sequence[BehaviorEvent]) -> None:
        ordered = sorted(events, key=lambda event: event.event_time_ms)
        time_s = np.array([event.event_time_ms / 1000.0 for event in ordered])
        alive = time_s > self.dbscan.now_s - REGION.window_s
        ordered = [event for event, lives in zip(ordered, alive.tolist(), strict=True) if lives]
        lat, lon = (np.array([getattr(event, name) for event in ordered]) for name in ("lat", "lon"))
        self.dbscan.update(time_s[alive], lat, lon, np.arange(len(self.events), len(self.events) + len(ordered)))
        self.events += ordered

    def members(self) -> list[list[BehaviorEvent]]:
        """The events of each crowd that may be told."""
        ids, labels, core = self.dbscan.snapshot()
        large = [one for one in np.unique(labels[labels >= 0]) if core[labels == one].sum() >= REGION.min_samples]
        return [[self.events[at] for at in ids[labels == one].tolist()] for one in large]

    def public(self) -> list[list[BehaviorEvent]]:
        """The events of each crowd that is published."""
        return [members for members in self.members() if people(members) >= REGION.min_users]


def people(members: Sequence[BehaviorEvent]) -> int:
    return len({member.user_id for member in members})


def clusters_of(patterns: Sequence[Pattern]) -> list[ClusterUpdate]:
    return [one for one in patterns if isinstance(one, ClusterUpdate)]


def moves_of(patterns: Sequence[Pattern]) -> list[TransitionUpdate]:
    return [one for one in patterns if isinstance(one, TransitionUpdate) and one.state_kind == "cluster"]


def teller_stage(pipeline: PatternPipeline) -> Any:
    return pipeline.stages[crowd_stage(pipeline.settings.partitions)][0]


def all_told_by(partitions: int, restart: Callable[[PatternPipeline], None] | None = None) -> list[Pattern]:
    pipeline, messages = PatternPipeline(settings_for(partitions), examinations_per_1000_events=200), list[Pattern]()
    for start in range(0, len(EVENTS_SEEN), STEP):
        messages += pipeline.update(EVENTS_SEEN[start : start + STEP])
        if restart is not None and start // STEP % 13 == 6:
            restart(pipeline)
    return messages


def store_and_load(pipeline: PatternPipeline) -> None:
    for name in ("region", "union"):
        make = stage_factory(name, pipeline.settings)
        pipeline.stages[name] = [make(at, stage.to_bytes()) for at, stage in enumerate(pipeline.stages[name])]
