"""A data set named at the command line: its events, or one clear line about what is wrong with it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from chronotope.cli.errors import WRONG_INPUT, CommandFailed

if TYPE_CHECKING:
    from chronotope.datasets.errors import Refused
    from schemas.events import BehaviorEvent


def open_events(path: Path, format: str, refused: "Refused | None" = None) -> "Iterator[BehaviorEvent]":
    """The events of a file, its times and its first rows already checked; a bad row met later ends the command in one line,
    or is told to ``refused`` and left out.

    Raises typer.BadParameter for an unknown format and CommandFailed (exit code 2) for a bad file.
    """
    from chronotope.datasets import FORMATS, DatasetError, read_events

    if format not in FORMATS:
        raise typer.BadParameter(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    try:
        events = read_events(path, format, refused)
    except DatasetError as error:
        raise CommandFailed(str(error), WRONG_INPUT) from None
    return _with_clear_errors(events)


def remark_on_rejected(events: "Sequence[BehaviorEvent]") -> None:
    """Say on standard error if the workers would reject some of the events that are about to be ranked or learned from."""
    from chronotope.cli.output import remarks
    from chronotope.validation import examine
    from schemas.settings import EventSettings

    rejected = examine(events, EventSettings().limits()).rejected
    if rejected:
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in sorted(rejected.items()))
        remarks().print(f"the workers would reject some of the {len(events):,} events ({reasons}); here they all count")


def _with_clear_errors(events: "Iterator[BehaviorEvent]") -> "Iterator[BehaviorEvent]":
    from chronotope.datasets import DatasetError

    try:
        yield from events
    except DatasetError as error:
        raise CommandFailed(str(error), WRONG_INPUT) from None
