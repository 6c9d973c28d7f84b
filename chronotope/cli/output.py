"""What a command prints: answers on standard output, progress and remarks on standard error."""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

TABLE_WIDTH = 200


def answers() -> Console:
    """The console of a command's answer. A table has all of its cells whole, however narrow the window is."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, TABLE_WIDTH)
    return console


def remarks() -> Console:
    """The console of progress and remarks: standard error, so that an answer can be piped on."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(answer: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(as_json(answer))


def as_json(answer: Any) -> str:
    """Indented JSON of structs, dicts and lists, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"


def write_json(answer: Any, target: str) -> None:
    """JSON to a file, or to standard output for ``-``. Raises OSError."""
    if target == "-":
        print_json(answer)
    else:
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_json(answer))


def check_target(target: str | None) -> None:
    """Make the folder of a file that is to be written after the work, before it. Raises OSError if it could not be written."""
    if target is None or target == "-":
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)


@contextmanager
def ticking(describe: Callable[[], str]) -> Iterator[None]:
    """Shows ``describe()`` on standard error a few times per second while the block works in this thread."""
    ended = threading.Event()
    with remarks().status(describe()) as status:

        def tick() -> None:
            while not ended.wait(0.25):
                status.update(describe())

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
