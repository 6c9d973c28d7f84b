"""``chronotope train``: the sequence model, trained on history."""

from pathlib import Path
from typing import Annotated

import typer

from chronotope.cli.options import JsonFlag


def train(
    data: Annotated[Path, typer.Option("--data", help="The file; gzip is read as it is.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="foursquare, gowalla, geolife, trips, sessions, csv or jsonl.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for sequence.ckpt and metrics.json.", show_default=False)],
    preset: Annotated[str, typer.Option(help="nano, small, base or large.")] = "nano",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the history.")] = 3,
    limit: Annotated[int | None, typer.Option(min=30, help="Use the first events of the file only.")] = None,
    json: JsonFlag = False,
) -> None:
    """Train the sequence model on the first 80 % of a file; validate and test on the two tenths that follow.

    Example: chronotope train --data checkins.csv.gz --format foursquare --epochs 3 --out var/model
    """
    import itertools
    import time

    from rich.table import Table

    from chronotope.cli.datasets import open_events, remark_on_rejected
    from chronotope.cli.errors import WRONG_INPUT, CommandFailed
    from chronotope.cli.output import answers, print_json, ticking
    from chronotope.evaluation.stream import stream_of
    from chronotope.training import save_trained
    from chronotope.training import train as run
    from model_server.sequence_model.model import PRESETS
    from model_server.sequence_model.trainer import TrainerSettings

    if preset not in PRESETS:
        raise typer.BadParameter(f"preset {preset!r}: one of {', '.join(PRESETS)}")
    out.mkdir(parents=True, exist_ok=True)
    stream = stream_of(itertools.islice(open_events(data, format), limit))
    remark_on_rejected(stream.events)
    state = ["reading"]

    def progress(stage: str, done: int, total: int) -> None:
        state[0] = f"{stage}: {done:,} of {total:,} events"

    started = time.monotonic()
    try:
        with ticking(lambda: state[0]):
            trained = run(stream, PRESETS[preset], TrainerSettings(), epochs, progress)
        path = save_trained(trained, stream, out)
    except (ValueError, OSError) as error:
        raise CommandFailed(str(error), WRONG_INPUT) from None
    answer = {
        "data": data.name, "format": format, "preset": preset, "epochs": epochs, "events": len(stream), "users": stream.users,
        "items": stream.items, "seconds": round(time.monotonic() - started, 1), "checkpoint": str(path),
        "steps": trained.expert.trainer.steps, "dropped_steps": trained.expert.trainer.dropped_steps, **trained.metrics,
    }  # fmt: skip
    if json:
        print_json(answer)
        return
    table = Table(title=f"{len(stream):,} events in {answer['seconds']} s; saved {path}")
    table.add_column("metric")
    parts = [
        (f"{part} {mode}", values) for part, by_mode in trained.metrics.items() for mode, values in by_mode.items()
    ]
    for heading, _ in parts:
        table.add_column(heading, justify="right")
    for name in ("n", "acc@1", "acc@5", "acc@10", "precision@10", "recall@10", "f1@10", "mrr", "ndcg@10"):
        table.add_row(name, *(f"{values[name]:,}" if name == "n" else f"{values[name]:.4f}" for _, values in parts))
    answers().print(table)
