"""The expert learns online, answers as of the right moment, and survives whatever a stream does to it."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from model_server.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from model_server.sequence_model import listening
from model_server.sequence_model.expert import SequenceExpert
from model_server.sequence_model.memory import Events
from model_server.sequence_model.model import NEVER, PRESETS, ModelSettings
from model_server.sequence_model.trainer import TrainerSettings

TINY = ModelSettings(dim=16, window=8, memory=16, pointers=3)
QUICK = TrainerSettings(batch_events=32, targets=4, replay_chunks=8, queries_per_step=64, replays=1)


def _stream(n: int = 200, users: int = 6, items: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "user_rows": rng.integers(0, users, n),
        "item_rows": rng.integers(0, items, n),
        "time_s": 1.3e9 + np.sort(rng.random(n)) * 20 * 86_400,
        "lat": 40.7 + 0.05 * rng.random(n),
        "lon": -74 + 0.05 * rng.random(n),
    }


def _observed(settings: ModelSettings = TINY, training: TrainerSettings = QUICK, n: int = 200) -> SequenceExpert:
    expert = SequenceExpert(settings, training)
    expert.observe(**_stream(n))
    return expert


@pytest.mark.parametrize("timed", [False, True])
def test_probabilities_over_the_catalogue_sum_to_one(timed: bool) -> None:
    expert = _observed()
    logits = expert.logits(np.arange(6), np.full(6, 1.3e9 + 21 * 86_400) if timed else None)
    assert logits.shape == (6, expert.rows)
    assert torch.allclose(logits.exp().sum(1), torch.ones(6), atol=1e-4)


def test_a_tiny_alternation_is_learned_by_heart() -> None:
    n = 120
    expert = SequenceExpert(TINY, QUICK)
    items = np.tile([0, 1, 2], n // 3)
    expert.observe(np.zeros(n, int), items, 1.3e9 + 3600.0 * np.arange(n))
    expert.fit(40)
    moments = np.arange(100, 120)
    logits = expert.logits(np.zeros(20, int), before=moments)
    assert (logits.argmax(1).numpy() == moments % 3).all()
    assert logits.max(1).values.exp().min() > 0.8


def test_the_hour_that_is_asked_about_decides() -> None:
    n = 120  # item 0 in the mornings, item 1 in the evenings, at random days apart
    rng = np.random.default_rng(1)
    midnight = 1.3e9 // 86_400 * 86_400 + np.cumsum(rng.integers(1, 4, n)) * 86_400.0
    evening = rng.random(n) < 0.5
    expert = SequenceExpert(TINY, QUICK)
    expert.observe(np.zeros(n, int), evening.astype(int), midnight + np.where(evening, 68_400, 28_800))
    expert.fit(25)
    tomorrow = midnight[-1] + 86_400.0
    asked = expert.logits(np.array([0, 0]), np.array([tomorrow + 28_800, tomorrow + 68_400]), before=np.array([n, n]))
    assert asked.argmax(1).tolist() == [0, 1]


def test_a_standing_answer_is_as_of_the_last_event_and_nothing_later() -> None:
    expert = _observed()
    then = expert.logits(np.array([2]))
    others = _stream(40, seed=5)
    others["user_rows"] = np.full(40, 5)
    others["time_s"] += 300 * 86_400
    model_before = {
        name: value.clone() for name, value in expert.model.state_dict().items() if isinstance(value, torch.Tensor)
    }
    expert.training = TrainerSettings(batch_events=10**6)
    expert.observe(**others)
    touches = expert.model.items.touches
    touches[: len(model_before["items.touches"])] = model_before["items.touches"]
    assert torch.allclose(expert.logits(np.array([2])), then, atol=1e-5)


def test_remembered_events_can_be_asked_about_before_they_count() -> None:
    stream = _stream(60)
    expert = SequenceExpert(TINY, TrainerSettings(batch_events=10**6))
    expert.observe(**{name: column[:40] for name, column in stream.items()})
    count = expert.memory.count[:6].numpy().copy()
    then = expert.logits(np.arange(6))
    columns = [stream[name][40:] for name in ("user_rows", "item_rows", "time_s", "lat", "lon")]
    expert.remember(Events.of(*columns))
    assert torch.allclose(expert.logits(np.arange(6), before=count), then, atol=1e-5)
    assert not torch.allclose(expert.logits(np.arange(6)), then, atol=1e-2)


@pytest.mark.parametrize("seed", range(4))
def test_cached_states_equal_full_ones(seed: int) -> None:
    expert = SequenceExpert(TINY, TrainerSettings(batch_events=10**6))
    stream = _stream(400, seed=seed)
    rng = np.random.default_rng(seed)
    start = 0
    while start < 400:
        stop = start + int(rng.integers(1, 12))
        expert.observe(**{name: column[start:stop] for name, column in stream.items()})
        users = torch.nonzero(expert.memory.count > 0).flatten()
        users = users[torch.randperm(len(users))[: max(1, len(users) // 2)]]
        with torch.no_grad():
            cached = expert.scorer.encoder.states(users)
            full = expert.scorer.encoder.full(users, expert.memory.count[users])
        assert torch.allclose(cached, full, atol=1e-5)
        start = stop
    assert expert.scorer.encoder.cached_encodings > expert.scorer.encoder.full_encodings / 2 > 0


def test_items_that_are_remembered_but_not_counted_yet_are_no_lesson() -> None:
    expert = _observed()
    later = _stream(n=60)
    new_items = later["item_rows"] + 1000
    expert.remember(Events.of(later["user_rows"], new_items, later["time_s"] + 1e6, later["lat"], later["lon"]))
    loss = expert.trainer.learn_recent(torch.arange(6))
    assert loss < 100.0, "a share of 1e9 is a target outside the catalogue"


def test_users_that_share_a_cache_slot_do_not_mix() -> None:
    expert = SequenceExpert(TINY, TrainerSettings(batch_events=10**6))
    expert.observe(**_stream(120, users=9))
    expert.scorer.encoder = type(expert.scorer.encoder)(expert.model, expert.memory, users=4)
    for _ in range(2):
        users = torch.arange(9)
        with torch.no_grad():
            assert torch.allclose(
                expert.scorer.encoder.states(users),
                expert.scorer.encoder.full(users, expert.memory.count[users]),
                atol=1e-5,
            )


@pytest.mark.parametrize("timed", [False, True])
def test_candidates_rank_like_the_full_catalogue(timed: bool) -> None:
    expert = _observed(n=120)
    when = np.full(6, 1.3e9 + 21 * 86_400) if timed else None
    rows = np.tile(np.arange(expert.rows), (6, 1))
    full, candidates = expert.logits(np.arange(6), when), expert.logits(np.arange(6), when, rows)
    assert torch.allclose(full, candidates, atol=1e-3)
    padded = np.concatenate([rows[:, :3], np.full((6, 2), -1)], 1)
    assert (expert.logits(np.arange(6), when, padded)[:, 3:] == NEVER).all()


@pytest.mark.parametrize("timed", [False, True])
def test_what_is_asked_row_by_row_is_what_the_whole_catalogue_would_say(timed: bool) -> None:
    expert = _observed(n=300)  # the memory holds 16 events of about 50: some own items are forgotten
    when = np.full(6, 1.3e9 + 21 * 86_400) if timed else None
    full = expert.logits(np.arange(6), when)
    heard = expert.listen(torch.arange(6), None if when is None else torch.from_numpy(when), None)
    users, rows = torch.meshgrid(torch.arange(6), torch.arange(expert.rows), indexing="ij")
    assert torch.allclose(heard.own(users.flatten(), rows.flatten()), full.flatten(), atol=1e-4)
    own = heard._answer.own.rows
    others = torch.stack([torch.tensor([n for n in range(expert.rows) if n not in mine][:2]) for mine in own.tolist()])
    exploring, known = heard.exploring(others), full.gather(1, others)
    assert torch.allclose(exploring[:, 1] - exploring[:, 0], known[:, 1] - known[:, 0], atol=1e-4)


@pytest.mark.parametrize("timed", [False, True])
def test_the_kernel_says_of_rows_what_the_chain_of_operations_does(
    timed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert, random = _observed(n=300), np.random.default_rng(0)
    places = [random.uniform(low, low + 0.2, 4).astype(np.float32) for low in (40.6, -74.1)]
    expert.upsert_items(np.arange(expert.rows, expert.rows + 4), None, *places)
    expert.upsert_items(np.arange(expert.rows, expert.rows + 1))
    expert.model.items.ensure(expert.rows + 3)  # rows that nobody touched or announced
    torch.nn.init.normal_(expert.model.explore_head("request" if timed else "refresh").distance)
    when = torch.full((6,), 1.3e9 + 21 * 86_400, dtype=torch.float64) if timed else None
    heard = expert.listen(torch.arange(6), when, None)
    rows = torch.arange(expert.rows).expand(6, -1)
    found = heard.exploring(rows)
    monkeypatch.setattr(listening, "ROWS_PER_CANDIDATE", 0)
    torch.testing.assert_close(found, heard.exploring(rows))
    assert bool((found[:, -3:] == NEVER).all()) and bool((found[:, :-3] > NEVER).all())


@pytest.mark.parametrize("mode", ["refresh", "request"])
def test_what_is_kept_of_the_catalogue_is_what_would_be_made_of_it_now(mode: str) -> None:
    expert = SequenceExpert(ModelSettings(dim=16, window=8, memory=16, pointers=3, expire_after_s=2 * 86_400.0), QUICK)
    stream, random = _stream(300, items=60), np.random.default_rng(1)
    columns = [stream[name] for name in ("user_rows", "item_rows", "time_s", "lat", "lon")]
    start = 0
    while start < 300:
        stop = start + int(random.integers(1, 9))
        events = Events.of(*(column[start:stop] for column in columns))
        expert.remember(events)
        for _ in itertools.chain([None], expert.absorbing(events), [None]):
            rows = torch.arange(expert.rows)
            items, head = expert.model.items, expert.model.explore_head(mode)
            assert torch.equal(expert.scorer.catalogue(), items.catalogue())
            assert torch.equal(expert.scorer.worth(mode), head.bias(items, rows) + head.fame(items, rows))
        start = stop


def test_an_event_leaves_what_is_known_of_the_catalogue_as_it_was() -> None:
    expert = _observed(training=TrainerSettings(batch_events=10**6))
    catalogue, worth = expert.scorer.catalogue(), expert.scorer.worth("refresh")
    expert.remember(Events.of(np.zeros(3, int), np.arange(3), 1.4e9 + np.arange(3.0)))
    assert expert.scorer.catalogue() is catalogue and expert.scorer.worth("refresh") is worth


def test_a_row_that_the_sequence_model_never_heard_of_is_no_candidate_of_its() -> None:
    heard = _observed().listen(torch.tensor([0]), None, None)
    assert heard.exploring(torch.tensor([[10_000]])).tolist() == [[NEVER]]


def test_a_user_without_events_sees_what_is_popular() -> None:
    expert = SequenceExpert(TINY, QUICK)
    expert.observe(np.array([0, 1, 2]), np.array([3, 3, 1]), np.arange(3.0))
    assert expert.logits(np.array([7])).argmax(1).item() == 3


def test_a_new_item_can_be_recommended_from_its_content_alone() -> None:
    expert = SequenceExpert(ModelSettings(dim=16, window=8, memory=16, pointers=3, content_dim=4), QUICK)
    expert.observe(**_stream(64))
    expert.upsert_items(np.array([50]), np.ones((1, 4)), np.array([40.7]), np.array([-74.0]))
    logits = expert.logits(np.array([0]))
    assert logits.shape == (1, 51) and logits[0, 50] > -20 and logits[0, 30] == NEVER


def test_the_same_seed_and_events_give_the_same_model() -> None:
    a, b = _observed(), _observed()
    assert torch.equal(a.logits(np.arange(6)), b.logits(np.arange(6)))


def test_it_learns_online_better_than_popularity() -> None:
    rng = np.random.default_rng(0)
    favourites = rng.integers(0, 40, (10, 3))
    users = rng.integers(0, 10, 1500)
    items = favourites[users, rng.integers(0, 3, 1500)]
    expert = SequenceExpert(TINY, QUICK)
    hits = []
    for start in range(0, 1500, 50):
        part = slice(start, start + 50)
        if start >= 500:
            logits = expert.logits(users[part], before=expert.memory.count[users[part]].numpy())
            hits.append((logits.topk(3, 1).indices.numpy() == items[part, None]).any(1).mean())
        expert.observe(users[part], items[part], 1.3e9 + 600.0 * np.arange(start, start + 50))
    assert np.mean(hits) > 0.9


def test_saved_and_loaded_it_goes_on_exactly_as_before(tmp_path) -> None:
    expert = _observed(n=150)
    save_checkpoint(tmp_path / "m", Checkpoint(state={"sequence": expert.state()}, offsets={}, fingerprint="x"))
    other = SequenceExpert(TINY, QUICK)
    other.load_state(load_checkpoint(tmp_path / "m").state["sequence"])
    assert torch.equal(expert.logits(np.arange(6)), other.logits(np.arange(6)))
    more = _stream(100, items=90, seed=3)
    more["time_s"] += 30 * 86_400
    for each in (expert, other):
        each.observe(**more)
    assert torch.equal(expert.logits(np.arange(6)), other.logits(np.arange(6)))


def test_a_state_of_other_settings_is_refused_and_changes_nothing() -> None:
    expert, other = _observed(), _observed(ModelSettings(dim=8, window=8, memory=16, pointers=3))
    then = expert.logits(np.arange(6))
    with pytest.raises(ValueError, match="does not fit"):
        expert.load_state(other.state())
    with pytest.raises(ValueError, match="does not fit"):
        expert.load_state({})
    assert torch.equal(expert.logits(np.arange(6)), then)


def test_a_gradient_that_is_not_finite_is_dropped_and_counted() -> None:
    expert = _observed()
    then = {name: value.clone() for name, value in expert.model.named_parameters()}
    with torch.no_grad():
        expert.model.items.lat[0] = float("nan")
        expert.model.explore_heads["refresh"].popularity.fill_(float("nan"))
    expert.trainer.step(*expert.trainer.draw(8))
    assert expert.trainer.dropped_steps == 1
    for name, value in expert.model.named_parameters():
        if "explore_heads.refresh.popularity" not in name:
            assert torch.equal(value, then[name]), name


def test_weights_that_broke_are_replaced_by_the_last_good_ones() -> None:
    expert = _observed()
    with torch.no_grad():
        for parameter in expert.model.transducer.parameters():
            parameter.fill_(float("nan"))
    expert.observe(**_stream(64, seed=9))
    assert expert.trainer.fallbacks >= 1
    assert torch.isfinite(expert.logits(np.arange(6))).all()
    assert all(torch.isfinite(parameter).all() for parameter in expert.model.parameters())


def test_a_collapse_of_the_loss_brings_the_last_good_weights_back() -> None:
    expert = _observed()
    good = expert.trainer._good["users.weight"].clone()
    with torch.no_grad():
        expert.model.users.weight.fill_(3.0)
    for _ in range(12):
        expert.trainer._watch(50.0)
    assert expert.trainer.fallbacks == 1 and torch.equal(expert.model.users.weight[: len(good)], good)


def test_a_large_catalogue_trains_on_a_sample() -> None:
    expert = SequenceExpert(TINY, TrainerSettings(batch_events=64, full_softmax_rows=100, samples=50, replays=1))
    expert.observe(**_stream(300, items=2000))
    assert expert.trainer.steps > 0 and expert.trainer.dropped_steps == 0
    assert torch.isfinite(expert.logits(np.arange(6))).all()


def test_items_nobody_touches_any_more_give_up_their_slots() -> None:
    expert = SequenceExpert(ModelSettings(dim=16, window=8, memory=16, pointers=3, expire_after_s=86_400.0), QUICK)
    for day in range(8):
        expert.observe(np.arange(64) % 6, 64 * day + np.arange(64), 1.3e9 + 86_400.0 * day + np.arange(64.0))
    assert expert.rows == 512 and expert.model.items.slots <= 4 * 64
    assert torch.isfinite(expert.logits(np.arange(6))).all() and expert.model.items.known[:512].all()


def test_places_and_weights_are_optional_and_odd_streams_do_no_harm() -> None:
    expert = SequenceExpert(TINY, QUICK)
    expert.observe(np.array([], int), np.array([], int), np.array([]))
    expert.observe(np.zeros(100, int), np.zeros(100, int), np.full(100, 1.3e9))  # one item, one moment
    expert.observe(np.arange(100), np.arange(100), np.zeros(100), weights=np.zeros(100))  # no weight at all
    assert torch.isfinite(expert.logits(np.arange(100))).all() and expert.trainer.dropped_steps == 0
    assert expert.logits(np.array([], int)).shape == (0, expert.rows)


@pytest.mark.parametrize("wrong", [{"dim": 10, "heads": 4}, {"window": 1}, {"window": 64, "memory": 32}, {"layers": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"need|must"):
        ModelSettings(**wrong)


def test_presets_grow() -> None:
    assert [PRESETS[name].dim for name in ("nano", "small", "base", "large")] == [64, 128, 256, 512]


def test_an_item_that_was_ranked_with_before_it_was_counted_is_not_remembered_without_its_vector() -> None:
    expert = SequenceExpert(ModelSettings(dim=16, window=8, memory=16, pointers=3), TrainerSettings(batch_events=1_000))
    users, hour = np.zeros(3, np.int64), np.arange(3) * 3600.0
    expert.observe(users, np.array([0, 1, 0]), hour)
    new = Events.of(np.array([0]), np.array([2]), np.array([4 * 3600.0]), None, None, None, expert.device)
    expert.remember(new)
    expert.logits(np.array([0]))  # a standing answer between the event and the lesson
    expert.absorb(new)
    kept = expert.logits(np.array([0]))
    expert.scorer.encoder.forget()
    assert torch.allclose(kept, expert.logits(np.array([0])), atol=1e-6)


def _events(users: list[int], start_s: float) -> Events:
    return Events.of(np.array(users), np.arange(len(users)) % 7, start_s + 600.0 * np.arange(len(users)))


def _paused_expert() -> tuple[SequenceExpert, Iterator[bool]]:
    expert = SequenceExpert(PRESETS["nano"], TrainerSettings(group=4, replays=0))
    events = _events([user for _ in range(6) for user in range(8)], 0.0)
    expert.remember(events)
    for _ in expert.absorbing(events, train=False):
        pass
    return expert, expert.trainer.recent_steps(events.users)


def test_weights_stay_what_they_were_until_a_step_is_done() -> None:
    expert, steps = _paused_expert()
    before = [parameter.detach().clone() for parameter in expert.model.parameters()]
    parts = 0
    for changed in steps:
        parts += not changed
        same = all(torch.equal(old, new) for old, new in zip(before, expert.model.parameters(), strict=True))
        assert same is not changed
    assert parts > 3 and expert.trainer.dropped_steps == 0


def test_a_table_that_grows_during_a_step_still_gets_the_steps_whole_gradient() -> None:
    moved = []
    for interrupted in (False, True):
        expert, steps = _paused_expert()
        before = expert.model.users.weight.detach()[:8].clone()
        next(steps)
        if interrupted:
            expert.remember(_events([500], 1e6))
        for _ in steps:
            pass
        moved.append(expert.model.users.weight.detach()[:8] - before)
    assert float(moved[0].abs().max()) > 1e-4
    torch.testing.assert_close(moved[1], moved[0])
