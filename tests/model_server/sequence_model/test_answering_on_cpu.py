"""On a CPU kernels encode the users and speak for the heads; what they say is what the chains of operations say."""

import numpy as np
import pytest
import torch

from model_server.sequence_model.cpu_answering import CpuAnswering
from model_server.sequence_model.encoding import CachedEncoder
from model_server.sequence_model.expert import SequenceExpert
from model_server.sequence_model.memory import Events
from model_server.sequence_model.model import PRESETS, Answer, ModelSettings, OwnItems

USERS, ITEMS, DAY_S = 24, 90, 86_400.0
TINY = ModelSettings(dim=16, window=8, memory=16, pointers=3)


def a_town(seed: int, settings: ModelSettings) -> SequenceExpert:
    """Users with one event, a few, or more than are remembered, some at unknown places; with weights that say something."""
    rng = np.random.default_rng(seed)
    expert = SequenceExpert(settings)
    lat, lon = 40.6 + rng.random(ITEMS) / 5, -74.1 + rng.random(ITEMS) / 5
    lat[:10], lon[:10] = np.nan, np.nan
    counts = rng.integers(1, 40, USERS)
    counts[:3] = 1, 2, 250
    users = rng.permutation(np.repeat(np.arange(USERS), counts))
    items, time_s = rng.integers(0, ITEMS, len(users)), np.round(np.sort(rng.uniform(0, 40 * DAY_S, len(users))))
    expert.observe(users, items, time_s, lat[items], lon[items])
    with torch.no_grad():
        for parameter in expert.model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    expert.model.eval()
    return expert


def said_by_both(
    expert: SequenceExpert, users: torch.Tensor, before: torch.Tensor, timed: bool
) -> tuple[Answer, Answer]:
    model, memory = expert.model, expert.memory
    wait_s = torch.linspace(-100, 3 * DAY_S, len(users), dtype=torch.float64)
    time_s = memory.history(users, before, 1).time_s[:, 0] + wait_s if timed else None
    state = torch.randn((len(users), model.settings.dim), generator=torch.Generator().manual_seed(1))
    history = memory.history(users, before, model.settings.memory)
    with torch.no_grad():
        chain = model.answer("request" if timed else "refresh", state, history, OwnItems.of(history), time_s)
        return CpuAnswering(model, memory).answer(users, before, state, time_s), chain


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("settings", [TINY, PRESETS["nano"]], ids=["tiny", "nano"])
@pytest.mark.parametrize("seed", range(2))
def test_the_kernel_says_what_the_heads_say(seed: int, settings: ModelSettings, timed: bool) -> None:
    expert, users = a_town(seed, settings), torch.arange(USERS)
    now = expert.memory.count[users]
    for before in (now, (now - users % 4).clamp(min=1)):
        found, expected = said_by_both(expert, users, before, timed)
        torch.testing.assert_close(found.query, expected.query)
        torch.testing.assert_close(found.gate, expected.gate, rtol=1e-5, atol=1e-4)
        for n in range(USERS):
            held, wanted = found.own.rows[n] >= 0, expected.own.rows[n] >= 0
            assert found.own.rows[n, held].tolist() == expected.own.rows[n, wanted].tolist()
            torch.testing.assert_close(found.returns[n, held], expected.returns[n, wanted], rtol=1e-5, atol=1e-4)


def test_one_user_and_no_user_are_answered_too() -> None:
    expert = a_town(0, TINY)
    one = torch.tensor([5])
    found, expected = said_by_both(expert, one, expert.memory.count[one], False)
    torch.testing.assert_close(found.returns, expected.returns[:, expected.own.rows[0] >= 0], rtol=1e-5, atol=1e-4)
    nobody = torch.zeros(0, dtype=torch.long)
    with torch.no_grad():
        answer = CpuAnswering(expert.model, expert.memory).answer(nobody, nobody, torch.zeros(0, 16), None)
    assert len(answer.own.rows) == len(answer.returns) == len(answer.gate) == 0


def test_an_item_that_the_table_does_not_know_is_refused() -> None:
    expert, user = a_town(0, TINY), torch.tensor([4])
    expert.memory.append(Events.of(np.array([4]), np.array([10_000]), np.array([50 * DAY_S])))
    with pytest.raises(IndexError, match="not in the item table"), torch.no_grad():
        CpuAnswering(expert.model, expert.memory).answer(user, expert.memory.count[user], torch.zeros(1, 16), None)


def test_what_the_heads_learn_is_heard_at_once() -> None:
    expert, users = a_town(0, TINY), torch.arange(USERS)
    answering, before = CpuAnswering(expert.model, expert.memory), expert.memory.count[users]
    with torch.no_grad():
        first = answering.answer(users, before, torch.zeros(USERS, 16), None)
    expert.trainer.learn_recent(users)
    expert.model.eval()
    with torch.no_grad():
        again = answering.answer(users, before, torch.zeros(USERS, 16), None)
        anew = CpuAnswering(expert.model, expert.memory).answer(users, before, torch.zeros(USERS, 16), None)
    assert not torch.equal(first.returns, again.returns)
    torch.testing.assert_close(again.returns, anew.returns)


@pytest.mark.parametrize("lines", [5, 4096], ids=["users share lines", "each has a line"])
@pytest.mark.parametrize("by_kernels", [True, False])
@pytest.mark.parametrize("settings", [TINY, PRESETS["nano"]], ids=["tiny", "nano"])
def test_states_from_the_cache_are_those_of_the_whole_window(
    settings: ModelSettings, by_kernels: bool, lines: int
) -> None:
    expert, rng = a_town(3, settings), np.random.default_rng(3)
    encoder = CachedEncoder(expert.model, expert.memory, users=lines)
    if not by_kernels:
        encoder._states_on_cpu = encoder._states_on_device  # type: ignore[method-assign]
    for turn in range(8):
        users = torch.from_numpy(rng.permutation(USERS)[: rng.integers(1, USERS)].copy())
        with torch.no_grad():
            whole = encoder.full(users, expert.memory.count[users])
            torch.testing.assert_close(encoder.states(users), whole, rtol=1e-4, atol=1e-4)
        who = np.sort(rng.integers(0, USERS, 30))
        time_s = 41 * DAY_S + 7000.0 * turn + np.arange(30)
        expert.remember(
            Events.of(who, rng.integers(0, ITEMS + 9, 30), time_s, 40.6 + rng.random(30) / 5, np.full(30, -74.0))
        )


def test_a_state_with_an_item_that_is_not_admitted_yet_is_forgotten_with_it() -> None:
    expert = a_town(0, TINY)
    expert.remember(Events.of(np.array([4]), np.array([ITEMS + 1]), np.array([50 * DAY_S])))
    encoder = CachedEncoder(expert.model, expert.memory)
    with torch.no_grad():
        encoder.states(torch.tensor([4, 5]))
    encoder.forget_provisional()
    assert encoder._owner[[4, 5]].tolist() == [-1, 5]


def test_of_whom_nothing_is_remembered_any_more_nothing_is_said() -> None:
    expert, user = a_town(0, TINY), torch.tensor([2])
    assert expert.memory.oldest(user) > 10
    with torch.no_grad():
        answer = CpuAnswering(expert.model, expert.memory).answer(user, torch.tensor([9]), torch.zeros(1, 16), None)
    assert bool((answer.own.rows < 0).all()) and answer.gate.tolist() == [0.0]
