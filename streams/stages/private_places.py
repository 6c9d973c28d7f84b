"""Places that nobody but their visitor is to learn of."""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from processors.code_index import Ints
from schemas.codes import code_of


class PrivatePlaces:
    """The items that were ever seen in a private category, by code; beyond ``max_places`` the oldest are forgotten.

    >>> places = PrivatePlaces(["home"], max_places=10)
    >>> places.learn(np.array([1, 2]), np.array([code_of("home"), code_of("cafe")]))
    >>> places.contains(np.array([1, 2, 1])).tolist()
    [True, False, True]
    """

    def __init__(self, categories: Iterable[str], max_places: int) -> None:
        self.max_places = max_places
        self._categories = np.array([code_of(category) for category in categories], np.int64)
        self._held: OrderedDict[int, None] = OrderedDict()

    def learn(self, item: Ints, category: Ints) -> None:
        """Take in the items and categories of events. O(events)."""
        if len(self._categories):
            self._held.update(dict.fromkeys(item[np.isin(category, self._categories)].tolist()))
            for _ in range(len(self._held) - self.max_places):
                self._held.popitem(last=False)

    def contains(self, item: Ints) -> npt.NDArray[np.bool_]:
        """Which items are private. O(items)."""
        held = self._held
        if not held:
            return np.zeros(len(item), np.bool_)
        return np.fromiter((code in held for code in item.tolist()), np.bool_, len(item))

    def state(self) -> dict[str, np.ndarray]:
        """The items, oldest first."""
        return {"item": np.fromiter(self._held, np.int64, len(self._held))}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Become the object of ``state()``."""
        self._held = OrderedDict.fromkeys(state["item"].tolist())
