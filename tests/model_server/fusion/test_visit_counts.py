"""Visit counts against a plain tally."""

import numpy as np
import pytest
import torch

from model_server.visits import SPANS_S, VisitCounts


def test_counts_equal_a_plain_tally_over_a_year() -> None:
    rng = np.random.default_rng(1)
    counts = VisitCounts(torch.device("cpu"), capacity=4)
    n, rows = 600, 40
    row, kind, new = rng.integers(0, rows, n), rng.integers(0, 90, n), rng.random(n) < 0.3
    time_s = 1.3e9 + np.sort(rng.uniform(0, 365 * 86400, n))
    hour = rng.uniform(0, 24, n)
    for start in range(0, n, 50):
        part = slice(start, start + 50)
        counts.add(
            torch.tensor(row[part]), torch.tensor(kind[part]), torch.tensor(new[part]), torch.tensor(time_s[part]),
            torch.tensor(hour[part]).float(),
        )  # fmt: skip
    everything = torch.arange(rows)
    assert counts.touches[:rows].tolist() == np.bincount(row, minlength=rows).tolist()
    assert counts.visitors[:rows].tolist() == np.bincount(row, new, rows).tolist()
    for span, span_s in enumerate(SPANS_S):
        expected = np.bincount(row, np.exp((time_s - time_s[-1]) / span_s), rows)
        assert counts.recent(everything, span).numpy() == pytest.approx(expected, rel=2e-3, abs=1e-5)
    first = np.array([time_s[row == each].min() for each in range(rows)])
    assert counts.age_s(everything).numpy() == pytest.approx(time_s[-1] - first, rel=1e-4, abs=1)
    table = np.zeros((rows, 24))
    np.add.at(table, (row, hour.astype(int)), 1)
    assert (counts.hours[:rows].numpy() == table).all()


def test_state_survives() -> None:
    counts, other = VisitCounts(torch.device("cpu")), VisitCounts(torch.device("cpu"))
    counts.add(
        torch.tensor([2]), torch.tensor([1]), torch.tensor([True]), torch.tensor([5.0]).double(), torch.tensor([3.0])
    )
    other.load_state(counts.state())
    assert other.touches[2] == 1 and other.now_s == 5.0
    with pytest.raises(ValueError, match="touches"):
        other.load_state({})
