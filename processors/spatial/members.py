"""The points of one cluster, at a cost of the cluster and not of the window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from processors.spatial.geometry import Params
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, CORE_ROW, END, NEAR, SEAM, State
from processors.spatial.neighbours import neighbour
from processors.spatial.records import is_core, site_of
from processors.spatial.snapshot import nearest_core


def label_of(state: State, cluster_id: int) -> int:
    """The label slot of a live cluster, or -1."""
    labels = state.labels
    found = np.flatnonzero((labels["id"] == cluster_id) & (labels["cells"] > 0))
    return int(found[0]) if len(found) else -1


def member_points(state: State, params: Params, cluster_id: int) -> NDArray[np.int32]:
    """The slots of a cluster's points, border points included; empty if there is no such cluster."""
    label = label_of(state, cluster_id)
    if label < 0:
        return np.zeros(0, np.int32)
    cells = np.empty((NEAR + SEAM) * int(state.labels["cells"][label]), np.int32)
    cells = np.unique(cells[: collect_cells(state, label, cells)])
    sites = np.empty(int((state.span[cells, END] - state.span[cells, BEGIN]).sum()), np.int32)
    sites = sites[: collect_sites(state, params, label, cells, sites)]
    points = np.empty(int(state.sites["points"][sites].sum()), np.int32)
    collect_points(state, sites, points)
    return points


@kernel
def collect_cells(S: State, label: int, cells: Any) -> int:
    """The cells of a cluster and their neighbours, some several times."""
    c, n = S.labels[label].head, 0
    for _ in range(S.labels[label].cells):
        for o in range(NEAR + SEAM if S.strips[c >> 2].seam >= 0 else NEAR):
            d = neighbour(S, c, o)
            if d >= 0 and S.span[d, END] > S.span[d, BEGIN]:
                cells[n] = d
                n += 1
        c = S.cores[S.span[c, CORE_ROW]].next
    return n


@kernel
def collect_sites(S: State, P: Params, label: int, cells: Any, sites: Any) -> int:
    n = 0
    for c in cells:
        row = S.span[c, CORE_ROW]
        for k in range(S.span[c, BEGIN], S.span[c, END]):
            s = site_of(S, k)
            if is_core(S, P, c, k):
                belongs = S.cores[row].label == label
            else:
                core = nearest_core(S, P, c, s)
                belongs = core >= 0 and S.cores[S.span[S.sites[core].cell, CORE_ROW]].label == label
            if belongs:
                sites[n] = s
                n += 1
    return n


@kernel
def collect_points(S: State, sites: Any, points: Any) -> None:
    n = 0
    for s in sites:
        p = S.sites[s].head
        for _ in range(S.sites[s].points):
            points[n] = p
            n += 1
            p = S.points[p].next
