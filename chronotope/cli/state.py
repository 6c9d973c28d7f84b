"""``chronotope state inspect | reset``: the workers' durable state, and the strongest of what they have found."""

from typing import TYPE_CHECKING, Annotated

import typer

from chronotope.cli.errors import WRONG_INPUT, CommandFailed
from chronotope.cli.options import BootstrapOption, JsonFlag, kafka_settings

if TYPE_CHECKING:
    from rich.table import Table

    from chronotope.kafka.state import PartitionState
    from chronotope.kafka.strongest import StrongPattern
    from streams.settings import WorkerSettings

STRONGEST_PER_KIND = 5

app = typer.Typer(
    help="The workers' durable state.\n\nExample: chronotope state inspect",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("inspect")
def inspect(bootstrap: BootstrapOption = None, json: JsonFlag = False) -> int:
    """Show, for each stage and partition, the newest snapshot, what lies beyond it, and how far the source was committed;
    and of each kind of published pattern the strongest, with their support, significance (-log10 p) and stability.

    Exit code 1 if a log cannot be recovered. Example: chronotope state inspect --json
    """
    from chronotope.cli.output import answers, print_json
    from chronotope.kafka import state
    from chronotope.kafka.strongest import strongest
    from streams.agents import SOURCES

    settings = _worker_settings(bootstrap)
    sources: dict[str, str] = {stage: SOURCES[stage].name for stage in settings.stages}
    found = state.inspect(settings.kafka, settings.app_id, sources)
    patterns = strongest(settings.kafka, STRONGEST_PER_KIND)
    if json:
        print_json({"partitions": found, "patterns": patterns})
    else:
        answers().print(_partition_table(found) if found else f"no state of {settings.app_id} on this cluster")
        if patterns:
            answers().print(_pattern_table(patterns))
    return 1 if any(each.problem for each in found) else 0


def _partition_table(found: "list[PartitionState]") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("stage", "partition", "snapshot at", "bytes", "chunks", "bytes", "absorbed", "committed", ""):
        table.add_column(name, justify="left" if name in ("stage", "") else "right")
    for each in found:
        table.add_row(
            each.stage, str(each.partition), str(each.snapshot_offset), f"{each.snapshot_bytes:,}",
            str(each.chunks), f"{each.chunk_bytes:,}", str(each.absorbed_offset), str(each.committed_offset),
            each.problem,
        )  # fmt: skip
    return table


def _pattern_table(patterns: "dict[str, list[StrongPattern]]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("kind", "support", "significance", "stability", "pattern"):
        table.add_column(name, justify="left" if name in ("kind", "pattern") else "right")
    for kind, strong in patterns.items():
        for each in strong:
            figures = f"{each.support:,.0f}", f"{each.significance:,.1f}", f"{each.stability:.2f}"
            table.add_row(kind, *figures, Text(each.pattern))
    return table


@app.command("reset")
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Really delete; without it nothing is done.")] = False,
    bootstrap: BootstrapOption = None,
    json: JsonFlag = False,
) -> None:
    """Delete the workers' state and committed offsets, so that they start from the topics' beginnings. End them first.

    Example: chronotope state reset --yes
    """
    from chronotope.cli.output import answers, print_json
    from chronotope.kafka import state

    settings = _worker_settings(bootstrap)
    if not yes:
        raise CommandFailed(f"this deletes the state of {settings.app_id}: say --yes if you mean it", WRONG_INPUT)
    deleted = state.reset(settings.kafka, settings.app_id, list(settings.stages))
    if json:
        print_json({"deleted": deleted})
    else:
        answers().print(f"deleted: {', '.join(deleted)}" if deleted else f"{settings.app_id} had no state")


def _worker_settings(bootstrap: str | None) -> "WorkerSettings":
    from streams.settings import WorkerSettings

    return WorkerSettings(kafka=kafka_settings(bootstrap))
