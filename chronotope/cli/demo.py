"""``chronotope demo``: the whole path on this machine, on a file or on simulated people."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chronotope.cli.datasets import open_events
from chronotope.cli.errors import CommandFailed
from chronotope.cli.options import BootstrapOption, BrokerOption, RunDirOption, broker_kind, parse_rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronotope.demo.summary import Summary
    from schemas.events import BehaviorEvent


def demo(
    data: Annotated[Path | None, typer.Option("--data", help="Replay this file instead of simulated people.")] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="foursquare, gowalla, geolife, trips, sessions, csv or jsonl.")
    ] = None,
    rate: Annotated[str, typer.Option(help="Events per second, or max.")] = "max",
    duration: Annotated[float | None, typer.Option(help="End sending after this many seconds.", min=0.001)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Stream workers to run.", min=1)] = 1,
    broker: BrokerOption = "embedded",
    bootstrap: BootstrapOption = None,
    json: Annotated[str | None, typer.Option("--json", help="Write the summary here; - is standard output.")] = None,
    run_dir: RunDirOption = None,
) -> None:
    """Start everything, replay events, show what is found while it is found, sum up, leave nothing running.

    Example: chronotope demo --data checkins.csv.gz --format foursquare --rate max --json summary.json
    """
    from chronotope.cli.output import check_target, remarks, write_json
    from chronotope.demo.run import Demo
    from chronotope.demo.view import LiveView
    from chronotope.local.stack import LocalStack, new_run_dir

    pace, kind = parse_rate(rate), broker_kind(broker)
    events = _events(data, format, seed, duration)
    check_target(json)
    folder = run_dir.resolve() if run_dir else new_run_dir("demo")
    console = remarks()
    console.print(f"logs are kept in {folder}")
    with LocalStack(folder, kind, bootstrap) as stack, LiveView(console, stack.broker_name) as view:
        summary = Demo(stack, workers, view.show).run(events, pace, math.inf if duration is None else duration)
    if json is not None:
        write_json(summary, json)
    if json != "-":
        view.print_example()
        _print(summary)
        if summary.events_rejected and data is not None:
            console.print(f"which events were rejected, and why: chronotope validate --data {data} --format {format}")
    if summary.lost:
        raise CommandFailed(f"{summary.lost} of {summary.events_sent} events are unaccounted for; see {folder}")


def _events(data: Path | None, format: str | None, seed: int, duration: float | None) -> "Iterator[BehaviorEvent]":
    if data is not None:
        if format is None:
            raise typer.BadParameter("--data needs --format")
        return open_events(data, format)
    if format is not None:
        raise typer.BadParameter("--format needs --data")
    from chronotope.simulator import Simulation, SimulatorSettings

    settings = SimulatorSettings(seed=seed) if duration is None else SimulatorSettings(seed=seed, days=None)
    return Simulation(settings).events()


def _print(summary: "Summary") -> None:
    from rich.table import Table

    from chronotope.cli.output import answers

    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name in summary.__struct_fields__:
        value = getattr(summary, name)
        if name == "freshness_ms":
            table.add_row("freshness_ms p50", _number(value.p50))
            table.add_row("freshness_ms p99", _number(value.p99))
        else:
            table.add_row(name, _number(value))
    answers().print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
