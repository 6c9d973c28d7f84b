"""Draws docs/spatial.svg with the code it explains: python docs/spatial_figure.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from processors.spatial import SlidingDBSCAN
from processors.spatial.geometry import SHRINK

EPS, SIZE, PANEL = 0.055, 330, 360
COLOURS = ["#1b6ca8", "#d1495b", "#2e8b57", "#8d5a97", "#c77f16", "#4b5d67"]


def crowd(time_s: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """n points around two places that come together, and noise."""
    apart = 0.24 * (1 - time_s / 100)
    side = np.where(rng.random((n, 1)) < 0.55, -1.0, 1.0)
    points = 0.5 + np.hstack([side * apart, 0 * side]) + rng.normal(size=(n, 2)) * 0.055
    noise = rng.random(n) < 0.3
    points[noise] = rng.random((int(noise.sum()), 2))
    return points


def panel(dbscan: SlidingDBSCAN, x0: float, title: str) -> list[str]:
    _, labels, core = dbscan.snapshot()
    y, x = dbscan.positions()
    side = EPS / np.sqrt(2) * SHRINK
    svg = [f'<g transform="translate({x0},30)"><text x="0" y="-10" font-size="14">{title}</text>']
    for cell in {(int(a), int(b)) for a, b in zip(np.floor(y[core] / side), np.floor(x[core] / side))}:
        here = core & (np.floor(y / side) == cell[0]) & (np.floor(x / side) == cell[1])
        colour = COLOURS[int(labels[here][0]) % len(COLOURS)]
        svg.append(
            f'<rect x="{cell[1] * side * SIZE:.1f}" y="{(1 - (cell[0] + 1) * side) * SIZE:.1f}" width="{side * SIZE:.1f}"'
            f' height="{side * SIZE:.1f}" fill="{colour}" fill-opacity="0.13" stroke="{colour}" stroke-opacity="0.35"/>'
        )
    for px, py, label, is_core in zip(x * SIZE, (1 - y) * SIZE, labels, core):
        colour = "#aaaaaa" if label < 0 else COLOURS[int(label) % len(COLOURS)]
        fill = colour if is_core else "white"
        svg.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.4" fill="{fill}" stroke="{colour}" stroke-width="1"/>')
    svg.append(f'<rect width="{SIZE}" height="{SIZE}" fill="none" stroke="#cccccc"/></g>')
    return svg


def main() -> None:
    rng = np.random.default_rng(3)
    dbscan = SlidingDBSCAN(EPS, 6, 30.0, "euclidean", min_cluster_size=12)
    svg, told, at = [], [], 0
    for moment in range(1, 101):
        points = np.clip(crowd(moment, 10, rng), 0, 1)
        changes = dbscan.update(np.full(10, float(moment)), points[:, 0], points[:, 1], np.arange(at, at + 10))
        at += 10
        told += [f"{int(a)} into {int(b)}" for a, b in changes.merged]
        if moment in (30, 65, 100):
            what = f"merged: {', '.join(told)}" if told else "no merge yet"
            svg += panel(
                dbscan, 15 + PANEL * ((moment - 30) // 35), f"{moment} s, {dbscan.n_clusters} clusters; {what}"
            )
            told = []
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{3 * PANEL + 10}" height="{SIZE + 45}" font-family="sans-serif">'
    Path(__file__).with_name("spatial.svg").write_text("\n".join([head, *svg, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
