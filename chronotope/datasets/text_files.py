"""Text files, gzipped or not, as (line number, line) pairs."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from chronotope.datasets.errors import DatasetError

GZIP_MAGIC = b"\x1f\x8b"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The non-empty lines of a file with their numbers (from 1); gzip is recognised by content.

    UTF-8 with or without a byte order mark, UTF-16 with one (a spreadsheet's "Unicode text"); a file that is not UTF-8 from its
    start is taken as Latin-1 (as the original check-in sets are). Raises DatasetError if the file is absent, unreadable or a
    broken gzip.
    """
    number = 0
    try:
        encoding = _encoding(path)
        with _open(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
            for number, line in enumerate(text, start=1):
                stripped = line.rstrip("\r\n")
                if stripped and not stripped.isspace():
                    yield number, stripped
    except FileNotFoundError as error:
        raise DatasetError(path, None, "no such file") from error
    except IsADirectoryError as error:
        raise DatasetError(path, None, "is a folder, not a file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(path, number or None, f"cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(path, number + 1, f"is not {error.encoding} text: {error.reason}") from error


def _open(path: Path) -> BinaryIO:
    raw = path.open("rb")
    magic = raw.read(2)
    raw.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if magic == GZIP_MAGIC else raw


def _encoding(path: Path) -> str:
    with _open(path) as raw:
        head = raw.read(1 << 20)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not merely a character cut by the end of the sample
            return "latin-1"
    return "utf-8-sig"
