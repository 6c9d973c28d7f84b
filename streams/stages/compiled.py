"""Compiles every kernel that the stages use, so that no user's batch waits for it."""

from processors import code_index, profile, ragged, sequence
from processors.spatial import SlidingDBSCAN, extents, tiles
from processors.temporal import PeriodicityBank
from streams import event_hash
from streams.stages import admission, coded_ids, growth, last_items, names


def warm_up() -> None:
    """Compile (or read from numba's cache) all kernels. Seconds the first time, well under one afterwards."""
    event_hash.warm_up()
    code_index.warm_up()
    admission.warm_up()
    last_items.warm_up()
    growth.warm_up()
    coded_ids.warm_up()
    names.warm_up()
    sequence.warm_up()
    profile.warm_up()
    PeriodicityBank.warm_up()
    SlidingDBSCAN.warm_up()
    extents.warm_up()
    tiles.warm_up()
    ragged.warm_up()
