"""Eight bytes at a time against one by one."""

import doctest
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import json_numbers, words
from streams.words import below_flags, equal_flags, first_flagged, is_same, word_at, word_within


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=30), st.data())
def test_a_word_holds_the_bytes_of_its_slice_and_nothing_behind_it(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    end = draw.draw(st.integers(at, len(data)))
    assert int(word_within(np.frombuffer(data, np.uint8), at, end)) == int.from_bytes(
        data[at : min(end, at + 8)], "little"
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"cafe", b"cafe 12345", b"cafe 12346", b"gym"]), min_size=1, max_size=4), st.data())
def test_slices_are_the_same_if_their_bytes_are(parts: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(parts)
    (start, end), (other_start, other_end) = (
        sorted((draw.draw(st.integers(0, len(data))), draw.draw(st.integers(0, len(data))))) for _ in range(2)
    )
    buffer = np.frombuffer(data, np.uint8)
    expected = data[start:end] == data[other_start:other_end]
    assert is_same(buffer, start, end, buffer, other_start, other_end) == expected


@pytest.mark.parametrize("place", range(8))
def test_the_first_of_the_bytes_that_are_looked_for_is_found(place: int) -> None:
    text = bytearray(b"abcdefgh")
    text[place:] = b'"' * (8 - place)
    word = np.uint64(word_at(np.frombuffer(bytes(text), np.uint8), 0))
    assert first_flagged(np.uint64(equal_flags(word, ord('"')))) == place


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=8, max_size=8))
def test_a_byte_is_flagged_first_if_it_is_the_first_that_is_small(data: bytes) -> None:
    flags = np.uint64(below_flags(np.uint64(word_at(np.frombuffer(data, np.uint8), 0)), 32))
    small = [place for place, byte in enumerate(data) if byte < 32]
    assert bool(flags) == bool(small)
    assert not small or first_flagged(flags) == small[0]


@pytest.mark.parametrize("module", [words, json_numbers], ids=["words", "json_numbers"])
def test_the_examples_of_kernels_are_right(module: ModuleType) -> None:
    """Whoever collects examples passes over compiled functions."""
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    kernels = [each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__]
    examples = [one for each in kernels for one in finder.find(each.py_func, globs=vars(module)) if one.examples]
    assert examples and all(runner.run(one).failed == 0 for one in examples)
