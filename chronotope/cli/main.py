"""The ``chronotope`` command: its subcommands, and one clear line for every error."""

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from chronotope.cli import (
    demo,
    dlq,
    doctor,
    evaluate,
    produce,
    pseudonym,
    replay,
    serve,
    state,
    topics,
    train,
    tune,
    up,
    validate,
    worker,
)
from chronotope.cli.errors import CommandFailed, explain
from chronotope.cli.signals import end_on_signals

app = typer.Typer(
    name="chronotope",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("worker")(worker.worker)
app.command("serve")(serve.serve)
app.add_typer(topics.app, name="topics")
app.command("validate")(validate.validate)
app.command("produce")(produce.produce)
app.command("replay")(replay.replay)
app.command("pseudonym")(pseudonym.pseudonym)
app.command("evaluate")(evaluate.evaluate)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.add_typer(dlq.app, name="dlq")
app.add_typer(state.app, name="state")
app.command("doctor")(doctor.doctor)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"chronotope {version('chronotope')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Mines the spatio-temporal patterns of behaviour event streams and keeps recommendations fresh."""


def main() -> None:
    """Run the command line and leave the process with its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    end_on_signals()
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # which typer does not export
            print(error.format_message(), file=sys.stderr)
            sys.exit(error.exit_code)
        _fail(error.format_message().replace("\n", " "), error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except CommandFailed as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        _fail(reason, 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(reason: str, code: int) -> None:
    print(f"chronotope: error: {reason}", file=sys.stderr)
    sys.exit(code)
