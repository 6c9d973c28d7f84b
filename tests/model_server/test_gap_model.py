"""The time of the next event is covered by its quantiles as often as they say."""

import numpy as np

from model_server.gap_model import LEVELS, GapModel

START_MS = 1_333_238_400_000


def test_quantiles_of_the_next_time_cover_at_their_level() -> None:
    rng = np.random.default_rng(1)
    gaps = GapModel(max_users=100)
    covered = np.zeros(len(LEVELS))
    for n in range(6_000):
        user = f"u{n % 20}"
        since_ms = START_MS + n * 1_000
        gap_s = float(rng.lognormal(8 + (n % 20) / 20, 0.5))
        (stated,) = gaps.quantiles_s([user], [since_ms])
        assert (np.diff(stated) >= 0).all()
        if n >= 2_000:
            covered += gap_s <= stated
        gaps.test(stated, gap_s)
        gaps.observe(user, since_ms, since_ms + int(1000 * gap_s))
    assert np.abs(covered / 4_000 - LEVELS).max() < 0.03


def test_a_regular_user_is_expected_at_the_own_rhythm_and_not_at_everybodys() -> None:
    gaps = GapModel(max_users=100)
    for n in range(300):
        gaps.observe(f"other-{n}", START_MS, START_MS + 600_000)
        if n % 10 == 0:
            gaps.observe("daily", START_MS, START_MS + 86_400_000)
    own, others = gaps.quantiles_s(["daily", "other-1"], [START_MS, START_MS])
    assert 60_000 < own[1] < 110_000
    assert others[1] < 1_500
