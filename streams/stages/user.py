"""The user stage: what one partition of the event topic says about its users, and what the other stages need of it."""

import numpy as np

from processors.profile import UserProfiles
from processors.quality import PatternBook
from processors.sequence import NO_STATE, TransitionCounts
from schemas.patterns import Pattern
from schemas.topics import INTERNAL_PLACE, INTERNAL_REGION, INTERNAL_UNION
from streams.stages.admission import Admission
from streams.stages.coded_ids import CodedIds
from streams.stages.columns import EventColumns, decode_events
from streams.stages.growth import GrowthLedger
from streams.stages.internal import Origin, batch_for, route
from streams.stages.last_items import Before, LastItems
from streams.stages.names import Names
from streams.stages.output import Routed, StageOutput
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.pair_names import PairNames
from streams.stages.periodicity import PeriodWatch
from streams.stages.private_places import PrivatePlaces
from streams.stages.region import UNION_PARTITION
from streams.stages.settings import MiningSettings
from streams.stages.tiles import Regions
from streams.stages.transition_rows import route_transitions, transition_rows
from streams.stages.user_messages import personal_transitions, profile_updates

MS = 1000.0
SOLAR_DEGREES_PER_HOUR = 15.0


class UserStage:
    """Validated events of one source partition: admitted once, absorbed per user, and passed on in columns.

    ``apply`` must be given the partition's events in offset order, each once; ``absorbed_offset`` says how far it has come.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        own = settings.user
        self.settings = settings
        self.partition = partition
        self.absorbed_offset = -1
        self.names = Names(4 * own.max_users)
        self.pairs = PairNames(2 * own.periodicity.max_keys)
        self.admission = Admission(own.admission)
        self.last_items = LastItems(own.max_users)
        self.regions = Regions(settings.region.eps_m, settings.partitions)
        self.private = PrivatePlaces(settings.private_categories, 4 * own.max_users)
        self.transitions = TransitionCounts(own.transitions)
        self.transition_ledger = GrowthLedger(
            min_support=own.min_support, growth=own.growth, at_most=own.at_most, max_keys=2 * own.periodicity.max_keys
        )
        self.transition_book = PatternBook(own.max_published)
        self.profiles = UserProfiles(own.profile)
        self.profile_ledger = GrowthLedger(
            min_support=own.profile_min_events, growth=1.0, at_most=own.profile_at_most, max_keys=2 * own.max_users
        )
        self.profile_book = PatternBook(own.max_published)
        self.user_periods = PeriodWatch(own.periodicity, self._name_of_user)
        self.user_item_periods = PeriodWatch(own.periodicity, self._names_of_pair)
        self._turns = (self.user_item_periods, self.user_periods)
        self._caught_up = False

    # -- learning

    def apply(self, events: EventColumns, last_offset: int, caught_up: bool = False, sent_ms: int = 0) -> StageOutput:
        """Absorb the events up to ``last_offset``; ``caught_up`` says that the partition has no more for now. O(events).

        ``sent_ms`` is the wall clock that the stages behind are told, 0 for none.
        """
        self.names.learn(events.names)
        late, repeated = self.admission.admit(events.time_ms, events.user, events.event_hash)
        admitted = events if not (late.any() or repeated.any()) else events.select(~(late | repeated))
        counts = {"admitted": len(admitted), "late": int(late.sum()), "repeated": int(repeated.sum())}
        self.absorbed_offset = last_offset
        if not len(admitted):
            return StageOutput(routed=self.announce(caught_up, sent_ms), late=events.offset[late], counts=counts)
        self.private.learn(admitted.item, admitted.category)
        before = self.last_items.advance(admitted.user, admitted.item, admitted.category, admitted.time_ms)
        # What a profile prefers is held against what everybody does, these events included: transitions first.
        patterns = self._learn_transitions(admitted, before) + self._learn_profiles(admitted)
        counts["evicted_periods"] = self._learn_periods(admitted)
        counts["evicted_users"] = len(self.last_items.forget_surplus())
        return StageOutput(
            patterns=patterns, routed=self._routed(admitted, before, caught_up, sent_ms), late=events.offset[late],
            counts=counts,
        )  # fmt: skip

    def examine(self, budget: int) -> list[Pattern]:
        """Look for changed periods among the keys that may have some, at most ``budget`` of them; milliseconds per key."""
        first, second = self._turns = self._turns[::-1]
        half = max(-(-budget // 2), budget - second.untested)
        spent, version = min(half, first.untested), self.absorbed_offset
        return first.examine(spent, version) + second.examine(budget - spent, version)

    @property
    def event_time_s(self) -> float | None:
        """The latest event time of the partition's clock, None before the first event."""
        return self.admission.clock_s

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        return {
            "users": len(self.last_items),
            "profiles": len(self.profiles),
            "names": len(self.names),
            "transitions": self.transitions.n_transitions,
            "periodic_keys": len(self.user_periods.bank) + len(self.user_item_periods.bank),
        }

    @property
    def untested(self) -> int:
        """An upper bound of the keys that ``examine`` may find worth it."""
        return self.user_periods.untested + self.user_item_periods.untested

    def _learn_profiles(self, admitted: EventColumns) -> list[Pattern]:
        solar_hours = np.round(np.nan_to_num(admitted.lon) / SOLAR_DEGREES_PER_HOUR)
        self.profiles.learn(
            admitted.user, admitted.time_ms / MS, admitted.item, weights=admitted.weight, categories=admitted.category,
            lat=admitted.lat, lon=admitted.lon, utc_offset_s=3600.0 * solar_hours,
        )  # fmt: skip
        due, now_s = self.profile_ledger.due(admitted.user).tolist(), float(admitted.time_ms.max()) / MS
        profiles = self.profiles.profiles(due, now_s)
        return list(profile_updates(profiles, self.transitions, self.profile_book, self.names, self.absorbed_offset))

    def _learn_transitions(self, admitted: EventColumns, before: Before) -> list[Pattern]:
        last = before.last
        contexts, time_s = np.stack([before.previous, last], axis=1), admitted.time_ms / MS
        self.transitions.update(contexts, admitted.item, time_s, owners=admitted.user)
        follows = last != NO_STATE
        due = self.transition_ledger.due(self.pairs.keys(admitted.user[follows], last[follows]))
        return list(
            personal_transitions(
                self.transitions, self.transition_book, self.names, self.pairs, due, self.transition_ledger.seen(due),
                float(time_s.max()), self.absorbed_offset,
            )
        )  # fmt: skip

    def _learn_periods(self, admitted: EventColumns) -> int:
        time_s = admitted.time_ms / MS
        evicted = self.user_periods.update(admitted.user, time_s)
        return evicted + self.user_item_periods.update(self.pairs.keys(admitted.user, admitted.item), time_s)

    def _name_of_user(self, code: int) -> dict[str, str] | None:
        name = self.names.get(code)
        return None if name is None else {"entity_kind": "user", "entity": name, "user_id": name}

    def _names_of_pair(self, key: int) -> dict[str, str] | None:
        user, item = (self.names.get(code) for code in self.pairs.of(key) or (NO_STATE, NO_STATE))
        if user is None or item is None:
            return None
        return {"entity_kind": "user_item", "entity": f"{user}\x1f{item}", "user_id": user, "item_id": item}

    # -- passing on

    def announce(self, caught_up: bool, sent_ms: int = 0) -> list[Routed]:
        """Empty batches that tell the stages in time order how far this partition has come."""
        ints, floats = np.empty(0, np.int64), np.empty(0)
        nothing = EventColumns(ints, ints, ints, ints, ints, ints, floats, floats, floats, CodedIds.of({}))
        return self._routed(nothing, Before(*(ints for _ in Before._fields)), caught_up, sent_ms)

    def tick(self, sent_ms: int) -> list[Routed]:
        """An empty batch that tells the stage of crowds what time it is: it tells of crowds now and then, events or not."""
        ints, floats = np.empty(0, np.int64), np.empty(0)
        columns = {"origin_offset": ints, "time_ms": ints, "user": ints, "item": ints, "lat": floats, "lon": floats}
        topic, partition = (INTERNAL_REGION, 0) if self.settings.partitions == 1 else (INTERNAL_UNION, UNION_PARTITION)
        origin = self._origin(self._caught_up, sent_ms, quiet=True)
        return [batch_for(topic, partition, ints, columns, (), self.names, origin)]

    def _origin(self, caught_up: bool, sent_ms: int, quiet: bool = False) -> Origin:
        return Origin(self.partition, self.admission.clock_ms, caught_up, self.absorbed_offset, sent_ms, quiet)

    def _routed(self, admitted: EventColumns, before: Before, caught_up: bool, sent_ms: int) -> list[Routed]:
        partitions = self.settings.partitions
        self._caught_up, origin = caught_up, self._origin(caught_up, sent_ms)
        everything: dict[str, np.ndarray] = {
            "origin_offset": admitted.offset, "time_ms": admitted.time_ms, "user": admitted.user, "item": admitted.item,
        }  # fmt: skip
        public = ~self.private.contains(admitted.item)
        follows = transition_rows(admitted, before, public, self.private.contains)
        placed = np.flatnonzero(public & ~np.isnan(admitted.lat))
        positions = {name: column[placed] for name, column in everything.items()}
        positions |= {"lat": admitted.lat[placed], "lon": admitted.lon[placed]}
        place, every = self._by_place(everything | {"category": admitted.category}, public), range(partitions)
        target = place.pop("target")
        return [
            *route_transitions(follows, partitions, names=self.names, origin=origin),
            *self._by_region(positions, origin),
            *route(INTERNAL_PLACE, target, place, every, named=("item", "category"), names=self.names, origin=origin),
        ]

    def _by_region(self, positions: dict[str, np.ndarray], origin: Origin) -> list[Routed]:
        """The positions for each region that owns them or lies within two radii of them, and all of them for the union."""
        every = np.arange(len(positions["time_ms"]))
        if self.settings.partitions == 1:
            return [batch_for(INTERNAL_REGION, 0, every, positions, ("item",), self.names, origin)]
        near = self.regions.near(positions["lat"], positions["lon"], 2 * self.settings.region.eps_m)
        return [
            batch_for(INTERNAL_UNION, UNION_PARTITION, every, positions, ("item",), self.names, origin),
            *(
                batch_for(INTERNAL_REGION, region, np.flatnonzero(near[:, region]), positions, (), self.names, origin)
                for region in range(self.settings.partitions)
            ),
        ]

    def _by_place(self, columns: dict[str, np.ndarray], public: np.ndarray) -> dict[str, np.ndarray]:
        """A row for the partition of each event's item, and one for that of its category where that is another one."""
        chosen = np.flatnonzero(public)
        item, category, partitions = columns["item"][chosen], columns["category"][chosen], self.settings.partitions
        apart = (category % partitions != item % partitions) & (category != NO_STATE)
        twice = np.repeat(np.arange(len(chosen)), 1 + apart)
        first = np.concatenate([[True], twice[1:] != twice[:-1]])[: len(twice)]
        placed = {name: column[chosen[twice]] for name, column in columns.items()}
        item, category, apart = item[twice], category[twice], apart[twice]
        placed["target"] = np.where(first, item, category) % partitions
        placed["item"] = np.where(first, item, NO_STATE)
        placed["category"] = np.where(first & apart, NO_STATE, category)
        return placed

    # -- state

    def replay(self, first: int, last: int, payload: bytes) -> None:
        """Absorb a chunk that ``encode_events`` wrote; what it gives was emitted before."""
        del first
        self.apply(decode_events(payload), last)

    def to_bytes(self) -> bytes:
        """The whole state of the partition."""
        return pack_blobs(
            {
                "offset": pack_arrays({"absorbed": np.array([self.absorbed_offset])}),
                "names": self.names.to_bytes(),
                "pairs": pack_arrays(self.pairs.state()),
                "admission": pack_arrays(self.admission.state()),
                "last_items": pack_arrays(self.last_items.state()),
                "private": pack_arrays(self.private.state()),
                "transitions": self.transitions.to_bytes(),
                "transition_ledger": pack_arrays(self.transition_ledger.state()),
                "transition_book": self.transition_book.to_bytes(),
                "profiles": self.profiles.to_bytes(),
                "profile_ledger": pack_arrays(self.profile_ledger.state()),
                "profile_book": self.profile_book.to_bytes(),
                "user_periods": self.user_periods.to_bytes(),
                "user_item_periods": self.user_item_periods.to_bytes(),
            }
        )

    def load(self, data: bytes) -> None:
        """Become the stage of ``to_bytes``. Raises ValueError or msgspec.DecodeError if ``data`` is something else."""
        blobs, own = unpack_blobs(data), self.settings.user
        self.absorbed_offset = int(unpack_arrays(blobs["offset"])["absorbed"][0])
        self.names = Names.from_bytes(self.names.max_names, blobs["names"])
        self.pairs.load(unpack_arrays(blobs["pairs"]))
        self.admission = Admission.from_state(own.admission, unpack_arrays(blobs["admission"]))
        self.last_items = LastItems.from_state(own.max_users, unpack_arrays(blobs["last_items"]))
        if "private" in blobs:  # states written before there were private places
            self.private.load(unpack_arrays(blobs["private"]))
        self.transitions = TransitionCounts.from_bytes(blobs["transitions"])
        self.transition_ledger.load(unpack_arrays(blobs["transition_ledger"]))
        if "transition_book" in blobs:  # states written before patterns had lives
            self.transition_book = PatternBook.from_bytes(blobs["transition_book"])
            self.profile_book = PatternBook.from_bytes(blobs["profile_book"])
        self.profiles = UserProfiles.from_bytes(blobs["profiles"])
        self.profile_ledger.load(unpack_arrays(blobs["profile_ledger"]))
        self.user_periods.load(blobs["user_periods"])
        self.user_item_periods.load(blobs["user_item_periods"])
