"""Which consumed offsets may be committed: those whose recommendations every sink has confirmed."""

from collections import defaultdict
from collections.abc import Collection, Hashable
from typing import NamedTuple

TOPIC = 1
REDIS = 2


class Source(NamedTuple):
    """A topic partition that records are consumed from."""

    topic: str
    partition: int


class _Flight:
    """One version on its way to the sinks, and the first offset that waits for it."""

    __slots__ = ("key", "offset", "source", "version", "waits_for")

    def __init__(self, version: int, source: Source, offset: int, key: Hashable, waits_for: int) -> None:
        self.version, self.source, self.offset, self.key, self.waits_for = version, source, offset, key, waits_for


class OffsetLedger:
    """Books what each consumed record is owed, so that a crash can only repeat work and never lose it.

    A record *owes* a recommendation under a key (its user, or a request's id); a dispatched version covers all that its key
    owes; a version is settled when each sink it was sent to has confirmed it or a later one of the same user. All calls are
    O(1) but ``committable``, which is O(what is open).

    >>> ledger, events = OffsetLedger(), Source("events", 0)
    >>> ledger.consumed(events, 7); ledger.owe(events, 7, "ann")
    >>> ledger.dispatched("ann", "ann", version=1, waits_for=TOPIC | REDIS)
    >>> ledger.confirmed("ann", 1, TOPIC); ledger.committable()[events]
    7
    >>> ledger.confirmed("ann", 1, REDIS); ledger.committable()[events]
    8
    """

    MAX_FLIGHTS_PER_USER = 8

    def __init__(self) -> None:
        self._next: dict[Source, int] = {}
        self._owed: dict[Source, dict[Hashable, int]] = defaultdict(dict)
        self._source_of: dict[Hashable, Source] = {}
        self._flights: dict[str, list[_Flight]] = {}

    def consumed(self, source: Source, offset: int) -> None:
        """The record at ``offset`` was taken from the topic."""
        self._next[source] = offset + 1

    def owe(self, source: Source, offset: int, key: Hashable) -> None:
        """A recommendation that reflects this record is owed under ``key``."""
        self._owed[source].setdefault(key, offset)
        self._source_of[key] = source

    def dispatched(self, key: Hashable, user_id: str, version: int, waits_for: int) -> None:
        """``version`` of the user is on its way to the sinks in ``waits_for`` and covers all that ``key`` owes."""
        source = self._source_of.pop(key, None)
        if source is None:
            return
        offset = self._owed[source].pop(key)
        flights = self._flights.setdefault(user_id, [])
        last = flights[-1] if flights else None
        if last is not None and len(flights) >= self.MAX_FLIGHTS_PER_USER and last.source == source:
            # A sink is down: only the newest version will reach it, the oldest offset waits for that one.
            last.version, last.waits_for, last.key = version, last.waits_for | waits_for, key
            return
        flights.append(_Flight(version, source, offset, key, waits_for))

    def forgive(self, key: Hashable) -> None:
        """Nothing is owed under this key any more (nobody waits for it)."""
        source = self._source_of.pop(key, None)
        if source is not None:
            del self._owed[source][key]

    def confirmed(self, user_id: str, version: int, sink: int) -> None:
        """``sink`` holds ``version`` of the user, or a later one."""
        flights = self._flights.get(user_id)
        if flights is None:
            return
        for flight in flights:
            if flight.version <= version:
                flight.waits_for &= ~sink
        open_flights = [flight for flight in flights if flight.waits_for]
        if open_flights:
            self._flights[user_id] = open_flights
        else:
            del self._flights[user_id]

    def failed(self, user_id: str, version: int) -> list[Hashable]:
        """``version`` will never be confirmed: what it covered is owed again, under the keys returned."""
        flights = self._flights.pop(user_id, [])
        lost = [flight for flight in flights if flight.version == version]
        kept = [flight for flight in flights if flight.version != version]
        if kept:
            self._flights[user_id] = kept
        for flight in lost:
            owed = self._owed[flight.source]
            owed[flight.key] = min(flight.offset, owed.get(flight.key, flight.offset))
            self._source_of[flight.key] = flight.source
        return [flight.key for flight in lost]

    def committable(self) -> dict[Source, int]:
        """The next offset of each source before which everything is settled."""
        result = dict(self._next)
        for source, owed in self._owed.items():
            if owed and source in result:
                result[source] = min(result[source], min(owed.values()))
        for flights in self._flights.values():
            for flight in flights:
                if flight.source in result:
                    result[flight.source] = min(result[flight.source], flight.offset)
        return result

    def drop(self, sources: Collection[Source]) -> None:
        """Forget the sources that another instance owns now."""
        for source in sources:
            self._next.pop(source, None)
            for key in self._owed.pop(source, {}):
                self._source_of.pop(key, None)
        self._flights = {
            user: kept
            for user, flights in self._flights.items()
            if (kept := [flight for flight in flights if flight.source not in sources])
        }

    def __len__(self) -> int:
        """Recommendations that are owed or on their way."""
        return sum(map(len, self._owed.values())) + sum(map(len, self._flights.values()))
