"""A MessagePack map of integers to texts, written from columns and read into them by kernels.

Source: the MessagePack specification, formats int, uint, str and map.
"""

import numpy as np
from numba import njit

NOT_A_MAP = -1
_FIX_INT, _FIX_MAP, _FIX_STR, _FIX_NEGATIVE = 0x7F, 0x80, 0xA0, 0xE0
_UINT8, _INT8 = 0xCC, 0xD0
_STR8, _MAP16 = 0xD9, 0xDE
_HIGH = 0x80


@njit(cache=True, nogil=True)
def write_map(codes, spans, text, out):  # type: ignore[no-untyped-def]
    """Write the map into ``out``, which must be long enough; the number of its bytes."""
    at = 0
    if len(codes) <= 0x0F:
        out[at] = _FIX_MAP | len(codes)
        at += 1
    elif len(codes) <= 0xFFFF:
        at = _put(out, at, _MAP16, len(codes), 2)
    else:
        at = _put(out, at, _MAP16 + 1, len(codes), 4)
    for row in range(len(codes)):
        at = _put_code(out, at, codes[row])
        start, end = spans[row]
        at = _put_length(out, at, end - start)
        for place in range(start, end):
            out[at] = text[place]
            at += 1
    return at


@njit(cache=True)
def _put(out, at, head, number, width):  # type: ignore[no-untyped-def]
    """Write ``head`` and a number of ``width`` bytes, the highest first."""
    out[at] = head
    for byte in range(width):
        out[at + 1 + byte] = (np.uint64(number) >> np.uint64(8 * (width - 1 - byte))) & np.uint64(0xFF)
    return at + 1 + width


@njit(cache=True)
def _put_code(out, at, code):  # type: ignore[no-untyped-def]
    if 0 <= code <= _FIX_INT or -32 <= code < 0:
        out[at] = np.uint64(code) & np.uint64(0xFF)
        return at + 1
    kind, width, is_negative = 0, 1, code < 0
    while width < 8 and not (-(1 << (8 * width - 1)) <= code if is_negative else code < (1 << (8 * width))):
        kind += 1
        width *= 2
    return _put(out, at, (_INT8 if is_negative else _UINT8) + kind, code, width)


@njit(cache=True)
def _put_length(out, at, length):  # type: ignore[no-untyped-def]
    if length < 32:
        out[at] = _FIX_STR | length
        return at + 1
    kind, width = 0, 1
    while length >= 1 << (8 * width):
        kind += 1
        width *= 2
    return _put(out, at, _STR8 + kind, length, width)


@njit(cache=True, nogil=True)
def read_map(data, codes, spans):  # type: ignore[no-untyped-def]
    """Read a whole value: (the number of entries, whether all texts are ASCII). ``NOT_A_MAP`` if it is none, or one that
    ``write_map`` would not write.
    """
    if not len(data):
        return NOT_A_MAP, True
    head, size, at = data[0], np.int64(0), np.int64(1)
    if head & 0xF0 == _FIX_MAP:
        size = np.int64(head & 0x0F)
    elif head in (_MAP16, _MAP16 + 1):
        width = 2 << (head - _MAP16)
        if at + width > len(data):
            return NOT_A_MAP, True
        size = _number(data, at, width)
        at += width
    else:
        return NOT_A_MAP, True
    if size > len(codes):
        return NOT_A_MAP, True
    high = np.uint8(0)
    for row in range(size):
        at = _read_code(data, at, codes, row)
        start, at = _read_span(data, at)
        if at < 0:
            return NOT_A_MAP, True
        spans[row, 0], spans[row, 1] = start, at
        for place in range(start, at):
            high |= data[place]
    return (size, high < _HIGH) if at == len(data) else (NOT_A_MAP, True)


@njit(cache=True)
def _number(data, at, width):  # type: ignore[no-untyped-def]
    """The number of ``width`` bytes from ``at`` on, the highest first, in 64 bits as they are."""
    number = np.uint64(0)
    for byte in range(width):
        number = (number << np.uint64(8)) | np.uint64(data[at + byte])
    return np.int64(number)


@njit(cache=True)
def _read_code(data, at, codes, row):  # type: ignore[no-untyped-def]
    """Read an integer into its row; the place behind it, -1 if there is none."""
    if at < 0 or at >= len(data):
        return np.int64(-1)
    head = data[at]
    if head <= _FIX_INT or head >= _FIX_NEGATIVE:
        codes[row] = np.int64(head) if head <= _FIX_INT else np.int64(head) - 256
        return at + 1
    is_unsigned, is_signed = _UINT8 <= head < _UINT8 + 4, _INT8 <= head < _INT8 + 4
    if not (is_unsigned or is_signed):
        return np.int64(-1)
    width = 1 << (head - (_UINT8 if is_unsigned else _INT8))
    if at + 1 + width > len(data):
        return np.int64(-1)
    number = _number(data, at + 1, width)
    if is_unsigned and number < 0:  # beyond what a code may be
        return np.int64(-1)
    if is_signed and width < 8 and number >= 1 << (8 * width - 1):
        number -= 1 << (8 * width)
    codes[row] = number
    return at + 1 + width


@njit(cache=True)
def _read_span(data, at):  # type: ignore[no-untyped-def]
    """Where the text that begins at ``at`` has its bytes, from and to; (-1, -1) if there is none."""
    if at < 0 or at >= len(data):
        return np.int64(-1), np.int64(-1)
    head, length, start = data[at], np.int64(0), at + 1
    if head & 0xE0 == _FIX_STR:
        length = np.int64(head & 0x1F)
    elif _STR8 <= head < _STR8 + 3:
        width = 1 << (head - _STR8)
        if start + width > len(data):
            return np.int64(-1), np.int64(-1)
        length = _number(data, start, width)
        start += width
    else:
        return np.int64(-1), np.int64(-1)
    if start + length > len(data):
        return np.int64(-1), np.int64(-1)
    return start, start + length
