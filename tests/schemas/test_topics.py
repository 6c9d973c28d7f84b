"""The topic declarations hold together: unique names, the naming rule, and decoders that tell tagged structs apart."""

import re

import pytest

from schemas import json_wire, topics
from schemas.patterns import CoVisit, CoVisitUpdate, PeriodicityUpdate


def test_names_are_unique_and_follow_the_rule() -> None:
    names = [spec.name for spec in topics.ALL_TOPICS]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+(\.[a-z]+){1,2}\.v\d+", name), name


def test_only_latest_value_topics_are_compacted() -> None:
    compacted = {spec.name for spec in topics.ALL_TOPICS if "compact" in spec.cleanup_policy}
    assert compacted == {
        "catalog.item.v1",
        "pattern.spatial.v1",
        "pattern.temporal.v1",
        "pattern.transition.v1",
        "pattern.profile.v1",
        "recommendation.user.v1",
        "prediction.user.v1",
    }


def test_structs_of_one_topic_are_told_apart_by_their_tag() -> None:
    covisit = CoVisitUpdate(item_id="a", version=1, event_time_ms=2, neighbours=[CoVisit("b", 3.0, 0.5, 2.0, 0.25)])
    assert json_wire.decoder(topics.SPATIAL).decode(json_wire.encode(covisit)) == covisit
    periods = PeriodicityUpdate(entity_kind="user", entity="u", version=1, event_time_ms=2, periods=[])
    assert json_wire.decoder(topics.TEMPORAL).decode(json_wire.encode(periods)) == periods


def test_raw_topics_have_no_decoder() -> None:
    with pytest.raises(ValueError, match="raw bytes"):
        json_wire.decoder(topics.REJECTED)
