"""``python -m chronotope.kernels`` compiles every kernel, so that workers and servers start in seconds: once per installation."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor


def _spatial() -> None:
    from processors.spatial import SlidingDBSCAN, extents, tiles

    SlidingDBSCAN.warm_up()
    extents.warm_up()
    tiles.warm_up()


def _server() -> None:
    from model_server import compiled

    compiled.warm_up()


def _sequence() -> None:
    from processors import profile, sequence

    sequence.warm_up()
    profile.warm_up()


def _decoding() -> None:
    from streams import rehearsal

    rehearsal.rehearse_decoding()


def _temporal() -> None:
    from processors.temporal import PeriodicityBank

    PeriodicityBank.warm_up()


# The longest first. No two may share a kernel: of two processes that save one, numba could take one's code for the other's.
PARTS: Mapping[str, Callable[[], None]] = {
    "spatial": _spatial, "server": _server, "sequence": _sequence, "decoding": _decoding, "temporal": _temporal,
}  # fmt: skip


def main() -> None:
    """Compile what numba's cache does not hold yet: part beside part on as many cores as there are, then what joins them."""
    spawning = multiprocessing.get_context("spawn")  # a forked child would share the threads that its parent started
    with ProcessPoolExecutor(min(len(PARTS), os.cpu_count() or 1), spawning) as pool:
        for done in [pool.submit(part) for part in PARTS.values()]:
            done.result()
    from streams import rehearsal

    rehearsal.warm_up()


if __name__ == "__main__":
    main()
