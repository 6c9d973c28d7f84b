"""What a batch frees is there for the next one."""

import subprocess
import sys

import pytest

PAGES_OF_FIFTY_BATCHES = """
import resource, sys
import torch
from model_server.memory_allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
for _ in range(5):
    torch.zeros(4_000_000).add(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.zeros(4_000_000).add(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def fresh_pages(how: str) -> int:
    command = [sys.executable, "-c", PAGES_OF_FIFTY_BATCHES, how]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
def test_tensors_of_megabytes_reuse_the_pages_of_those_before() -> None:
    assert fresh_pages("keep") < 0.1 * fresh_pages("leave")
