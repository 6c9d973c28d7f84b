"""The people and places of crowds, counted apart where a crowd is parted and added up where it is one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from processors.code_index import Ints
from processors.ragged import places_in, starts_of, tallied, tallied_below
from processors.spatial import EARTH_RADIUS_M
from processors.spatial.extents import extents
from processors.spatial.hull import convex_hulls
from streams.stages.packing import pack_arrays, unpack_arrays

HOUR_MS, HOURS_PER_WEEK, EPOCH_SHIFT_H = 3_600_000, 168, 72
MAX_USERS = 4096
VALUES = ("labels", "counts", "x", "y", "z", "spread_m2")
# What is a list in each part: its length there, and the columns that hold it.
LISTS = {
    "n_users": ("users",),
    "n_items": ("items", "item_counts"),
    "n_hours": ("hours", "hour_counts"),
    "n_corners": ("corner_lat", "corner_lon"),
}
_WHOLE, _REAL = np.int64, np.float64
KINDS = {
    "labels": _WHOLE, "counts": _WHOLE, "x": _REAL, "y": _REAL, "z": _REAL, "spread_m2": _REAL,
    "n_users": _WHOLE, "users": _WHOLE, "n_items": _WHOLE, "items": _WHOLE, "item_counts": _WHOLE,
    "n_hours": _WHOLE, "hours": _WHOLE, "hour_counts": _WHOLE,
    "n_corners": _WHOLE, "corner_lat": _REAL, "corner_lon": _REAL,
}  # fmt: skip


class CrowdParts(msgspec.Struct, frozen=True):
    """Some points of each of many crowds, a row for each: rows that share no point add up to the part of all of them.

    ``x``, ``y``, ``z`` are the sums of the points' unit vectors, ``spread_m2`` sums the squared distances from their centre. The
    lists of all rows lie one behind the other, ``n_…`` says how long each is: ``users`` are the ``MAX_USERS`` smallest distinct
    user codes, ascending, ``items`` the distinct items and ``hours`` the hours of the week with how often each occurs, the
    corners those of the convex hull. All columns are int64 or float64.
    """

    labels: Ints
    counts: Ints
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    spread_m2: np.ndarray
    n_users: Ints
    users: Ints
    n_items: Ints
    items: Ints
    item_counts: Ints
    n_hours: Ints
    hours: Ints
    hour_counts: Ints
    n_corners: Ints
    corner_lat: np.ndarray
    corner_lon: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> Ints:
        """About what each row takes in a record."""
        lists = sum(getattr(self, length) * len(columns) for length, columns in LISTS.items())
        return 8 * (len(VALUES) + len(LISTS) + lists)

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean directions (lat, lon in degrees), right across the date line and at the poles."""
        return _centres(self.x, self.y, self.z)

    @property
    def distinct_users(self) -> Ints:
        """Exact below ``MAX_USERS``, beyond it estimated from where the largest kept code lies (codes are uniform)."""
        many = np.flatnonzero(self.n_users == MAX_USERS)
        if not len(many):
            return self.n_users
        largest = self.users[starts_of(self.n_users)[many] + MAX_USERS - 1]
        numbers = self.n_users.copy()
        numbers[many] = np.round((MAX_USERS - 1) * 2.0**63 / largest)
        return numbers

    def select(self, rows: Ints) -> "CrowdParts":
        """These rows, as copies. O(what is in them)."""
        columns = {name: getattr(self, name)[rows] for name in VALUES}
        for length, lists in LISTS.items():
            lengths = getattr(self, length)
            columns[length] = lengths[rows]
            at = places_in(starts_of(lengths)[rows], columns[length])
            columns |= {name: getattr(self, name)[at] for name in lists}
        return CrowdParts(**columns)


class SomeParts(msgspec.Struct, frozen=True):
    """Some ``rows`` of a region's parts, and the ``crowds`` that they are parts of, in columns of one length."""

    parts: CrowdParts
    rows: Ints
    crowds: Ints


class CrowdSums(msgspec.Struct, frozen=True):
    """How many points crowds have, and the sums of their unit vectors."""

    labels: Ints
    counts: Ints
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean directions (lat, lon in degrees)."""
        return _centres(self.x, self.y, self.z)


NO_LABELS = np.empty(0, np.int64)
NO_PARTS = CrowdParts(**{name: np.empty(0, kind) for name, kind in KINDS.items()})


def parts_of(labels: Ints, points: Mapping[str, np.ndarray], start: Ints) -> CrowdParts:
    """The part that each run of points makes (columns user, item, time_ms, lat, lon), none of them empty.

    ``start`` int64[parts], ascending from 0, are the runs' first points. O(points log points).
    """
    if not len(start):
        return NO_PARTS
    lat, lon = points["lat"], points["lon"]
    counts = np.diff(np.append(start, len(lat)))
    hour = (points["time_ms"] // HOUR_MS + EPOCH_SHIFT_H) % HOURS_PER_WEEK
    users, _, n_users = tallied(points["user"], counts, at_most=MAX_USERS)
    items, item_counts, n_items = tallied(points["item"], counts)
    hours, hour_counts, n_hours = tallied_below(HOURS_PER_WEEK, hour, counts)
    extent = extents(lat, lon, start)
    return CrowdParts(
        labels=labels, counts=counts, x=extent.x, y=extent.y, z=extent.z, spread_m2=extent.spread_m2,
        n_users=n_users, users=users, n_items=n_items, items=items, item_counts=item_counts,
        n_hours=n_hours, hours=hours, hour_counts=hour_counts,
        n_corners=extent.n_corners, corner_lat=lat[extent.corners], corner_lon=lon[extent.corners],
    )  # fmt: skip


def joined(parts: Sequence[CrowdParts]) -> CrowdParts:
    """The rows of several, one behind the other."""
    some = [each for each in parts if len(each)]
    if len(some) < 2:
        return some[0] if some else NO_PARTS
    return CrowdParts(**{name: np.concatenate([getattr(each, name) for each in some]) for name in KINDS})


def sums_of(found: Sequence[SomeParts]) -> CrowdSums:
    """The sums of each crowd that there are parts of, ascending. O(parts log parts), whatever is in them."""
    labels = np.concatenate([NO_LABELS, *(some.crowds for some in found)])
    order = np.argsort(labels, kind="stable")
    present, start = np.unique(labels[order], return_index=True)
    sums = []
    for name in CrowdSums.__struct_fields__[1:]:
        column = np.concatenate([getattr(NO_PARTS, name), *(getattr(some.parts, name)[some.rows] for some in found)])
        sums.append(np.add.reduceat(column[order], start) if len(start) else column)
    return CrowdSums(present, *sums)


def crowds_of(found: Sequence[SomeParts], wanted: Ints) -> CrowdParts:
    """A row for each of the ``wanted`` crowds: the part of all points of its parts. O(what is in them)."""
    some = []
    for each in found:
        rows = np.flatnonzero(np.isin(each.crowds, wanted))
        some.append(msgspec.structs.replace(each.parts.select(each.rows[rows]), labels=each.crowds[rows]))
    parts = joined(some)
    return added(parts.select(np.argsort(parts.labels, kind="stable")))


def added(parts: CrowdParts) -> CrowdParts:
    """A row for each label: the part of all points of its rows, which lie one behind the other. O(what is in them)."""
    start = np.flatnonzero(np.append(True, parts.labels[1:] != parts.labels[:-1])) if len(parts) else parts.labels
    rows = np.diff(np.append(start, len(parts)))
    single, several = start[rows == 1], np.flatnonzero(rows > 1)
    if not len(several):
        return parts
    whole = _summed(parts.select(places_in(start[several], rows[several])), rows[several])
    both = joined([parts.select(single), whole])
    return both.select(np.argsort(np.append(np.flatnonzero(rows == 1), several), kind="stable"))


def _summed(parts: CrowdParts, rows: Ints) -> CrowdParts:
    """What so many rows one behind the other add up to."""
    start = starts_of(rows)
    lengths = {length: np.add.reduceat(getattr(parts, length), start) for length in LISTS}
    users, _, n_users = tallied(parts.users, lengths["n_users"], at_most=MAX_USERS)
    items, item_counts, n_items = tallied(parts.items, lengths["n_items"], parts.item_counts)
    hours, hour_counts, n_hours = tallied(parts.hours, lengths["n_hours"], parts.hour_counts)
    x, y, z = (np.add.reduceat(each, start) for each in (parts.x, parts.y, parts.z))
    centre = _centres(x, y, z)
    north_m, east_m = offsets_m((np.repeat(centre[0], rows), np.repeat(centre[1], rows)), *parts.centres)
    around = np.repeat(centre[0], lengths["n_corners"]), np.repeat(centre[1], lengths["n_corners"])
    up_m, right_m = offsets_m(around, parts.corner_lat, parts.corner_lon)
    corners, n_corners = convex_hulls(right_m.round(1), up_m.round(1), starts_of(lengths["n_corners"]))
    return CrowdParts(
        labels=parts.labels[start], counts=np.add.reduceat(parts.counts, start), x=x, y=y, z=z,
        spread_m2=np.add.reduceat(parts.spread_m2 + parts.counts * (north_m**2 + east_m**2), start),
        n_users=n_users, users=users, n_items=n_items, items=items, item_counts=item_counts,
        n_hours=n_hours, hours=hours, hour_counts=hour_counts,
        n_corners=n_corners, corner_lat=parts.corner_lat[corners], corner_lon=parts.corner_lon[corners],
    )  # fmt: skip


def _centres(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def offsets_m(centre: tuple[np.ndarray, np.ndarray], lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(north, east) of a centre for each place, in metres, for what is near it."""
    north_m = np.radians(lat - centre[0]) * EARTH_RADIUS_M
    east = np.radians((lon - centre[1] + 180.0) % 360.0 - 180.0)
    return north_m, east * (EARTH_RADIUS_M * np.cos(np.radians(centre[0])))


def pack_parts(parts: CrowdParts) -> bytes:
    """Parts as bytes, for ``unpack_parts``."""
    return pack_arrays({name: getattr(parts, name) for name in KINDS})


def unpack_parts(packed: bytes) -> CrowdParts:
    """The parts of ``pack_parts``."""
    return CrowdParts(**unpack_arrays(packed))


def unpack_listed(listed: Iterable[tuple[int, Sequence[Any]]]) -> CrowdParts:
    """The parts of states and reports that were written when each was packed by itself, with its label."""
    return joined([_unpack_one(label, packed) for label, packed in listed])


def _unpack_one(label: int, packed: Sequence[Any]) -> CrowdParts:
    count, (x, y, z), spread_m2, *columns, hull = packed
    users, items, item_counts, week = (np.frombuffer(column, "<i8").astype(np.int64) for column in columns)
    hours, corners = np.flatnonzero(week), np.array(hull, np.float64).reshape(-1, 2)
    lengths = {"n_users": users, "n_items": items, "n_hours": hours, "n_corners": corners}
    return CrowdParts(
        labels=np.full(1, label), counts=np.full(1, count), x=np.full(1, x), y=np.full(1, y), z=np.full(1, z),
        spread_m2=np.full(1, spread_m2, np.float64), users=users, items=items, item_counts=item_counts, hours=hours,
        hour_counts=week[hours], corner_lat=corners[:, 0], corner_lon=corners[:, 1],
        **{name: np.full(1, len(column)) for name, column in lengths.items()},
    )  # fmt: skip
