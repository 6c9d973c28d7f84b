"""``chronotope tune``: which eps suits one's own data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chronotope.cli.options import JsonFlag

if TYPE_CHECKING:
    from chronotope.tuning import Tuning


def tune(
    data: Annotated[Path, typer.Option("--data", help="The file; gzip is read as it is.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="foursquare, gowalla, geolife, trips, sessions, csv or jsonl.")
    ],
    windows: Annotated[int, typer.Option(help="Windows to look at, spread evenly over the file.", min=1)] = 5,
    json: JsonFlag = False,
) -> None:
    """Show how far neighbours are and which crowds each eps would find; window, min_samples and min_users are the workers'.

    Example: chronotope tune --data checkins.csv.gz --format foursquare
    """
    from chronotope.cli.datasets import open_events
    from chronotope.cli.errors import WRONG_INPUT, CommandFailed
    from chronotope.cli.output import print_json, remarks
    from chronotope.tuning import positions_of
    from chronotope.tuning import tune as run
    from streams.settings import WorkerSettings

    settings = WorkerSettings()
    try:
        with remarks().status("reading and clustering"):
            positions = positions_of(open_events(data, format), settings.private_categories)
            found = run(positions, settings.window_s, settings.min_samples, settings.min_users, windows)
    except ValueError as error:
        raise CommandFailed(str(error), WRONG_INPUT) from None
    if json:
        print_json(found)
    else:
        _print(found, settings.min_samples)


def _print(found: "Tuning", min_samples: int) -> None:
    from rich.table import Table

    from chronotope.cli.output import answers

    console = answers()
    console.print(f"{found.windows} windows of {found.events_per_window:,.0f} events with a place (median)")
    console.print(f"metres within which an event has {min_samples} events, itself included:")
    console.print("  " + ", ".join(f"{share} of them {metres:,.0f}" for share, metres in found.distance_m.items()))
    console.print(f"  the curve turns up at {found.elbow_m:,.0f}")
    table = Table(box=None, pad_edge=False)
    for name in ("eps_m", "crowds", "events in crowds", "in the largest"):
        table.add_column(name, justify="right")
    for each in found.radii:
        table.add_row(f"{each.eps_m:,.0f}", f"{each.crowds:,.0f}", f"{each.in_crowds:.0%}", f"{each.largest:.0%}")
    console.print(table)
