"""How a worker ends: in order, and if that does not come about, all the same."""

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from streams.app import _stop

STUCK = """
import asyncio
from types import SimpleNamespace
from streams.app import _stop

async def never():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def main():
    await _stop(SimpleNamespace(stop=never), asyncio.create_task(never()), within_s=0.1)

asyncio.run(main())
"""


def test_a_worker_that_stops_in_time_is_ended_in_order() -> None:
    stopped: list[Any] = []

    async def stop() -> None:
        stopped.append(True)

    async def play() -> bool:
        starting = asyncio.create_task(asyncio.sleep(60))
        await _stop(SimpleNamespace(stop=stop), starting)  # type: ignore[arg-type]
        await asyncio.wait([starting])
        return starting.cancelled()

    assert asyncio.run(play()) and stopped


def test_a_worker_whose_end_swallows_every_cancellation_ends_with_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "did not end in time" in done.stdout + done.stderr
