"""Compiles every kernel that ranking and learning use on a CPU, so that no user's batch waits for it."""

from model_server import neighbours
from model_server.fusion import (
    cells,
    cpu_asking,
    cpu_chances,
    cpu_features,
    cpu_likeliest,
    cpu_logits,
    cpu_returning,
    cpu_rows,
    trees,
)
from model_server.sequence_model import cpu_exploring


def warm_up() -> None:
    """Compile (or read from numba's cache) all kernels. Seconds the first time, well under one afterwards."""
    cells.warm_up()
    cpu_asking.warm_up()
    cpu_chances.warm_up()
    cpu_features.warm_up()
    cpu_likeliest.warm_up()
    cpu_logits.warm_up()
    cpu_returning.warm_up()
    cpu_rows.warm_up()
    trees.warm_up()
    cpu_exploring.warm_up()
    neighbours.warm_up()
