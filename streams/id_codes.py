"""Codes of ids by their bytes, without a Python text for every mention: a hash table that keeps what it has seen."""

import secrets

import numpy as np
import numpy.typing as npt
from numba import njit

from processors.growing import lengthened
from streams.code_hash import codes_of
from streams.stages.coded_ids import CodedIds
from streams.words import WORD, is_same, word_at, word_within

Ints = npt.NDArray[np.int64]
SMALLEST = 1 << 12
EMPTY = -1
HASH, START, END, CODE, BATCH = range(5)


class IdCodes:
    """``code_of`` for slices of a buffer; every id's digest is computed on first sight. Forgets everything when it is full.

    Ids are told apart by all their bytes, so two whose hashes collide keep their own codes. The hash is SipHash-1-3 (Aumasson and
    Bernstein, 2012) under a secret key, so nobody can choose ids that collide.

    >>> codes = IdCodes()
    >>> from schemas.codes import code_of
    >>> found, distinct = codes.of(b"cafe gym cafe", np.array([[0, 4], [5, 8], [9, 13]]))
    >>> found.tolist() == [code_of("cafe"), code_of("gym"), code_of("cafe")], sorted(distinct.as_dict().values())
    (True, ['cafe', 'gym'])
    """

    def __init__(self, max_ids: int = 1_000_000, max_bytes: int = 64 << 20) -> None:
        self.max_ids, self.max_bytes = max_ids, max_bytes
        self._batch = 0
        self._key = np.array([secrets.randbits(64), secrets.randbits(64)], np.uint64)
        self._clear()

    def __len__(self) -> int:
        return self._size

    def _clear(self) -> None:
        self._size, self._used = 0, 0
        self._rows = np.zeros((SMALLEST, 5), np.int64)
        self._slots = np.full(2 * SMALLEST, EMPTY, np.int64)
        self._text = np.zeros(16 * SMALLEST, np.uint8)

    def of(self, data: bytes, spans: Ints) -> tuple[Ints, CodedIds]:
        """The code of each id, int64[n], and those of the distinct ids; ``spans`` (int64[n, 2]) are where in ``data`` (UTF-8
        there) they start and end. O(bytes of the ids).
        """
        text_bytes = int((spans[:, 1] - spans[:, 0]).sum())
        if self._size + len(spans) > self.max_ids or self._used + text_bytes > self.max_bytes:
            self._clear()
        self._reserve(len(spans), text_bytes)
        text = np.frombuffer(data, np.uint8)
        self._batch += 1
        known, rows, first = self._size, np.empty(len(spans), np.int64), np.empty(len(spans), np.int64)
        columns = self._rows, self._slots, self._text
        self._size, self._used, mentioned = _find(
            text,
            spans,
            *columns,
            self._key,
            self._size,
            self._used,
            self._batch,
            rows,
            first,
        )
        new = self._rows[known : self._size]
        new[:, CODE] = codes_of(self._text, new[:, START : END + 1])
        codes, first = self._rows[rows, CODE], first[:mentioned]
        return codes, CodedIds(codes[first], spans[first], text)

    def _reserve(self, ids: int, text_bytes: int) -> None:
        if self._used + text_bytes > len(self._text):
            self._text = lengthened(self._text, max(2 * len(self._text), self._used + text_bytes))
        if self._size + ids > len(self._rows):
            self._rows = lengthened(self._rows, max(2 * len(self._rows), self._size + ids))
            self._slots = np.full(1 << int(2 * len(self._rows) - 1).bit_length(), EMPTY, np.int64)
            _index(self._rows, self._size, self._slots)


def warm_up() -> None:
    """Compile the kernels ahead of the first event."""
    codes = IdCodes()
    codes._reserve(2 * SMALLEST, 0)
    codes.of(b"a", np.array([[0, 1]]))


@njit(cache=True)
def _index(rows, size, slots):  # type: ignore[no-untyped-def]
    mask = len(slots) - 1
    for row in range(size):
        slot = rows[row, HASH] & mask
        while slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = row


@njit(cache=True, nogil=True)
def _find(data, spans, rows, slots, text, key, size, used, batch, out, first):  # type: ignore[no-untyped-def]
    """The row of each id, new ones behind the ``size`` that are held; in ``first`` the mentions that are an id's first here.

    The thread that fetches goes on meanwhile.
    """
    mask, mentioned = len(slots) - 1, 0
    for at in range(len(spans)):
        start, end = spans[at]
        wanted = sip_hash(data, start, end, key)
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
def sip_hash(data, start, end, key):  # type: ignore[no-untyped-def]
    """SipHash-1-3 of the bytes from ``start`` to before ``end`` under a key uint64[2], kept to 63 bits."""
    a, b = key[0] ^ np.uint64(0x736F6D6570736575), key[1] ^ np.uint64(0x646F72616E646F6D)
    c, d = key[0] ^ np.uint64(0x6C7967656E657261), key[1] ^ np.uint64(0x7465646279746573)
    last = np.uint64(end - start) << np.uint64(56)
    stop = start + (end - start) // WORD * WORD
    for at in range(start, stop, WORD):
        word = word_at(data, at)
        d ^= word
        a, b, c, d = _sip_round(a, b, c, d)
        a ^= word
    last |= word_within(data, stop, end)
    d ^= last
    a, b, c, d = _sip_round(a, b, c, d)
    a ^= last
    c ^= np.uint64(0xFF)
    for _ in range(3):
        a, b, c, d = _sip_round(a, b, c, d)
    return np.int64((a ^ b ^ c ^ d) >> np.uint64(1))


@njit(cache=True)
def _sip_round(a, b, c, d):  # type: ignore[no-untyped-def]
    a += b
    b = _rotated(b, 13) ^ a
    a = _rotated(a, 32)
    c += d
    d = _rotated(d, 16) ^ c
    a += d
    d = _rotated(d, 21) ^ a
    c += b
    b = _rotated(b, 17) ^ c
    c = _rotated(c, 32)
    return a, b, c, d


@njit(cache=True)
def _rotated(word, bits):  # type: ignore[no-untyped-def]
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@njit(cache=True)
def _is(row, wanted, text, data, start, end):  # type: ignore[no-untyped-def]
    return row[HASH] == wanted and is_same(text, row[START], row[END], data, start, end)
