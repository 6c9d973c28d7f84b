"""``schemas.codes.code_of`` for slices of a buffer: unkeyed BLAKE2b with a digest of eight bytes, in a kernel.

Source: RFC 7693.
"""

import numpy as np
from numba import njit

BLOCK = 128
ROUNDS = 12
_START = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_PARAMETERS = np.uint64(0x01010008)  # one tree of one leaf, no key, eight bytes
_ORDER = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.uint8,
)
# The words that the eight steps of a round mix: the columns, then the diagonals.
_MIXED = np.array(
    [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]],
    np.uint8,
)  # fmt: skip


@njit(cache=True, nogil=True)
def codes_of(data, spans):  # type: ignore[no-untyped-def]
    """The code of each text, int64[n]; ``spans`` (int64[n, 2]) are where in ``data`` (uint8, UTF-8) they start and end.

    >>> from schemas.codes import code_of
    >>> codes_of(np.frombuffer(b"cafe", np.uint8), np.array([[0, 4]])).tolist() == [code_of("cafe")]
    True
    """
    codes = np.empty(len(spans), np.int64)
    words, state, mixed = np.empty(16, np.uint64), np.empty(8, np.uint64), np.empty(16, np.uint64)
    for row in range(len(spans)):
        start, end = spans[row]
        state[:] = _START
        state[0] ^= _PARAMETERS
        at = start
        while end - at > BLOCK:
            _read_block(data, at, at + BLOCK, words)
            at += BLOCK
            _compress(state, mixed, words, at - start, np.uint64(0))
        _read_block(data, at, end, words)
        _compress(state, mixed, words, end - start, ~np.uint64(0))
        codes[row] = np.int64(state[0] >> np.uint64(1))
    return codes


@njit(cache=True)
def _read_block(data, start, end, words):  # type: ignore[no-untyped-def]
    words[:] = 0
    for at in range(start, end):
        words[(at - start) >> 3] |= np.uint64(data[at]) << np.uint64(8 * ((at - start) & 7))


@njit(cache=True)
def _compress(state, mixed, words, taken, last):  # type: ignore[no-untyped-def]
    mixed[:8], mixed[8:] = state, _START
    mixed[12] ^= np.uint64(taken)
    mixed[14] ^= last
    for round_ in range(ROUNDS):
        order = _ORDER[round_ % len(_ORDER)]
        for step in range(8):
            a, b, c, d = _MIXED[step]
            first, second = words[order[2 * step]], words[order[2 * step + 1]]
            mixed[a] += mixed[b] + first
            mixed[d] = _turned(mixed[d] ^ mixed[a], 32)
            mixed[c] += mixed[d]
            mixed[b] = _turned(mixed[b] ^ mixed[c], 24)
            mixed[a] += mixed[b] + second
            mixed[d] = _turned(mixed[d] ^ mixed[a], 16)
            mixed[c] += mixed[d]
            mixed[b] = _turned(mixed[b] ^ mixed[c], 63)
    for at in range(8):
        state[at] ^= mixed[at] ^ mixed[at + 8]


@njit(cache=True)
def _turned(word, bits):  # type: ignore[no-untyped-def]
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))
