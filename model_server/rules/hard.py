"""Hard rules: whatever a model ranks, an item that breaks one of these is never published."""

from collections.abc import Sequence, Set

import msgspec
import numpy as np

from model_server.items import ItemTable, Mask, metres_between


class Constraints(msgspec.Struct, frozen=True, kw_only=True):
    """What one recommendation must keep to; items are excluded because they were seen, dismissed or blocked.

    With ``categories`` an item must be in one of them; with ``radius_m`` it must not be farther than that from
    (``lat``, ``lon``).
    """

    excluded: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    lat: float | None = None
    lon: float | None = None
    radius_m: float | None = None

    @property
    def selects(self) -> bool:
        """Whether only a part of the catalogue can satisfy it, by category or place."""
        return bool(self.categories) or self.bounded

    @property
    def bounded(self) -> bool:
        """Whether there is a radius to keep to."""
        return self.radius_m is not None and self.lat is not None and self.lon is not None


UNCONSTRAINED = Constraints()


def permits(items: ItemTable, constraints: Constraints, item_id: str) -> bool:
    """Whether an item may be recommended: the last word, asked of every item before it is published.

    >>> from schemas.events import Item
    >>> items = ItemTable()
    >>> items.upsert([Item(item_id="cafe", categories=["coffee"]), Item(item_id="bar", available=False)])
    >>> permits(items, Constraints(categories=frozenset({"coffee"})), "cafe"), permits(items, UNCONSTRAINED, "bar")
    (True, False)
    """
    if item_id in constraints.excluded or not items.is_available(item_id):
        return False
    if constraints.categories and constraints.categories.isdisjoint(items.categories_of(item_id)):
        return False
    return not constraints.bounded or _within(items, constraints, item_id)


def permits_all(items: ItemTable, constraints: Constraints, item_ids: Set[str]) -> bool:
    """Whether ``permits`` would surely permit each of these: asked of all at once; where only a part of the catalogue may be
    recommended, ask of each. O(items).
    """
    return not constraints.selects and constraints.excluded.isdisjoint(item_ids) and items.are_available(item_ids)


def allowed_mask(items: ItemTable, constraints: Constraints) -> Mask:
    """bool[rows] of the item table: what ``permits`` permits. O(rows)."""
    mask = items.available.copy()
    if constraints.categories:
        mask &= items.in_categories(constraints.categories)
    if constraints.lat is not None and constraints.lon is not None and constraints.radius_m is not None:
        mask &= items.within(constraints.lat, constraints.lon, constraints.radius_m)
    for item_id in constraints.excluded:
        row = items.row(item_id)
        if row is not None:
            mask[row] = False
    return mask


class RowMap:
    """From a ranker's rows to the item table's: masks are computed once and read in the order that a ranker numbers items."""

    def __init__(self) -> None:
        self._rows = np.empty(0, np.int64)

    def translate(self, mask: Mask, items: ItemTable, ranker_item_ids: Sequence[str]) -> Mask:
        """The mask over the ranker's rows; what the item table does not know is not allowed. O(rows)."""
        known = len(self._rows)
        if known < len(ranker_item_ids):
            rows = (items.row(item_id) for item_id in ranker_item_ids[known:])
            new = np.fromiter((-1 if row is None else row for row in rows), np.int64, len(ranker_item_ids) - known)
            self._rows = np.concatenate((self._rows, new))
        padded = np.append(mask, False)
        translated: Mask = padded[np.where(self._rows < len(mask), self._rows, -1)]
        return translated


def _within(items: ItemTable, constraints: Constraints, item_id: str) -> bool:
    place = items.place(item_id)
    if place is None or constraints.lat is None or constraints.lon is None or constraints.radius_m is None:
        return False
    return metres_between(constraints.lat, constraints.lon, *place) <= constraints.radius_m
