"""Draws docs/evaluation.svg from results: python docs/evaluation_figure.py REFRESH.json REQUEST.json

The files are what ``chronotope evaluate --json`` writes, one per mode.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, APART = 330, 260, 45, 30, 400
COLOURS = {
    "fused": "#d1495b",
    "sequence": "#1b6ca8",
    "backoff_markov": "#2e8b57",
    "counter": "#8d5a97",
    "popularity": "#7f8c99",
}


def panel(results: dict[str, Any], x0: float) -> list[str]:
    """One mode: the MRR of each strategy in every stretch of the stream."""
    curve = results["learning_curve"]
    until, top = curve["until"], 0.6
    svg = [f'<g transform="translate({x0},{TOP})"><text y="-10" font-size="14">{results["mode"]}</text>']
    for tick in range(7):
        y = HEIGHT * (1 - tick / 10 / top)
        svg.append(f'<line x2="{WIDTH}" y1="{y:.0f}" y2="{y:.0f}" stroke="#e4e4e4"/>')
        svg.append(f'<text x="-6" y="{y + 4:.0f}" font-size="11" text-anchor="end">{tick / 10:.1f}</text>')
    for name, colour in COLOURS.items():
        values = curve["mrr"].get(name)
        if values is None:
            continue
        points = " ".join(
            f"{share * WIDTH:.1f},{HEIGHT * (1 - value / top):.1f}" for share, value in zip(until, values)
        )
        width = 2.4 if name == "fused" else 1.3
        svg.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
    for tick in (0.2, 0.4, 0.6, 0.8, 1.0):
        svg.append(
            f'<text x="{tick * WIDTH:.0f}" y="{HEIGHT + 16}" font-size="11" text-anchor="middle">{tick:.0%}</text>'
        )
    svg.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT + 34}" font-size="12" text-anchor="middle">share of the stream</text></g>'
    )
    return svg


def main() -> None:
    svg = []
    for number, path in enumerate(sys.argv[1:3]):
        svg += panel(json.loads(Path(path).read_text()), LEFT + number * APART)
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 150
        svg.append(f'<line x1="{x}" x2="{x + 18}" y1="350" y2="350" stroke="{colour}" stroke-width="3"/>')
        svg.append(f'<text x="{x + 24}" y="354" font-size="12">{name.replace("_", " ")}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + 2 * APART}" height="370" font-family="sans-serif">'
    (Path(__file__).parent / "evaluation.svg").write_text("\n".join([head, *svg, "</svg>\n"]))


if __name__ == "__main__":
    main()
