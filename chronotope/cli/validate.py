"""``chronotope validate``: would every event of this file be accepted?"""

from pathlib import Path
from typing import Annotated

import typer

from chronotope.cli.options import JsonFlag


def validate(
    data: Annotated[Path, typer.Option("--data", help="The file; gzip is read as it is.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="foursquare, gowalla, geolife, trips, sessions, csv or jsonl.")
    ],
    json: JsonFlag = False,
) -> int:
    """Read a file without sending it and count what the workers would reject; exit code 1 if there is any.

    Example: chronotope validate --data checkins.csv.gz --format foursquare
    """
    from chronotope.cli.datasets import open_events
    from chronotope.cli.output import answers, print_json, remarks
    from chronotope.validation import examine
    from schemas.settings import EventSettings

    with remarks().status("reading"):
        report = examine(open_events(data, format), EventSettings().limits())
    if json:
        print_json(report)
    else:
        console = answers()
        console.print(
            f"{report.events:,} events, {report.users:,} users, {report.items:,} items, "
            f"{report.first_time} to {report.last_time} UTC"
        )
        for reason, count in sorted(report.rejected.items()):
            console.print(f"would be rejected: {count:,} × {reason} (first: {report.first_rejected[reason]})")
    return 1 if report.rejected else 0
