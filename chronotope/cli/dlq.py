"""``chronotope dlq inspect | redrive``: what was rejected, why, and sending it back."""

from typing import Annotated

import typer

from chronotope.cli.options import BootstrapOption, JsonFlag, kafka_settings

app = typer.Typer(
    help="The rejected events.\n\nExample: chronotope dlq inspect --reason unknown_action",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ReasonOption = Annotated[str | None, typer.Option(help="Only records rejected for this reason.")]
PREVIEW_BYTES = 160


@app.command("inspect")
def inspect(
    reason: ReasonOption = None,
    latest: Annotated[int, typer.Option(help="How many of the latest records to show.", min=0, max=1000)] = 5,
    bootstrap: BootstrapOption = None,
    json: JsonFlag = False,
) -> None:
    """Count the rejected records by reason and show the latest ones.

    Example: chronotope dlq inspect --reason unknown_action --latest 20
    """
    from chronotope.cli.output import answers, print_json
    from chronotope.kafka import dead_letters

    report = dead_letters.inspect(kafka_settings(bootstrap), reason, latest)
    if json:
        print_json(
            {
                "total": report.total,
                "by_reason": report.by_reason,
                "redriven": report.redriven,
                "latest": [
                    {
                        "partition": letter.partition,
                        "offset": letter.offset,
                        "reason": letter.reason,
                        "error": letter.error,
                        "source": letter.source,
                        "key": None if letter.key is None else letter.key.decode(errors="replace"),
                        "value": letter.value.decode(errors="replace"),
                        "cut": letter.cut,
                    }
                    for letter in report.latest
                ],
            }
        )
        return
    console = answers()
    console.print(f"{report.total:,} rejected records, {report.redriven:,} of them sent back")
    for each, count in report.by_reason.items():
        console.print(f"  {count:>8,}  {each}")
    for letter in report.latest:
        console.print(f"{letter.source}  {letter.reason}: {letter.error}", markup=False)
        console.print(f"    {letter.value[:PREVIEW_BYTES]!r}", markup=False)


@app.command("redrive")
def redrive(
    reason: ReasonOption = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was rejected a second time.")] = False,
    bootstrap: BootstrapOption = None,
    json: JsonFlag = False,
) -> None:
    """Send rejected records back to the event topic, after their cause was mended. Doing it twice changes nothing.

    Example: chronotope dlq redrive --reason unknown_action
    """
    from chronotope.cli.output import answers, print_json
    from chronotope.kafka import dead_letters

    report = dead_letters.redrive(kafka_settings(bootstrap), reason, again)
    if json:
        print_json(report)
        return
    answers().print(
        f"{report.redriven:,} records sent back; left: {report.already_redriven:,} sent back before, "
        f"{report.rejected_again:,} rejected a second time, {report.cut:,} not kept whole"
    )
