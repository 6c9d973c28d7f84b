"""``chronotope topics apply | check``: create the declared topics, name what differs."""

from typing import TYPE_CHECKING

import typer

from chronotope.cli.options import BootstrapOption, JsonFlag, kafka_settings

if TYPE_CHECKING:
    from chronotope.kafka.topics import TopicReport

app = typer.Typer(
    help="The declared topics on the cluster.\n\nExample: chronotope topics apply --bootstrap 127.0.0.1:9092",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("apply")
def apply(bootstrap: BootstrapOption = None, json: JsonFlag = False) -> int:
    """Create the missing topics and report each; exit code 1 if one differs from its declaration.

    Example: chronotope topics apply --bootstrap 127.0.0.1:9092
    """
    from chronotope.kafka.topics import apply_topics

    return _show(apply_topics(kafka_settings(bootstrap)), json)


@app.command("check")
def check(bootstrap: BootstrapOption = None, json: JsonFlag = False) -> int:
    """Report each declared topic, change nothing; exit code 1 if one is missing or differs.

    Example: chronotope topics check --json
    """
    from chronotope.kafka.topics import check_topics

    return _show(check_topics(kafka_settings(bootstrap)), json)


def _show(reports: "list[TopicReport]", json: bool) -> int:
    from chronotope.cli.output import answers, print_json

    if json:
        print_json(reports)
    else:
        console = answers()
        for report in reports:
            console.print(f"{report.state:8} {report.topic}  {'; '.join(report.differences)}".rstrip())
    return 0 if all(report.state in ("ok", "created") for report in reports) else 1
