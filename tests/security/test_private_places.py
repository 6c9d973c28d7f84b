"""Homes are nobody's business: a place of a private category is in no pattern but its visitor's own."""

import msgspec
import numpy as np

from schemas.events import BehaviorEvent
from schemas.patterns import ClusterUpdate, CoVisitUpdate, Pattern, TransitionUpdate
from streams.pipeline import PatternPipeline
from streams.settings import WorkerSettings
from streams.stages.factory import stage_factory
from streams.stages.settings import MiningSettings

HOUR_MS = 3_600_000
HOME, CAFE = (41.4000, 2.1700), (41.4030, 2.1700)


def _evenings() -> list[BehaviorEvent]:
    """Eight people go from a café to one of them, every evening of a week."""
    events = []
    for day in range(7):
        for user in range(8):
            for at, (place, category, (lat, lon)) in enumerate(
                (("cafe", "Café", CAFE), ("bobs", "Home (private)", HOME), ("bar", "Bar", CAFE))
            ):
                events.append(
                    BehaviorEvent(
                        event_id=f"{day}-{user}-{at}", user_id=f"u{user}", item_id=place, action="checkin",
                        event_time_ms=10**12 + (24 * day + at) * HOUR_MS + user, lat=lat, lon=lon,
                        context={"category": category},
                    )
                )  # fmt: skip
    return sorted(events, key=lambda event: event.event_time_ms)


def _published(private: tuple[str, ...]) -> list[Pattern]:
    pipeline = PatternPipeline(MiningSettings(partitions=2, private_categories=private))
    return pipeline.update(_evenings())


def _of_everybody(patterns: list[Pattern]) -> list[Pattern]:
    return [pattern for pattern in patterns if getattr(pattern, "user_id", None) is None]


def test_a_private_place_is_in_no_pattern_of_everybody() -> None:
    public = _of_everybody(_published(("Home (private)",)))
    told = msgspec.json.encode(public)
    assert b"cafe" in told and b"bobs" not in told
    near_home = [one for one in public if isinstance(one, ClusterUpdate) and abs(one.lat - HOME[0]) < 0.001]
    assert not near_home
    kinds = {type(one) for one in public}
    assert {ClusterUpdate, TransitionUpdate} <= kinds


def test_without_the_setting_it_would_be_published() -> None:
    public = _of_everybody(_published(()))
    assert any(isinstance(one, ClusterUpdate) and abs(one.lat - HOME[0]) < 0.001 for one in public)
    assert any(isinstance(one, TransitionUpdate) and one.from_state == "bobs" for one in public)
    assert any(isinstance(one, CoVisitUpdate) and one.item_id == "bobs" for one in public)


def test_its_visitor_still_learns_from_it() -> None:
    own = [pattern for pattern in _published(("Home (private)",)) if getattr(pattern, "user_id", None) == "u3"]
    assert b"bobs" in msgspec.json.encode(own)


def test_what_is_private_is_still_known_after_a_restart() -> None:
    settings = MiningSettings(partitions=1, private_categories=("Home (private)",))
    pipeline = PatternPipeline(settings)
    pipeline.update(_evenings())
    (stage,) = pipeline.stages["user"]
    restored = stage_factory("user", settings)(0, stage.to_bytes())
    codes = {name: code for code, name in restored.names.held.as_dict().items()}
    assert restored.private.contains(np.array([codes["bobs"], codes["cafe"]])).tolist() == [True, False]


def test_homes_are_private_unless_told_otherwise() -> None:
    assert WorkerSettings().mining(4).private_categories == ("Home (private)",)
