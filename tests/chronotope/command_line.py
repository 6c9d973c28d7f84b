"""Parsing a command line of ours down to its last option, without running it."""

from typing import Any

import typer.main

from chronotope.cli.main import app


def parse(arguments: list[str]) -> None:
    """Parse the words after ``chronotope``. Raises what the command line raises: an unknown command, option or value."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("chronotope", list(arguments))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def options_of(words: list[str]) -> set[str]:
    """The options of the command that these words begin with; raises KeyError if there is none."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}
