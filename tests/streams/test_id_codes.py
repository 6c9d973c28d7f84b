"""Codes of ids by their bytes: those of ``code_of``, whatever was seen before, in bounded memory."""

import subprocess
import sys

import numpy as np

from schemas.codes import code_of
from streams.id_codes import HASH, IdCodes, _index, sip_hash


def spans_of(ids: list[str]) -> tuple[bytes, np.ndarray]:
    parts = [text.encode() for text in ids]
    ends = np.cumsum([len(part) for part in parts])
    return b"".join(parts), np.stack([ends - [len(part) for part in parts], ends], axis=1)


def test_codes_are_those_of_the_text_however_many_batches_and_growths_there_were() -> None:
    rng, codes = np.random.default_rng(0), IdCodes()
    for size in (1, 5_000, 20, 60_000):
        ids = [f"id-{number}-é" for number in rng.integers(0, 50_000, size)]
        found, names = codes.of(*spans_of(ids))
        assert found.tolist() == [code_of(text) for text in ids]
        assert names.as_dict() == {code_of(text): text for text in ids}


def test_ids_with_the_same_hash_keep_their_own_codes() -> None:
    codes = IdCodes()
    codes.of(*spans_of(["id-1", "id-2"]))
    codes._rows[0, HASH] = codes._rows[1, HASH]  # as if they collided
    codes._slots[:] = -1
    _index(codes._rows, 2, codes._slots)
    found, _ = codes.of(*spans_of(["id-2", "id-1", "id-2"]))
    assert found.tolist()[::2] == [code_of("id-2")] * 2
    assert found[1] == code_of("id-1")


def test_ids_are_spread_by_siphash_as_pythons_own_bytes_are() -> None:
    texts = ["", "a", "1234567", "12345678", "123456789", "кафе-1", "x" * 100]
    script = f"print(*(hash(text.encode()) for text in {texts!r}))"
    told = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True
    )
    data, spans = spans_of(texts)
    ours = [
        sip_hash(np.frombuffer(data, np.uint8), start, end, np.zeros(2, np.uint64)) for start, end in spans.tolist()
    ]
    assert ours[1:] == [(int(number) & (2**64 - 1)) >> 1 for number in told.stdout.split()][1:]  # Python's of b"" is 0


def test_long_ids_are_forgotten_before_they_take_more_than_the_bound() -> None:
    codes = IdCodes(max_bytes=10_000)
    for number in range(30):
        ids = [f"{number}-{'x' * 4_000}", "short"]
        assert codes.of(*spans_of(ids))[0].tolist() == [code_of(text) for text in ids]
        assert codes._used <= 10_000


def test_a_full_table_forgets_and_goes_on() -> None:
    codes = IdCodes(max_ids=100)
    for start in range(0, 1_000, 50):
        ids = [f"id-{number}" for number in range(start, start + 50)]
        assert codes.of(*spans_of(ids))[0].tolist() == [code_of(text) for text in ids]
        assert len(codes) <= 100
