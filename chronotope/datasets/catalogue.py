"""The catalogue that a stream of events implies: what each item is called, what kind it is and where."""

from collections.abc import Iterable

from schemas.events import BehaviorEvent, Item

CATEGORY = "category"
TEXT = "text"


def item_of(event: BehaviorEvent) -> Item:
    """The catalogue entry of an event's item, from the event's place and its context's ``category`` and ``text``.

    >>> item_of(BehaviorEvent(event_id="e", user_id="u", item_id="i", action="checkin", event_time_ms=0,
    ...                       context={"category": "Bar"})).categories
    ['Bar']
    """
    category = event.context.get(CATEGORY)
    return Item(
        item_id=event.item_id,
        text=event.context.get(TEXT) or category or "",
        categories=[category] if category else [],
        lat=event.lat,
        lon=event.lon,
    )


class Catalogue:
    """Remembers which items were announced: ``announce`` gives an item once, at its first event, and none of the ``known``.

    Memory grows with the number of distinct items of the data set.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = set(known)

    def announce(self, event: BehaviorEvent) -> Item | None:
        """The item to publish before this event, None if it is known already. O(1)."""
        if event.item_id in self._known:
            return None
        self._known.add(event.item_id)
        return item_of(event)

    def __len__(self) -> int:
        return len(self._known)
