"""What a reader raises: the file, the line and what is wrong there."""

from collections.abc import Callable
from pathlib import Path


class DatasetError(ValueError):
    """A file that cannot be read as its format says; the message is ``FILE:LINE: what is wrong``.

    >>> str(DatasetError(Path("a.csv"), 7, "lat is 'x', not a number"))
    "a.csv:7: lat is 'x', not a number"
    """

    def __init__(self, path: Path, line: int | None, what: str) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {what}")
        self.path = path
        self.line = line


# What is told of each row that cannot be read, where reading goes on.
Refused = Callable[[DatasetError], None]
