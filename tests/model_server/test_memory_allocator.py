"""What a batch frees is there for the next one."""

import subprocess
import sys

import pytest

PAGES_OF_A_TENSOR = 3_906
PAGES_OF_FIFTY_BATCHES = """
import resource
import torch
from model_server.memory_allocator import keep_freed_memory

assert keep_freed_memory()
torch.set_num_threads(1)
for _ in range(5):
    torch.zeros(4_000_000).add(1).add(1).add(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.zeros(4_000_000).add(1).add(1).add(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
def test_tensors_of_megabytes_reuse_the_pages_of_those_before() -> None:
    """Where glibc is not told it takes 54,000 to 390,000 pages, or few, as its heap happens to lie."""
    command = [sys.executable, "-c", PAGES_OF_FIFTY_BATCHES]
    fresh = int(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert fresh <= 2 * PAGES_OF_A_TENSOR
