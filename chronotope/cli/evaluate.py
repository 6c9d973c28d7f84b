"""``chronotope evaluate``: test-then-train of strategies on a data set."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    data: Annotated[Path, typer.Option("--data", help="The file; gzip is read as it is.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="foursquare, gowalla, geolife, trips, sessions, csv or jsonl.")
    ],
    mode: Annotated[
        str,
        typer.Option(help="refresh: computed after the user's previous event; request: the target's time is known."),
    ] = "refresh",
    warmup: Annotated[float, typer.Option(min=0.0, max=0.99, help="Share of the events that are only learned.")] = 0.2,
    score_from: Annotated[
        float | None, typer.Option(min=0.0, max=0.99, help="Score later events than the warm-up's end only.")
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Names, comma-separated; also A+B (a mixture), fused-without-EXPERT, fused-after-SECONDS (events arrive "
            "late), logistic_regression, factorisation_machine. Default: the main ones."
        ),
    ] = None,
    ab: Annotated[
        str | None, typer.Option("--ab", metavar="A,B", help="Simulate an A/B test of two of the strategies.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use the first events of the file only.")] = None,
    json: Annotated[
        str | None, typer.Option("--json", metavar="OUT", help="Write the results as JSON; - prints.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report with plots into this folder.")] = None,
) -> None:
    """Test-then-train: every event is ranked for before it is learned; fused against the classic strategies.

    Example: chronotope evaluate --data checkins.csv.gz --format foursquare --mode refresh --json results.json
    """
    import importlib.util
    import itertools
    import time

    import msgspec
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from chronotope.cli.datasets import open_events, remark_on_rejected
    from chronotope.cli.errors import WRONG_INPUT, CommandFailed
    from chronotope.cli.output import answers, check_target, remarks, write_json
    from chronotope.evaluation.ab import simulate
    from chronotope.evaluation.report import ab_lines, results_table, write_report
    from chronotope.evaluation.runner import DEFAULT, check_names
    from chronotope.evaluation.runner import evaluate as run
    from chronotope.evaluation.stream import scored_events, stream_of

    names = tuple(name.strip() for name in strategies.split(",")) if strategies else DEFAULT
    if mode not in ("refresh", "request"):
        raise typer.BadParameter(f"mode {mode!r}: 'refresh' or 'request'")
    try:
        check_names(names, mode)  # type: ignore[arg-type]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    tested = tuple(name.strip() for name in ab.split(",")) if ab else ()
    if tested and (len(tested) != 2 or set(tested) - set(names)):
        raise typer.BadParameter(f"--ab {ab!r}: two of the strategies {', '.join(names)}")
    if report is not None and importlib.util.find_spec("matplotlib") is None:
        raise CommandFailed("--report draws with matplotlib: pip install 'chronotope[report]'", WRONG_INPUT)
    check_target(json)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
    try:
        stream = stream_of(itertools.islice(open_events(data, format), limit))
    except ValueError as error:
        raise CommandFailed(f"{data}: {error}", WRONG_INPUT) from None
    if not scored_events(stream, warmup, warmup if score_from is None else score_from).any():
        raise CommandFailed(f"{data}: no event after the warm-up has a user with an earlier event", WRONG_INPUT)
    remark_on_rejected(stream.events)
    torch.set_num_threads(1)  # the operations are small; another core takes the classic strategies
    started = time.monotonic()
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=remarks()) as bars:
        tasks: dict[str, object] = {}

        def progress(name: str, done: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=len(stream))
            bars.update(tasks[name], completed=done)  # type: ignore[arg-type]

        evaluation = run(stream, mode, names, warmup=warmup, score_from=score_from, progress=progress)  # type: ignore[arg-type]
    answer = {
        "data": data.name,
        "format": format,
        "mode": mode,
        "warmup": warmup,
        "score_from": warmup if score_from is None else score_from,
        "events": len(stream),
        "users": stream.users,
        "items": stream.items,
        "scored": len(evaluation.at),
        "seconds": round(time.monotonic() - started, 1),
        "strategies": evaluation.report(),
        "learning_curve": evaluation.learning_curve(),
    }
    test = simulate(evaluation, *tested) if tested else None
    if test is not None:
        answer["ab"] = msgspec.to_builtins(test)
    if json:
        write_json(answer, json)
    if report is not None:
        write_report(report, evaluation, answer)
    if json != "-":
        answers().print(results_table(answer))
        if test is not None:
            answers().print(*ab_lines(test), sep="\n")
