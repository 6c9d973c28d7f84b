"""The grid of the sphere: which rows share a width of cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from processors.spatial.geometry import LEAST_SQUEEZE, ZONE_ROWS, ZONE_SQUEEZE, make_params, zone_of


@pytest.mark.parametrize("eps_m", [0.1, 300.0, 10_000.0, 500_000.0])
def test_a_row_belongs_to_the_last_zone_that_begins_at_or_before_it_on_both_sides_of_the_equator(eps_m):
    params = make_params(eps_m, 8, 10.0, "haversine")
    borders = (params.zone_row[:, None] + [-1, 0, 1]).ravel()
    rows = np.concatenate([borders, np.random.default_rng(0).integers(0, params.cap_row, 200)])
    for row in rows[(rows >= 0) & (rows < params.cap_row)].tolist():
        zone = np.searchsorted(params.zone_row, row, "right") - 1
        assert zone_of(params, row) == zone_of(params, -row - 1) == zone
    assert zone_of(params, params.cap_row) == zone_of(params, -params.cap_row - 1) == -1


@pytest.mark.parametrize("eps_m", [300.0, 3000.0])
def test_cells_become_no_narrower_than_promised_before_a_new_zone_begins(eps_m):
    params = make_params(eps_m, 8, 10.0, "haversine")
    first, last = params.zone_row, np.append(params.zone_row[1:], params.cap_row)
    squeeze = np.cos(last * params.side) * 2 * math.pi / params.zone_columns / params.side
    assert (squeeze > np.where(last - first > ZONE_ROWS, ZONE_SQUEEZE, LEAST_SQUEEZE) - 0.005).all()
