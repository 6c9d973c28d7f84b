"""What a worker frees goes back to the system, whatever lies between it."""

import asyncio
import contextlib
import platform
import subprocess
import sys

import pytest

from streams import memory_allocator

RSS_MB = """
def rss_mb():
    status = open("/proc/self/status").read()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
"""
MB_KEPT_OF_FREED_PIECES = (
    RSS_MB
    + """
import sys
import numpy as np
from streams.memory_allocator import give_back_large_pieces

if sys.argv[1] == "given back":
    assert give_back_large_pieces()
for _ in range(2):
    np.ones(30 << 17)  # 30 MB, from which glibc learns to keep smaller ones
before = rss_mb()
pieces, between = [], []
for _ in range(40):
    pieces.append(np.ones(6 << 17))
    between.append(np.ones(1 << 13))
del pieces
print(rss_mb() - before)
"""
)


MB_GIVEN_BACK_BETWEEN_SMALL_PIECES = (
    RSS_MB
    + """
import numpy as np
from streams.memory_allocator import give_back_free_pages

pieces, between = [], []
for _ in range(2000):
    pieces.append(np.ones(1 << 13))
    between.append(np.ones(1 << 7))
del pieces
before = rss_mb()
assert give_back_free_pages()
print(before - rss_mb())
"""
)


def printed_by(program: str, *words: str) -> float:
    command = [sys.executable, "-c", program, *words]
    return float(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_large_pieces_go_back_though_small_ones_between_them_stay() -> None:
    kept_mb = {how: printed_by(MB_KEPT_OF_FREED_PIECES, how) for how in ("given back", "as by default")}
    assert kept_mb["given back"] < 20 < 100 < kept_mb["as by default"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_free_pages_between_pieces_in_use_are_given_back() -> None:
    assert printed_by(MB_GIVEN_BACK_BETWEEN_SMALL_PIECES) > 80


def test_pages_are_given_back_again_and_again_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    times = []
    monkeypatch.setattr(memory_allocator, "EVERY_S", 0.0)
    monkeypatch.setattr(memory_allocator, "give_back_free_pages", lambda: times.append(1))

    async def for_a_while() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(memory_allocator.give_back_now_and_then(), 0.2)

    asyncio.run(for_a_while())
    assert len(times) > 1
