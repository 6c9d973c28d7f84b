"""The served model remembers so many users and no more: who has been idle for longest makes room, and leaves nothing behind."""

import msgspec
import numpy as np
import pytest
import torch

from model_server.fusion.settings import FusionSettings
from model_server.fusion_ranker import FusionRanker
from model_server.histories import Histories
from model_server.ranking import Query, Ranking
from schemas.events import BehaviorEvent

SETTINGS = FusionSettings(history=32, micro_batch=16, replay_events=16, sequence="nano")
START_MS = 1_333_238_400_000


def visits(user: str, items: range, at: int = 0) -> list[BehaviorEvent]:
    return [
        BehaviorEvent(
            event_id=f"{user}-{at}-{n}", user_id=user, item_id=f"i{n}", action="view", lat=40.0 + 0.01 * n, lon=-74.0,
            event_time_ms=START_MS + 3_600_000 * (at + n),
        )
        for n in items
    ]  # fmt: skip


def ranked(ranker: FusionRanker, *users: str) -> list[Ranking]:
    return ranker.rank([Query(user_id=user, k=5) for user in users])


def test_the_user_who_was_idle_for_longest_makes_room() -> None:
    histories = Histories(torch.device("cpu"), length=4, max_users=2)
    ann, bob = histories.slots_of(["ann", "bob"]).tolist()
    histories.slots_of(["ann"])
    assert histories.slots_of(["cem"]).tolist() == [bob] and histories.take_recycled().tolist() == [bob]
    assert (histories.slot("ann"), histories.slot("bob"), histories.user_ids) == (ann, None, ["ann", "cem"])
    assert histories.take_recycled().tolist() == []


def test_more_users_at_once_than_are_remembered_are_refused() -> None:
    histories = Histories(torch.device("cpu"), length=4, max_users=2)
    with pytest.raises(ValueError, match="at most 2"):
        histories.slots_of(["ann", "bob", "cem"])
    assert histories.user_ids == []


def test_who_is_idle_is_known_after_a_restart() -> None:
    histories, other = (Histories(torch.device("cpu"), length=4, max_users=2) for _ in range(2))
    histories.slots_of(["ann", "bob", "ann"])
    other.load_state(histories.state())
    other.slots_of(["cem"])
    assert other.user_ids == ["ann", "cem"]


def test_memory_stays_within_the_bound_and_everybody_is_still_answered() -> None:
    ranker = FusionRanker(msgspec.structs.replace(SETTINGS, micro_batch=64, replays=0), max_users=64)
    for at in range(12):
        ranker.observe([event for n in range(16) for event in visits(f"u{at}-{n}", range(at % 5, at % 5 + 3), at)])
    assert len(ranker.histories) == 64 == len(ranker.histories.user_ids)
    assert ranker.sequence is not None and ranker.sequence.memory.rows <= 64
    gone, new = ranked(ranker, "u0-0", "u11-3")
    assert gone.fallback == "popularity" and new.fallback is None
    assert all(np.isfinite(item.probability) for each in (gone, new) for item in each.items)


def test_a_new_user_inherits_nothing_of_the_one_whose_place_it_takes() -> None:
    ranker = FusionRanker(SETTINGS, max_users=32)
    ranker.observe(visits("old", range(12)))
    ranker.observe([event for n in range(31) for event in visits(f"u{n}", range(20, 23), 30)])
    slot = ranker.histories.slot("old")
    ranked(ranker, "old", "u3")
    ranker.observe(visits("new", range(20, 22), 60))
    assert ranker.histories.slot("new") == slot and ranker.histories.slot("old") is None
    batch = ranker.score("refresh", torch.tensor([slot])).batch
    names = [ranker.catalogue.item_ids[row] for row in batch.own.row.tolist()]
    assert sorted(names) == ["i20", "i21"]
    assert ranker.sequence is not None and int(ranker.sequence.memory.count[slot]) == 2
    (answer,) = ranked(ranker, "new")
    assert not {item.item_id for item in answer.items[:2]} & {f"i{n}" for n in range(12)}


def test_learning_that_was_begun_survives_users_who_make_room() -> None:
    ranker = FusionRanker(SETTINGS, max_users=48)
    ranker.observe([event for n in range(40) for event in visits(f"u{n}", range(8))])
    for at in range(3):
        admitted = ranker.admit([event for n in range(8) for event in visits(f"new{at}-{n}", range(3, 6), 20 + at)])
        learning = ranker.learning([admitted], train=True)
        next(learning)
        ranker.remember([event for n in range(8) for event in visits(f"late{at}-{n}", range(1, 3), 21 + at)])
        for _ in learning:
            ranked(ranker, f"new{at}-1", "u39")
    assert all(np.isfinite(loss) for loss in ranker.losses().values())
    assert ranker.sequence is not None and ranker.sequence.trainer.dropped_steps == 0
