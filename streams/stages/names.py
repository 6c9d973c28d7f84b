"""The ids behind the codes that a stage holds, bounded."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from numba import njit

from processors.code_index import CodeIndex, Ints, grown
from streams.stages.coded_ids import CodedIds, decode_ids, encode_ids

MAX_READ = 100_000


class Names:
    """Code to id. Beyond ``max_names`` an eighth is forgotten, the ids that were learned longest ago.

    >>> names = Names(max_names=2)
    >>> names.learn(CodedIds.of({1: "a", 2: "b", 3: "c"}))
    >>> len(names), names.get(3), names.get(1)
    (2, 'c', None)
    """

    def __init__(self, max_names: int, held: Mapping[int, str] | None = None) -> None:
        self.max_names = max_names
        self._index = CodeIndex()
        self._ends, self._asked = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._text, self._used = np.zeros(0, np.uint8), 0
        self._questions = 0
        self._read: dict[int, str] = {}
        self._unknown: set[int] = set()  # looked for in vain, since the last id that was new
        if held:
            self.learn(CodedIds.of(held))

    def __len__(self) -> int:
        return len(self._index)

    def learn(self, ids: CodedIds) -> None:
        """Take in the ids of a batch. O(bytes of the ids)."""
        known = len(self)
        rows = self._index.rows(ids.codes)
        if len(self) > known:
            self._unknown.clear()
            self._ends, self._asked = grown(self._ends, len(self), 0), grown(self._asked, len(self), 0)
            self._text = grown(self._text, self._used + int((ids.spans[:, 1] - ids.spans[:, 0]).sum()), 0)
            self._used = _append(rows, known, ids.spans, ids.text, self._ends, self._text, self._used)
        surplus = len(self) - self.max_names
        if surplus > 0:  # more at once: what is kept is numbered anew
            kept = self.held.select(np.arange(surplus + self.max_names // 8, len(self)))
            self._index = CodeIndex()
            self._text, self._used = np.zeros(0, np.uint8), 0  # ``kept`` still reads from the old one
            self._asked[:] = 0
            self._read.clear()
            self.learn(kept)

    def get(self, code: int) -> str | None:
        """The id of a code; None if it was never seen or is forgotten."""
        name = self._read.get(code)
        if name is None and code not in self._unknown:
            self.read(np.array([code], np.int64))
            name = self._read.get(code)
            if name is None:
                self._unknown.add(code)
        return name

    def read(self, codes: Ints) -> None:
        """Have the ids of ``codes`` at hand for ``get``, which reads them one by one else. O(codes)."""
        if len(self._read) + len(codes) > MAX_READ:
            self._read.clear()
        self._read.update(self.of(codes).as_dict())

    def of(self, codes: Ints) -> CodedIds:
        """The ids of those codes that are known, each once, in the order in which they are mentioned first. O(codes)."""
        self._questions += 1
        rows = _first_mentions(self._index.find(codes), self._asked, self._questions)
        return CodedIds(self._index.codes[rows], _spans(rows, self._ends), self._text)

    def knows(self, codes: Ints) -> npt.NDArray[np.bool_]:
        """Whether the id of each code is known. O(codes)."""
        return self._index.find(codes) >= 0

    @property
    def held(self) -> CodedIds:
        """All of them, those that were learned first first."""
        return CodedIds(self._index.codes, _spans(np.arange(len(self)), self._ends), self._text)

    def to_bytes(self) -> bytes:
        """All codes and ids."""
        return encode_ids(self.held)

    @classmethod
    def from_bytes(cls, max_names: int, data: bytes) -> "Names":
        """The object of ``to_bytes``. Raises ValueError if the bytes are something else."""
        names = cls(max_names)
        names.learn(decode_ids(data))
        return names


def warm_up() -> None:
    """Compile the kernels ahead of the first event."""
    names = Names(1, {1: "a", 2: "b"})  # one too many: what is kept is learned from the memory itself
    names.of(np.ones(1, np.int64))


@njit(cache=True)
def _append(rows, known, spans, text, ends, held, used):  # type: ignore[no-untyped-def]
    """Put the texts of the rows that are new behind the ``used`` bytes of ``held``; the bytes used then."""
    for at in range(len(rows)):
        if rows[at] == known:  # new rows are numbered in this order
            for place in range(spans[at, 0], spans[at, 1]):
                held[used] = text[place]
                used += 1
            ends[known] = used
            known += 1
    return used


@njit(cache=True)
def _spans(rows, ends):  # type: ignore[no-untyped-def]
    """Where the text of each row starts and ends."""
    spans = np.empty((len(rows), 2), np.int64)
    for at in range(len(rows)):
        row = rows[at]
        spans[at, 0], spans[at, 1] = ends[row - 1] if row else 0, ends[row]
    return spans


@njit(cache=True)
def _first_mentions(rows, asked, question):  # type: ignore[no-untyped-def]
    """The distinct rows that are not -1, in order."""
    found, count = np.empty(len(rows), np.int64), 0
    for row in rows:
        if row >= 0 and asked[row] != question:
            asked[row] = question
            found[count] = row
            count += 1
    return found[:count]
