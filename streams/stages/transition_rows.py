"""What the user stage tells the transition stage: what followed what, of items and of categories."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from processors.sequence import NO_STATE
from schemas.topics import INTERNAL_TRANSITION
from streams.stages.columns import EventColumns, Ints
from streams.stages.internal import Origin, route
from streams.stages.last_items import Before
from streams.stages.names import Names
from streams.stages.output import Routed

Flags = npt.NDArray[np.bool_]
ITEMS = ("previous_item", "from_item", "item")
CATEGORIES = ("previous_category", "from_category", "category")
BARE = ("origin_offset", "time_ms", "user", *ITEMS)


def transition_rows(
    admitted: EventColumns, before: Before, public: Flags, is_private: Callable[[Ints], Flags]
) -> dict[str, Ints]:
    """The rows of the ``public`` events that follow a public one; where the one before that is private, it is left out."""
    rows = np.flatnonzero(public & (before.last != NO_STATE) & ~is_private(before.last))
    previous, previous_category = before.previous[rows], before.previous_category[rows]
    hidden = is_private(previous)
    last_category, category = before.last_category[rows], admitted.category[rows]
    spoken = (last_category != NO_STATE) & (category != NO_STATE)
    return {
        "origin_offset": admitted.offset[rows],
        "time_ms": admitted.time_ms[rows],
        "user": admitted.user[rows],
        "item": admitted.item[rows],
        "from_item": before.last[rows],
        "previous_item": np.where(hidden, NO_STATE, previous),
        "category": category,
        "from_category": np.where(spoken, last_category, NO_STATE),
        "previous_category": np.where(hidden, NO_STATE, previous_category),
    }


def route_transitions(rows: dict[str, Ints], partitions: int, *, names: Names, origin: Origin) -> list[Routed]:
    """Each row to the partition of its from-item, and what it says of categories to the last partition.

    There are few categories: only where all of them are together it can be told what is chance.
    """
    source, last = rows["from_item"] % partitions, partitions - 1
    others = np.unique(source[source != last])
    bare = {name: rows[name] for name in BARE}
    routed = route(INTERNAL_TRANSITION, source, bare, others, named=ITEMS, names=names, origin=origin)
    mine = source == last
    chosen = np.flatnonzero(mine | (rows["from_category"] != NO_STATE))
    if len(chosen):
        both = {name: column[chosen] for name, column in rows.items()}
        for name in ITEMS:
            both[name] = np.where(mine[chosen], both[name], NO_STATE)
        everything, named = np.full(len(chosen), last), (*ITEMS, *CATEGORIES)
        routed += route(INTERNAL_TRANSITION, everything, both, [last], named=named, names=names, origin=origin)
    return routed
