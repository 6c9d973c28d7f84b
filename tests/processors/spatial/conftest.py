"""Makes this folder's helpers importable (`streams_of_points`) and compiles the kernels before the first test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    from processors.spatial import SlidingDBSCAN

    SlidingDBSCAN.warm_up()
