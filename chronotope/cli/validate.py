"""``chronotope validate``: would every event of this file be accepted?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chronotope.cli.errors import WRONG_INPUT, CommandFailed
from chronotope.cli.options import JsonFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronotope.validation import ValidationReport


def validate(
    data: Annotated[Path, typer.Option("--data", help="The file; gzip is read as it is.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="foursquare, gowalla, geolife, trips, sessions, csv or jsonl.")
    ],
    json: JsonFlag = False,
) -> int:
    """Read a file without sending it, say what it holds, and count what cannot be read and what the workers would reject;
    exit code 1 if there is any.

    Example: chronotope validate --data checkins.csv.gz --format foursquare
    """
    from chronotope.cli.datasets import open_events
    from chronotope.cli.output import answers, print_json, remarks
    from chronotope.validation import Unreadable, examine
    from schemas.settings import EventSettings

    unreadable = Unreadable()
    with remarks().status("reading"):
        report = examine(open_events(data, format, unreadable), EventSettings().limits(), unreadable)
    if not report.events and not report.unreadable:
        raise CommandFailed(f"{data}: holds no events", WRONG_INPUT)
    if json:
        print_json(report)
    else:
        answers().print(*_lines(report), sep="\n", markup=False)
    return 0 if report.sound else 1


def _lines(report: "ValidationReport") -> "Iterator[str]":
    if report.events:
        yield (
            f"{report.events:,} events, {report.users:,} users, {report.items:,} items, "
            f"{report.first_time} to {report.last_time} UTC"
        )
        yield "actions: " + ", ".join(f"{action} {count:,}" for action, count in report.actions.items())
        yield f"{report.categories:,} categories; " + _places(report)
    if report.repeated:
        yield f"would be passed over: {report.repeated:,} events repeat an event_id"
    for reason, count in sorted(report.rejected.items()):
        yield f"would be rejected: {count:,} × {reason} (first: {report.first_rejected[reason]})"
    if report.unreadable:
        yield f"cannot be read: {report.unreadable:,} rows, and a replay would end at the first"
        yield from (f"  {each}" for each in report.first_unreadable)


def _places(report: "ValidationReport") -> str:
    if report.south_west is None or report.north_east is None:
        return "no event has a place"
    (south, west), (north, east) = report.south_west, report.north_east
    return f"{report.placed:,} events have a place: latitude {south:.4f} to {north:.4f}, longitude {west:.4f} to {east:.4f}"
