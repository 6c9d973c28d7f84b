"""Personal transitions are told together for a batch, each as if it were alone."""

import numpy as np
import pytest

from processors.quality import PatternBook, best_of, binomial_significance
from processors.sequence import TransitionCounts
from streams.stages.coded_ids import CodedIds
from streams.stages.names import Names
from streams.stages.pair_names import PairNames
from streams.stages.user_messages import PERSONAL_NEXT_STATES, personal_transitions

NOW_S = 500.0
UNHELD = 99


def test_each_of_many_personal_transitions_says_what_its_user_does_after_its_item() -> None:
    rng = np.random.default_rng(5)
    counts, pairs, names = TransitionCounts(half_life_s=300.0), PairNames(1_000), Names(1_000)
    user, item, then = rng.integers(0, 4, 600), rng.integers(10, 16, 600), rng.integers(10, 40, 600)
    counts.update(item, then, rng.uniform(0, NOW_S, 600), owners=user)
    names.learn(CodedIds.of({code: f"n{code}" for code in [*range(4), *range(10, 40)] if code not in (3, 15)}))
    due = np.unique(pairs.keys(np.append(user, 0), np.append(item, UNHELD)))
    support = np.arange(len(due))

    told = personal_transitions(counts, PatternBook(), names, pairs, due, support, NOW_S, version=7)

    known = [(key, *(pairs.of(key) or (-1, -1)), events) for key, events in zip(due.tolist(), support.tolist())]
    expected = [one for one in known if one[1] != 3 and one[2] not in (15, UNHELD)]
    assert len(expected) == 15 and len(told) == 15
    for (_, whose, what, events), update in zip(expected, told, strict=True):
        states, weights = counts.counts_of(what, NOW_S, owner=whose)
        total, every = counts.total(what, NOW_S, owner=whose), counts.total(None, NOW_S, owner=whose)
        share = counts.count(None, int(states[0]), NOW_S, owner=whose) / every
        significance = best_of(binomial_significance(float(weights[0]), total, share), len(states))
        shares = [
            (f"n{state}", weight / total) for state, weight in zip(states.tolist(), weights.tolist()) if state != 15
        ]
        best = shares[: PERSONAL_NEXT_STATES - (15 in states[:PERSONAL_NEXT_STATES])]
        assert (update.user_id, update.from_state, update.version) == (f"n{whose}", f"n{what}", 7)
        assert [(one.name, pytest.approx(one.share)) for one in update.next_states] == best
        assert update.quality is not None and update.quality.support == events
        assert update.quality.significance == pytest.approx(significance)
