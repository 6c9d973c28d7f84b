"""Compiles every kernel that ranking and learning use on a CPU, so that no user's batch waits for it.

Kernels that run for a millisecond or more are ``nogil``: the threads that write to Redis and answer HTTP then have their turns
while a batch is ranked, and do not take the interpreter from the serving loop between two kernels.
"""

from model_server import cpu_appending, neighbours, strongest
from model_server.fusion import (
    cells,
    cpu_asking,
    cpu_chances,
    cpu_features,
    cpu_grouping,
    cpu_likeliest,
    cpu_liking,
    cpu_logits,
    cpu_returning,
    cpu_rows,
    cpu_shares,
    cpu_voting,
    trees,
)
from model_server.sequence_model import cpu_answering, cpu_encoding, cpu_exploring


def warm_up() -> None:
    """Compile (or read from numba's cache) all kernels. Seconds the first time, well under one afterwards."""
    cpu_appending.warm_up()
    cells.warm_up()
    cpu_asking.warm_up()
    cpu_chances.warm_up()
    cpu_features.warm_up()
    cpu_grouping.warm_up()
    cpu_likeliest.warm_up()
    cpu_liking.warm_up()
    cpu_logits.warm_up()
    cpu_returning.warm_up()
    cpu_rows.warm_up()
    cpu_shares.warm_up()
    cpu_voting.warm_up()
    trees.warm_up()
    cpu_answering.warm_up()
    cpu_encoding.warm_up()
    cpu_exploring.warm_up()
    neighbours.warm_up()
    strongest.warm_up()
