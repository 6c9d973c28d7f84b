"""Who goes from crowd to crowd: counted anew over the live window, from what each region says of who was in which and when.

Which crowd an event belongs to is known of the window as a whole and changes afterwards, when crowds merge, split and age. So
nothing is carried over: the same window and crowds give the same moves after a restart and whatever the crowds were before.
"""

from collections.abc import Callable, Collection

import msgspec
import numpy as np

from processors.code_index import Ints
from processors.quality import PatternBook, best_of, binomial_significances
from processors.sequence import Moves, moves_between
from schemas.columns import decode_columns, encode_columns
from schemas.patterns import NamedShare, TransitionUpdate
from streams.stages.settings import MATERIAL_SHARE, RegionStageSettings

MS = 1000.0
MAX_TARGETS = 10


class Whereabouts(msgspec.Struct, frozen=True):
    """Who was in which of a region's clusters and when, in columns of one length.

    ``turns`` are the last bits of the events' offsets, which tell the order of a user's events of the same time.
    """

    labels: Ints
    users: Ints
    time_ms: Ints
    turns: np.ndarray

    def pieces(self, rows: int) -> list["Whereabouts"]:
        """Parts of at most ``rows`` rows, at least one."""
        columns = [getattr(self, name) for name in Whereabouts.__struct_fields__]
        starts = range(0, max(len(self.labels), 1), rows)
        return [Whereabouts(*(column[start : start + rows] for column in columns)) for start in starts]


def whereabouts_of(labels: Ints, users: Ints, time_ms: Ints, source: Ints) -> Whereabouts:
    """Whereabouts of points with these sources (partition and offset, of which the last bits are kept)."""
    return Whereabouts(labels, users, time_ms, source.astype(np.uint16))


def pack_whereabouts(found: Whereabouts) -> bytes:
    """Whereabouts as bytes, for ``unpack_whereabouts``."""
    return encode_columns(msgspec.structs.asdict(found))


def unpack_whereabouts(packed: bytes) -> Whereabouts:
    """The whereabouts of ``pack_whereabouts``."""
    return Whereabouts(**{name: np.asarray(column) for name, column in decode_columns(packed).items()})


Packed = dict[int, list[bytes]]


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """A state of moves; ``due`` is missing in those that were written when moves were told with their crowds."""

    book: bytes
    told: set[int]
    new_points: int
    asked_points: int
    heard: Packed
    due: tuple[int, Packed | None] | None = None


class CrowdMoves:
    """The moves between public crowds, told when a fifth of the window's points is new.

    Counting them takes as long as all else of a telling: they are told after its crowds, so that these need not wait.
    A move of fewer different people than the privacy limit is not told, though it counts among those that leave.

    Args:
        id_of: the published id of a crowd.
    """

    def __init__(self, settings: RegionStageSettings, id_of: Callable[[int], str]) -> None:
        self._settings = settings
        self._id_of = id_of
        self._book = PatternBook(settings.max_names)
        self._told: set[int] = set()
        self._new_points = self._asked_points = 0
        self._heard: dict[int, list[Whereabouts]] = {}
        self._due: tuple[int, dict[int, list[Whereabouts]] | None] | None = None

    def __len__(self) -> int:
        return len(self._told)

    @property
    def is_closed(self) -> bool:
        """Whether there is something for ``tell``."""
        return self._due is not None

    def note(self, points: int) -> None:
        """So many points have come into the window."""
        self._new_points += points

    def is_due(self, window_points: int) -> bool:
        """Whether the window has changed enough since the last telling to ask who was where."""
        return self._new_points > 0 and self._new_points >= MATERIAL_SHARE * window_points

    def ask(self) -> None:
        """Reports of who was where are on their way: what comes into the window from now on is new to them."""
        self._asked_points = self._new_points

    def forget(self, region: int) -> None:
        """What a region said of a telling that did not come about."""
        self._heard.pop(region, None)

    def take(self, region: int, found: Whereabouts) -> None:
        """A region's whereabouts, or a piece of them."""
        self._heard.setdefault(region, []).append(found)

    def close(self, now_ms: int, regions: Collection[int]) -> None:
        """A telling is over, in which each of the ``regions`` said who was where, or none did: its moves are due."""
        heard, self._heard = self._heard, {}
        is_whole = bool(regions) and heard.keys() >= set(regions)
        if is_whole:
            self._new_points -= self._asked_points
            self._asked_points = 0
        self._due = now_ms, heard if is_whole else None

    def tell(
        self, public: Collection[int], ids_of: Callable[[int, Ints], Ints], version: int
    ) -> list[TransitionUpdate]:
        """The moves of the latest telling, once; what was told of crowds that are not ``public`` any more is withdrawn.

        ``ids_of`` gives the ids of a region's labels, and must not have changed since. O(whereabouts log whereabouts).
        """
        if self._due is None:
            return []
        (now_ms, heard), self._due = self._due, None
        told: dict[int, TransitionUpdate] = {}
        gone = self._told.difference(public)
        if heard is not None:
            moves = self._moves(heard, public, ids_of)
            told = self._updates(moves, now_ms, version)
            gone = self._told - told.keys()
        self._told = (self._told - gone) | told.keys()
        return [self._withdrawn(one, now_ms, version) for one in sorted(gone)] + list(told.values())

    def _moves(
        self, heard: dict[int, list[Whereabouts]], public: Collection[int], ids_of: Callable[[int, Ints], Ints]
    ) -> Moves:
        parts = [(ids_of(region, found.labels), found) for region in sorted(heard) for found in heard[region]]
        ids = np.concatenate([ids for ids, _ in parts])
        users, time_ms, turns = (
            np.concatenate([getattr(found, name) for _, found in parts]) for name in ("users", "time_ms", "turns")
        )
        told = np.isin(ids, np.fromiter(public, np.int64, len(public)))
        gap_ms = round(self._settings.move_gap_s * MS)
        return moves_between(users[told], ids[told], time_ms[told], turns[told], gap_ms)

    def _updates(self, moves: Moves, now_ms: int, version: int) -> dict[int, TransitionUpdate]:
        """What is to be told of each crowd that enough people leave for the same other one."""
        told = np.flatnonzero(moves.people >= self._settings.min_users)
        told = told[np.lexsort((moves.targets[told], -moves.times[told], moves.sources[told]))]
        sources, first, listed = np.unique(moves.sources[told], return_index=True, return_counts=True)
        (left, totals, ways), (entered, entries, _) = _totals(moves.sources, moves), _totals(moves.targets, moves)
        at = np.searchsorted(left, sources)
        # Nobody goes from a crowd to itself: by chance a target is as frequent as among all other targets.
        others = moves.times.sum() - np.where(np.isin(sources, entered), _at(entries, entered, sources), 0)
        likeliest = told[first]
        share = _at(entries, entered, moves.targets[likeliest]) / others
        raw = binomial_significances(moves.times[likeliest].astype(np.float64), totals[at].astype(np.float64), share)
        targets = [self._id_of(target) for target in moves.targets[told].tolist()]
        shares = (moves.times[told] / np.repeat(totals[at], listed)).tolist()
        claims, columns = moves.targets[likeliest].tolist(), (sources, first, listed, totals[at], ways[at], raw)
        found = {}
        for claim, source, begin, many, total, tried, significance in zip(
            claims, *(column.tolist() for column in columns), strict=True
        ):
            mine = slice(begin, begin + min(many, MAX_TARGETS))
            found[source] = TransitionUpdate(
                state_kind="cluster", from_state=self._id_of(source), version=version, event_time_ms=now_ms,
                next_states=list(map(NamedShare, targets[mine], shares[mine])), total=float(total),
                quality=self._book.record(
                    source, time_s=now_ms / MS, claim=claim, support=float(total),
                    significance=best_of(significance, tried),
                ),
            )  # fmt: skip
        return found

    def _withdrawn(self, crowd: int, now_ms: int, version: int) -> TransitionUpdate:
        self._book.retire(crowd)
        return TransitionUpdate(
            state_kind="cluster", from_state=self._id_of(crowd), version=version, event_time_ms=now_ms, next_states=[],
            total=0.0,
        )  # fmt: skip

    # -- state

    def to_bytes(self) -> bytes:
        """Everything, for ``load``."""
        due = None
        if self._due is not None:
            now_ms, heard = self._due
            due = now_ms, None if heard is None else _packed(heard)
        return msgspec.msgpack.encode(
            (self._book.to_bytes(), sorted(self._told), self._new_points, self._asked_points, _packed(self._heard), due)
        )

    def load(self, data: bytes) -> None:
        """Become the moves of ``to_bytes``."""
        saved = msgspec.msgpack.decode(data, type=_Saved)
        self._book, self._told = PatternBook.from_bytes(saved.book), saved.told
        self._new_points, self._asked_points = saved.new_points, saved.asked_points
        self._heard = _unpacked(saved.heard)
        self._due = None
        if saved.due is not None:
            now_ms, heard = saved.due
            self._due = now_ms, None if heard is None else _unpacked(heard)


def _packed(heard: dict[int, list[Whereabouts]]) -> Packed:
    return {region: [pack_whereabouts(one) for one in found] for region, found in heard.items()}


def _unpacked(packed: Packed) -> dict[int, list[Whereabouts]]:
    return {region: [unpack_whereabouts(one) for one in found] for region, found in packed.items()}


def _totals(states: Ints, moves: Moves) -> tuple[Ints, Ints, Ints]:
    """The distinct states of the moves' pairs, ascending; how often people went there; in how many pairs each is."""
    present, place, pairs = np.unique(states, return_inverse=True, return_counts=True)
    return present, np.bincount(place, moves.times, len(present)).astype(np.int64), pairs


def _at(values: Ints, keys: Ints, wanted: Ints) -> Ints:
    """The value of each wanted key among ascending ones; any value for one that is not there."""
    return values[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] if len(keys) else wanted
