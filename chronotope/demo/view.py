"""The live terminal view of a demo run, and one line per moment where there is no terminal."""

import time
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chronotope.demo.run import Moment
from schemas.recommendations import Recommendation

PLAIN_EVERY_S = 5.0
SPOTLIGHT_S = 3.0
SPOTLIGHT_ITEMS = 5


class LiveView:
    """A context manager whose ``show`` redraws the terminal; on anything else it prints a line now and then."""

    def __init__(self, console: Console, broker_name: str) -> None:
        self._console = console
        self._broker_name = broker_name
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._rate = _Rate()
        self._spotlight: tuple[float, Recommendation | None] = (-SPOTLIGHT_S, None)
        self._printed = -PLAIN_EVERY_S
        self._last: Moment | None = None

    def __enter__(self) -> "LiveView":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, moment: Moment) -> None:
        """Show one moment."""
        self._last = moment
        rate = self._rate.per_s(moment)
        if self._live is not None:
            self._live.update(self._draw(moment, rate), refresh=True)
        elif time.monotonic() - self._printed >= PLAIN_EVERY_S:
            self._printed = time.monotonic()
            self._console.print(_line(moment, rate))

    def print_example(self) -> None:
        """Print the recommendation that the view showed last, as an example of what users get."""
        if self._last is not None and (recommendation := self._last.board.latest()) is not None:
            self._console.print(self._panel(recommendation, self._last))

    def _draw(self, moment: Moment, rate: float) -> RenderableType:
        title = f"chronotope demo · {self._broker_name} · {moment.phase} · {moment.seconds:.0f} s"
        return Group(Panel(_numbers(moment, rate), title=title, title_align="left"), self._draw_spotlight(moment))

    def _draw_spotlight(self, moment: Moment) -> RenderableType:
        shown_at, recommendation = self._spotlight
        if time.monotonic() - shown_at >= SPOTLIGHT_S:
            recommendation = moment.board.latest() or recommendation
            self._spotlight = (time.monotonic(), recommendation)
        if recommendation is None:
            return Text("no recommendation yet", style="dim")
        return self._panel(recommendation, moment)

    def _panel(self, recommendation: Recommendation, moment: Moment) -> Panel:
        title = f"user {recommendation.user_id} · version {recommendation.version} · by {recommendation.trigger}"
        return Panel(_items(recommendation, moment), title=title, title_align="left")


def _items(recommendation: Recommendation, moment: Moment) -> Table:
    table = Table.grid(padding=(0, 2))
    for item in recommendation.items[:SPOTLIGHT_ITEMS]:
        reasons = "; ".join(reason.text for reason in item.reasons[:2])
        table.add_row(f"{item.score:.3f}", moment.board.describe(item.item_id), Text(reasons, style="dim"))
    return table


def _numbers(moment: Moment, rate: float) -> Table:
    board, progress = moment.board, moment.progress
    table = Table.grid(padding=(0, 3))
    for _ in range(6):
        table.add_column(justify="left")
    table.add_row("sent", f"{moment.sent:,}", "crowds", f"{len(board.clusters):,}", "rejected", f"{board.rejected:,}")
    table.add_row(
        "processed", f"{_processed(moment):,}", "periodic", f"{len(board.periodic):,}", "late", f"{board.late:,}"
    )
    table.add_row(
        "events/s", f"{rate:,.0f}", "transitions", f"{len(board.transitions):,}",
        "recommendations", f"{board.recommendations:,}",
    )  # fmt: skip
    freshness = board.freshness_ms()
    table.add_row(
        "lag", f"{progress.worker_lag + progress.server_lag if progress else 0:,}",
        "freshness", f"{freshness[0]:,.0f} ms (p99 {freshness[1]:,.0f})" if freshness else "-",
        "users", f"{len(board.users):,} of {moment.users_sent:,}",
    )  # fmt: skip
    table.add_row("event time", _date(moment.event_time_ms), "", "", "", "")
    return table


def _line(moment: Moment, rate: float) -> str:
    board = moment.board
    return (
        f"{moment.seconds:6.1f} s  {moment.phase}: {moment.sent:,} sent, {_processed(moment):,} processed "
        f"({rate:,.0f}/s), {len(board.clusters):,} crowds, {len(board.periodic):,} periodic, "
        f"{len(board.transitions):,} transitions, {board.recommendations:,} recommendations for {len(board.users):,} users"
    )


def _processed(moment: Moment) -> int:
    return moment.progress.processed if moment.progress else 0


def _date(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%a %Y-%m-%d %H:%M") if time_ms else "-"


class _Rate:
    """Events processed per second over the last few moments."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def per_s(self, moment: Moment) -> float:
        self._seen = [*self._seen[-7:], (moment.seconds, _processed(moment))]
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0
