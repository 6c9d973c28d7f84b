"""Draws docs/images/*.png: what the dashboards show of a running stack, by a real Prometheus.

python docs/dashboards_figure.py [--seconds 120] [--data FILE --format F]      (needs the prometheus binary and matplotlib)

Without a file simulated people are replayed.
"""

import argparse
import contextlib
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as mdates
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ops"))
import dashboards
from local_prometheus import LocalPrometheus, targets_of, use_recommendations

from chronotope.datasets import read_events
from chronotope.kafka.producer import EventProducer
from chronotope.kafka.topics import apply_topics
from chronotope.local.services import LocalServices
from chronotope.local.stack import LocalStack
from chronotope.replay import Replay
from chronotope.simulator import Simulation
from schemas.events import BehaviorEvent

IMAGES = Path(__file__).resolve().parent / "images"
EVENTS_PER_S, RATE_INTERVAL, STEP_S = 80, "15s", 2
MOST_SERIES, SLICES, COLOURS, USERS_WHO_CLICK = 8, 20, 48, 5
UNITS = {"s": "s", "reqps": "1/s", "bytes": "bytes", "percentunit": "share"}


def draw_panel(axes: Axes, panel: dashboards.Panel, prometheus: LocalPrometheus, start_s: float, end_s: float) -> None:
    """The series of one panel; of many the largest ones are named."""
    drawn: list[tuple[float, str, list[datetime], list[float]]] = []
    for legend, query in panel.queries.items():
        expression = query.replace("$__rate_interval", RATE_INTERVAL)
        for series in prometheus.query_range(expression, start_s, end_s, STEP_S):
            labels = series["metric"]
            name = re.sub(r"{{(\w+)}}", lambda match, of=labels: of.get(match[1], ""), legend)  # type: ignore[misc]
            times = [datetime.fromtimestamp(at) for at, _ in series["values"]]
            values = [float(value) for _, value in series["values"]]
            finite = [value for value in values if value == value]
            if finite:
                drawn.append((max(finite), name, times, values))
    drawn.sort(key=lambda line: -line[0])
    for rank, (_, name, times, values) in enumerate(drawn):
        axes.plot(times, values, linewidth=1, label=name if rank < MOST_SERIES else None)
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.set_ylabel(UNITS.get(panel.unit, ""), fontsize=7)
    axes.tick_params(labelsize=6)
    axes.set_xlim(datetime.fromtimestamp(start_s), datetime.fromtimestamp(end_s))
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%M:%S"))
    if drawn and drawn[0][0] >= 1_000:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(y=0.35)  # room for the legend
    axes.set_ylim(bottom=min(0.0, *(min(v for v in line[3] if v == v) for line in drawn)) if drawn else 0.0)
    axes.grid(alpha=0.25, linewidth=0.5)
    if drawn:
        axes.legend(fontsize=5.5, loc="upper left", ncols=2, framealpha=0.8, edgecolor="none", borderpad=0.1)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", fontsize=8, color="grey")


def draw(uid: str, prometheus: LocalPrometheus, start_s: float, end_s: float) -> None:
    """One dashboard as one picture."""
    title, panels = dashboards.ALL[uid]
    rows = -(-len(panels) // dashboards.COLUMNS)
    figure, grid = plt.subplots(rows, dashboards.COLUMNS, figsize=(13, 2.4 * rows), constrained_layout=True)
    figure.suptitle(title, fontsize=11)
    for axes, panel in zip(grid.flat, panels, strict=False):
        draw_panel(axes, panel, prometheus, start_s, end_s)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    path = IMAGES / f"{uid}.png"
    figure.savefig(path, dpi=85)
    plt.close(figure)
    with Image.open(path) as picture:
        few_colours = picture.convert("RGB").quantize(COLOURS)
    few_colours.save(path, optimize=True)


def main(seconds: float, events: Iterator[BehaviorEvent]) -> None:
    """Run a stack under live traffic for some seconds and draw every dashboard."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack:
        apply_topics(stack.kafka)
        with LocalServices(stack) as services:
            services.await_ready()
            with LocalPrometheus(Path(name) / "prometheus", targets_of(services)) as prometheus:
                start_s = time.time()
                replay = Replay(EventProducer(stack.kafka), events, EVENTS_PER_S)
                for _ in range(SLICES):
                    replay.run(until_s=seconds / SLICES)
                    for user in itertools.islice(sorted(replay.users), USERS_WHO_CLICK):
                        with contextlib.suppress(ValueError):  # nothing is recommended to them yet
                            use_recommendations(services, stack.kafka, user)
                for uid in dashboards.ALL:
                    draw(uid, prometheus, start_s, time.time())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--format", default="foursquare")
    given = parser.parse_args()
    main(given.seconds, read_events(given.data, given.format) if given.data else Simulation().events())
