"""The results for people: a table for the terminal, and one HTML page with plots."""

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from chronotope.evaluation.ab import ABTest
from chronotope.evaluation.runner import Evaluation

SHOWN = ("acc@1", "acc@5", "acc@10", "mrr")
BINS = 40


def results_table(answer: dict[str, Any]) -> Table:
    """One line per strategy: all events, then the hit rates of revisits and discoveries at 10."""
    title = f"{answer['data']}, {answer['mode']}: {answer['scored']:,} scored of {answer['events']:,} events"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    for column in ("strategy", *SHOWN, "revisit\nacc@10", "discovery\nacc@10", "95 %\nmrr"):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for name, parts in answer["strategies"].items():
        low, high = parts["all"]["ci95"].get("mrr", (0.0, 0.0))
        table.add_row(
            name,
            *(f"{parts['all'][metric]:.4f}" for metric in SHOWN),
            f"{parts['revisit']['acc@10']:.4f}",
            f"{parts['discovery']['acc@10']:.4f}",
            f"{low:.4f}-{high:.4f}",
        )
    return table


def ab_lines(test: ABTest) -> list[str]:
    """A simulated A/B test in words."""
    both = test.interleaved
    return [
        f"A/B, hit rate at 10: {test.first} {test.hit_rates[0]:.4f} ({test.users[0]:,} users), {test.second}"
        f" {test.hit_rates[1]:.4f} ({test.users[1]:,} users); difference {test.difference:+.4f},"
        f" 95 % {test.ci95[0]:+.4f} to {test.ci95[1]:+.4f}, p = {test.p_value:.4g}",
        f"on everybody the difference is {test.paired_difference:+.4f}: a split test needs {_number(test.needed_users)} users"
        " in each half to find it (5 % level, 80 % power)",
        f"interleaved: {test.first} brought {both.first_wins:,}, {test.second} {both.second_wins:,} of what came"
        f" (p = {both.p_value:.4g}); {_number(both.needed_events)} events are enough",
    ]


def _number(needed: int | None) -> str:
    return "no number of" if needed is None else f"{needed:,}"


def write_report(folder: Path, evaluation: Evaluation, answer: dict[str, Any]) -> Path:
    """``folder/index.html``, complete in itself. Raises ImportError without matplotlib (the extra ``report``)."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    figures = [
        ("Learning curve", "MRR over the stream", _over_time(evaluation)),
        ("By experience", "hit rate at 10 by the number of the user's earlier events", _by_experience(evaluation)),
        ("By hour", "hit rate at 10 by the local hour of the event", _by_hour(evaluation)),
        ("By strategy", "hit rate at 10 of revisits and known discoveries", _by_strategy(evaluation)),
    ]
    if "fused" in evaluation.results:
        figures.append(("The gate", "stated against observed share of discoveries", _gate(evaluation)))
    page = folder / "index.html"
    page.write_text(_page(figures, answer))
    return page


def _page(figures: list[tuple[str, str, Any]], answer: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{parts[part][metric]:.4f}</td>" for part in parts for metric in SHOWN)
        + "</tr>"
        for name, parts in answer["strategies"].items()
    )
    parts = ("all", "revisit", "discovery", "known_discovery")
    head = "<tr><th></th>" + "".join(f"<th colspan={len(SHOWN)}>{part}</th>" for part in parts) + "</tr>"
    head += "<tr><th>strategy</th>" + "".join(f"<th>{metric}</th>" for _ in parts for metric in SHOWN) + "</tr>"
    images = "".join(
        f"<h2>{title}</h2><p>{caption}</p><img src='data:image/png;base64,{_png(figure)}' alt='{caption}'>"
        for title, caption, figure in figures
    )
    facts = f"{answer['scored']:,} scored of {answer['events']:,} events, {answer['users']:,} users, {answer['items']:,} items"
    style = "body{font:15px sans-serif;max-width:72em;margin:2em auto}td,th{padding:2px 8px;text-align:right}img{max-width:100%}"
    return (
        f"<!doctype html><meta charset=utf-8><title>Evaluation of {html.escape(answer['data'])}</title><style>{style}</style>"
        f"<h1>{html.escape(answer['data'])}, {answer['mode']}</h1><p>{facts}, {answer['seconds']} s.</p>"
        f"<table>{head}{rows}</table>{images}"
    )


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def _axes(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _lines(
    evaluation: Evaluation, group: npt.NDArray[np.int64], x: npt.NDArray[np.float64], axes: Any, mrr: bool
) -> None:
    sizes = np.maximum(np.bincount(group, minlength=len(x)), 1)
    for name, result in evaluation.results.items():
        values = 1 / result.ranks if mrr else (result.ranks <= 10).astype(float)
        means = np.bincount(group, values, len(x)) / sizes
        axes.plot(x, means, label=name, lw=2.5 if name == "fused" else 1)
    axes.legend(fontsize=7, ncol=3)


def _over_time(evaluation: Evaluation) -> Any:
    figure, axes = _axes("share of the stream", "MRR")
    share = evaluation.at / len(evaluation.stream)
    low = float(share.min())
    group = np.minimum(((share - low) / (1 - low) * BINS).astype(np.int64), BINS - 1)
    _lines(evaluation, group, low + (np.arange(BINS) + 0.5) / BINS * (1 - low), axes, mrr=True)
    return figure


def _by_experience(evaluation: Evaluation) -> Any:
    figure, axes = _axes("earlier events of the user", "hit rate at 10")
    stream = evaluation.stream
    group = np.log2(stream.own_numbers()[evaluation.at]).astype(np.int64)
    _lines(evaluation, group, np.exp2(np.arange(group.max() + 1)), axes, mrr=False)
    axes.set_xscale("log", base=2)
    return figure


def _by_hour(evaluation: Evaluation) -> Any:
    figure, axes = _axes("local hour", "hit rate at 10")
    hour = (evaluation.stream.week_h[evaluation.at] % 24).astype(np.int64)
    _lines(evaluation, hour, np.arange(24.0), axes, mrr=False)
    return figure


def _by_strategy(evaluation: Evaluation) -> Any:
    figure, axes = _axes("hit rate at 10", "")
    slices = evaluation.slices()
    names = list(evaluation.results)
    for shift, part in ((-0.2, "revisit"), (0.2, "known_discovery")):
        mask = slices[part]
        values = [float((evaluation.results[name].ranks[mask] <= 10).mean()) if mask.any() else 0.0 for name in names]
        axes.barh(np.arange(len(names)) + shift, values, 0.4, label=part)
    axes.set_yticks(range(len(names)), names)
    axes.legend()
    return figure


def _gate(evaluation: Evaluation) -> Any:
    figure, axes = _axes("stated probability of a discovery", "observed share")
    stated = evaluation.results["fused"].explore
    discovery = ~evaluation.stream.revisit[evaluation.at]
    group = np.minimum((stated * 20).astype(np.int64), 19)
    sizes = np.bincount(group, minlength=20)
    held = sizes > 0
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8)
    x = np.bincount(group, stated, 20)[held] / sizes[held]
    axes.plot(x, np.bincount(group, discovery, 20)[held] / sizes[held], "o-")
    twin = axes.twinx()
    twin.bar((np.arange(20) + 0.5) / 20, sizes, 0.04, alpha=0.2)
    twin.set_ylabel("events")
    return figure
