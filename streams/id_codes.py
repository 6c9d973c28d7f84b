"""Codes of ids by their bytes, without a Python text for every mention: a hash table that keeps what it has seen."""

import secrets
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.codes import code_of
from streams.event_hash import hash_slice

Ints = npt.NDArray[np.int64]
SMALLEST = 1 << 12
EMPTY = -1
HASH, START, END, CODE, BATCH = range(5)


class IdCodes:
    """``code_of`` for slices of a buffer; every id's digest is computed on first sight. Forgets everything when it is full.

    Ids are told apart by all their bytes, so two whose hashes collide keep their own codes; the hash has a secret offset, so
    nobody can choose ids that collide.

    >>> codes = IdCodes()
    >>> found, new = codes.of(b"cafe gym cafe", np.array([[0, 4], [5, 8], [9, 13]]))
    >>> found.tolist() == [code_of("cafe"), code_of("gym"), code_of("cafe")], sorted(new.values())
    (True, ['cafe', 'gym'])
    """

    def __init__(self, max_ids: int = 1_000_000) -> None:
        self.max_ids = max_ids
        self._batch = 0
        self._secret = np.uint64(secrets.randbits(64))
        self._clear()

    def __len__(self) -> int:
        return self._size

    def _clear(self) -> None:
        self._size, self._used = 0, 0
        self._rows = np.zeros((SMALLEST, 5), np.int64)
        self._slots = np.full(2 * SMALLEST, EMPTY, np.int64)
        self._text = np.zeros(16 * SMALLEST, np.uint8)

    def of(self, data: bytes, spans: Ints) -> tuple[Ints, dict[int, str]]:
        """The code of each id, int64[n], and the distinct ids by code; ``spans`` (int64[n, 2]) are where in ``data`` (UTF-8
        there) they start and end. O(bytes of the ids).
        """
        if self._size + len(spans) > self.max_ids:
            self._clear()
        self._reserve(len(spans), int((spans[:, 1] - spans[:, 0]).sum()))
        self._batch += 1
        known, rows, first = self._size, np.empty(len(spans), np.int64), np.empty(len(spans), np.int64)
        columns = self._rows, self._slots, self._text
        self._size, self._used, mentioned = _find(
            np.frombuffer(data, np.uint8),
            spans,
            *columns,
            self._secret,
            self._size,
            self._used,
            self._batch,
            rows,
            first,
        )
        names = [data[start:end].decode() for start, end in spans[first[:mentioned]].tolist()]
        fresh = rows[first[:mentioned]]
        for at in np.flatnonzero(fresh >= known).tolist():
            self._rows[fresh[at], CODE] = code_of(names[at])
        return self._rows[rows, CODE], dict(zip(self._rows[fresh, CODE].tolist(), names, strict=True))

    def _reserve(self, ids: int, text_bytes: int) -> None:
        if self._used + text_bytes > len(self._text):
            self._text = _longer(self._text, self._used + text_bytes)
        if self._size + ids > len(self._rows):
            self._rows = _longer(self._rows, self._size + ids)
            self._slots = np.full(1 << int(2 * len(self._rows) - 1).bit_length(), EMPTY, np.int64)
            _index(self._rows, self._size, self._slots)


def warm_up() -> None:
    """Compile the kernels ahead of the first event."""
    codes = IdCodes()
    codes._reserve(2 * SMALLEST, 0)
    codes.of(b"a", np.array([[0, 1]]))


def _longer(array: Any, needed: int) -> Any:
    longer = np.zeros((max(2 * len(array), needed), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


@njit(cache=True)
def _index(rows, size, slots):  # type: ignore[no-untyped-def]
    mask = len(slots) - 1
    for row in range(size):
        slot = rows[row, HASH] & mask
        while slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = row


@njit(cache=True)
def _find(data, spans, rows, slots, text, secret, size, used, batch, out, first):  # type: ignore[no-untyped-def]
    """The row of each id, new ones behind the ``size`` that are held; in ``first`` the mentions that are an id's first here."""
    mask, mentioned = len(slots) - 1, 0
    for at in range(len(spans)):
        start, end = spans[at]
        wanted = hash_slice(data, start, end, secret)
        slot = wanted & mask
        while slots[slot] != EMPTY and not _is(rows[slots[slot]], wanted, text, data, start, end):
            slot = (slot + 1) & mask
        if slots[slot] == EMPTY:
            slots[slot] = size
            rows[size, HASH], rows[size, START], rows[size, END] = wanted, used, used + end - start
            for shift in range(end - start):
                text[used + shift] = data[start + shift]
            used += end - start
            size += 1
        row = slots[slot]
        out[at] = row
        if rows[row, BATCH] != batch:
            rows[row, BATCH] = batch
            first[mentioned] = at
            mentioned += 1
    return size, used, mentioned


@njit(cache=True)
def _is(row, wanted, text, data, start, end):  # type: ignore[no-untyped-def]
    if row[HASH] != wanted or row[END] - row[START] != end - start:
        return False
    for shift in range(end - start):  # noqa: SIM110 (numba)
        if text[row[START] + shift] != data[start + shift]:
            return False
    return True
