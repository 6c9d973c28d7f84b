"""The pure stages: cutting a stream differently, sending it again, storing and restoring it change nothing."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from comparison import differences
from hypothesis import given, settings
from hypothesis import strategies as st
from workload import workload

from schemas import json_wire
from schemas.events import BehaviorEvent
from schemas.patterns import (
    ClusterUpdate,
    CoVisitUpdate,
    PeriodicityUpdate,
    ProfileUpdate,
    SequenceUpdate,
    TransitionUpdate,
)
from streams.decoding import EventDecoder
from streams.pipeline import BEHIND, PatternPipeline
from streams.stages.columns import decode_internal, encode_events, encode_internal
from streams.stages.crossing import Message, encode_message
from streams.stages.factory import STAGES, stage_factory
from streams.stages.kept_settings import kept_settings
from streams.stages.output import Routed, key_of, topic_of
from streams.stages.records import encode_values
from streams.stages.settings import MiningSettings, UserSettings

SMALL = MiningSettings(partitions=2, user=UserSettings())


class Record(msgspec.Struct, frozen=True):
    offset: int
    value: bytes
    timestamp: int = -1


RECORDS = [Record(at, value) for at, (_, value) in enumerate(workload(seed=3, events=3_000, users=40, items=30))]


def run_user(cuts: list[int]) -> tuple[Any, list[Routed]]:
    """The user stage after all records, cut at these places, and what it passed on."""
    stage, decoder, routed = stage_factory("user", SMALL)(0, None), EventDecoder(SMALL.limits), list[Routed]()
    edges = [0, *sorted(set(cuts)), len(RECORDS)]
    for start, end in pairwise(edges):
        if end > start:
            columns, _ = decoder.decode(RECORDS[start:end], 2 * 10**12)
            routed += stage.apply(columns, end - 1, end == len(RECORDS)).routed
    return stage, routed


def messages_for(name: str, routed: list[Routed], partition: int = 0) -> list[Message]:
    """What a stage's partition reads: what was routed to it, and for a region then the cut that covers all of it."""
    mine = [one.batch for one in routed if BEHIND[one.topic.name] == name and one.partition == partition]
    if name == "region":
        union = stage_factory("union", SMALL)(0, None)
        cuts = union.apply(messages_for("union", routed), 0).routed
        mine += [one.batch for one in cuts if one.partition == partition]
    return mine


def absorbed(name: str, routed: list[Routed], partition: int = 0, step: int = 3) -> Any:
    stage = stage_factory(name, SMALL)(partition, None)
    mine = messages_for(name, routed, partition)
    for start in range(0, len(mine), step):
        part = mine[start : start + step]
        stage.apply(part, start + len(part) - 1)
    return stage


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, len(RECORDS) - 1), max_size=12))
def test_the_user_stage_does_not_depend_on_how_a_partition_is_cut_into_batches(cuts: list[int]) -> None:
    whole, _ = run_user([])
    parts, _ = run_user(cuts)
    assert differences("user", whole, parts) == []


@pytest.mark.parametrize("name", ["region", "union", "transition", "place"])
def test_an_internal_stage_does_not_depend_on_the_cuts_and_ignores_what_is_sent_again(name: str) -> None:
    _, whole = run_user([])
    _, parts = run_user([100, 101, 900, 2500])
    again = [one for one in parts for _ in range(2)]
    expected = absorbed(name, whole)
    assert differences(name, expected, absorbed(name, parts)) == []
    assert differences(name, expected, absorbed(name, [*again, *parts], step=1)) == []


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_goes_on_after_it_was_stored_as_if_nothing_had_happened(name: str) -> None:
    make = stage_factory(name, SMALL)
    if name == "user":
        whole, _ = run_user([1500])
        half, decoder = make(0, None), EventDecoder(SMALL.limits)
        half.apply(decoder.decode(RECORDS[:1500], 2 * 10**12)[0], 1499)
        half = make(0, half.to_bytes())
        half.apply(decoder.decode(RECORDS[1500:], 2 * 10**12)[0], len(RECORDS) - 1, True)
    else:
        _, routed = run_user([1500])
        mine = messages_for(name, routed)
        whole = absorbed(name, routed)
        half = make(0, None)
        half.apply(mine[:1], 0)
        half = make(0, half.to_bytes())
        half.apply(mine[1:], len(mine) - 1)
    assert half.absorbed_offset == whole.absorbed_offset
    assert differences(name, whole, half) == []
    assert differences(name, whole, make(0, half.to_bytes())) == []


@pytest.mark.parametrize("name", list(STAGES))
def test_a_chunk_of_the_log_does_what_the_batch_did(name: str) -> None:
    make = stage_factory(name, SMALL)
    if name == "user":
        live, decoder, kept = make(0, None), EventDecoder(SMALL.limits), make(0, None)
        for start in range(0, len(RECORDS), 1000):
            columns, _ = decoder.decode(RECORDS[start : start + 1000], 2 * 10**12)
            payload = encode_events(columns, live.names)
            live.apply(columns, start + 999)
            kept.replay(start, start + 999, payload)
        assert kept.names.held.as_dict() == live.names.held.as_dict()
    else:
        _, routed = run_user([1500])
        mine = messages_for(name, routed)
        live, kept = make(0, None), make(0, None)
        live.apply(mine, 7)
        kept.replay(0, 7, encode_values([encode_message(message) for message in mine]))
    assert kept.absorbed_offset == live.absorbed_offset
    assert differences(name, live, kept) == []


def test_internal_batches_survive_their_topic() -> None:
    _, routed = run_user([])
    batch = routed[0].batch
    assert decode_internal(encode_internal(batch)) == batch
    with pytest.raises(ValueError, match="not an internal batch"):
        decode_internal(b"nonsense")


def test_the_pipeline_finds_every_kind_of_pattern_in_a_small_world() -> None:
    pipeline = PatternPipeline(partitions=2, examinations_per_1000_events=100)
    decoder = json_wire.decoder
    from schemas.topics import EVENTS

    events: list[BehaviorEvent] = []
    for record in RECORDS:
        try:
            events.append(decoder(EVENTS).decode(record.value))
        except msgspec.DecodeError:
            continue
    week_ms, start_ms = 7 * 86_400_000, 1_333_238_400_000
    weekly = [
        BehaviorEvent(
            event_id=f"w{week}", user_id="weekly", item_id="choir", action="view",
            event_time_ms=start_ms - (30 - week) * week_ms,
        )
        for week in range(30)
    ]  # fmt: skip
    patterns = pipeline.update(weekly) + [
        pattern for start in range(0, len(events), 500) for pattern in pipeline.update(events[start : start + 500])
    ]
    kinds = {type(pattern) for pattern in patterns}
    assert kinds == {ClusterUpdate, CoVisitUpdate, PeriodicityUpdate, ProfileUpdate, SequenceUpdate, TransitionUpdate}
    of_kind = {p.state_kind for p in patterns if isinstance(p, TransitionUpdate)}
    assert of_kind == {"item", "category", "cluster"}
    weekly_periods = [p for p in patterns if isinstance(p, PeriodicityUpdate) and p.user_id == "weekly" and p.periods]
    assert weekly_periods and abs(weekly_periods[0].periods[0].period_s / 86_400 - 7) < 0.1
    assert len(pipeline.rejects) > 0


def test_versions_of_one_pattern_never_go_back() -> None:
    pipeline, latest = PatternPipeline(partitions=2), dict[tuple[str, str], int]()
    decoder = EventDecoder(SMALL.limits)
    for start in range(0, len(RECORDS), 250):
        columns, _ = decoder.decode(RECORDS[start : start + 250], 2 * 10**12)
        output = pipeline.stages["user"][0].apply(columns, start + 249)
        for pattern in output.patterns + pipeline.pass_on(output.routed):
            key = (topic_of(pattern).name, key_of(pattern))
            assert pattern.version > latest.get(key, -1)
            latest[key] = pattern.version
    assert len(latest) > 100


def test_a_crowd_of_too_few_people_is_never_published() -> None:
    pipeline = PatternPipeline(partitions=1)
    alone = [
        BehaviorEvent(
            event_id=f"e{at}", user_id=f"u{at % 2}", item_id="cafe", action="view", lat=40.0, lon=-74.0,
            event_time_ms=1_400_000_000_000 + at * 1000,
        )
        for at in range(50)
    ]  # fmt: skip
    assert not any(isinstance(pattern, ClusterUpdate) for pattern in pipeline.update(alone))
    third = msgspec.structs.replace(alone[-1], event_id="x", user_id="u3")
    more = [msgspec.structs.replace(third, event_id=f"x{at}") for at in range(20)]
    clusters = [pattern for pattern in pipeline.update(more) if isinstance(pattern, ClusterUpdate)]
    assert [(cluster.distinct_users, cluster.change) for cluster in clusters] == [(3, "born")]


def test_a_crowd_around_a_meridian_of_even_degrees_is_one_crowd() -> None:
    pipeline, latest = PatternPipeline(partitions=4), dict[str, ClusterUpdate]()
    for at in range(400):
        event = BehaviorEvent(
            event_id=f"e{at}", user_id=f"u{at % 40}", item_id=f"i{at % 7}", action="checkin",
            event_time_ms=1_333_238_400_000 + 60_000 * at, lat=40.0 + 2e-4 * (at % 5 - 2), lon=-74.0 + 2e-4 * (at % 7 - 3),
        )  # fmt: skip
        for pattern in pipeline.update([event]):
            if isinstance(pattern, ClusterUpdate):
                latest[pattern.cluster_id] = pattern
    crowds = [update for update in latest.values() if update.change not in ("died", "merged")]
    assert len(crowds) == 1
    assert crowds[0].count > 300


@pytest.mark.parametrize("name", STAGES)
def test_a_snapshot_keeps_the_settings_that_are_part_of_its_state_and_says_which(name: str) -> None:
    user, routed = run_user([])
    snapshot = (user if name == "user" else absorbed(name, routed)).to_bytes()
    half_life_s = SMALL.user.transitions.half_life_s
    user_counts, all_counts = (
        msgspec.structs.replace(counts, half_life_s=2 * half_life_s)
        for counts in (SMALL.user.transitions, SMALL.transition.counts)
    )
    fewer = msgspec.structs.replace(SMALL.user.periodicity, max_keys=1_000)
    keys = {"max_periodic_keys": (1_000, SMALL.user.periodicity.max_keys)}
    changed = msgspec.structs.replace(
        SMALL,
        region=msgspec.structs.replace(SMALL.region, eps_m=2 * SMALL.region.eps_m),
        user=msgspec.structs.replace(SMALL.user, transitions=user_counts, periodicity=fewer),
        place=msgspec.structs.replace(SMALL.place, periodicity=fewer),
        transition=msgspec.structs.replace(SMALL.transition, counts=all_counts),
    )
    counted = {"half_life_s": (2 * half_life_s, half_life_s)}
    expected = {
        "region": {"eps_m": (2 * SMALL.region.eps_m, SMALL.region.eps_m)}, "union": {}, "place": keys,
        "user": counted | keys, "transition": counted,
    }[name]  # fmt: skip
    assert kept_settings(name, stage_factory(name, changed)(0, snapshot), changed) == expected
    assert kept_settings(name, stage_factory(name, SMALL)(0, snapshot), SMALL) == {}
    assert kept_settings(name, stage_factory(name, changed)(0, None), changed) == {}
