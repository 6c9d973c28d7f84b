"""The people and places of a crowd, counted apart where it is parted and added up where it is one."""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from processors.code_index import Ints
from processors.spatial import EARTH_RADIUS_M
from processors.spatial.hull import convex_hull, convex_hulls

HOUR_MS, HOURS_PER_WEEK, EPOCH_SHIFT_H = 3_600_000, 168, 72
MAX_USERS = 4096


class CrowdPart(msgspec.Struct, frozen=True):
    """Some points of a crowd: parts that share no point add up to the part of all of them.

    ``direction`` is the sum of the points' unit vectors, ``spread_m2`` the sum of the squared distances from their centre,
    ``users`` the ``MAX_USERS`` smallest distinct user codes, ascending, ``hull`` the corners of the convex hull.
    """

    count: int
    direction: tuple[float, float, float]
    spread_m2: float
    users: Ints
    items: Ints
    item_counts: Ints
    hours: Ints
    hull: list[tuple[float, float]]

    @property
    def nbytes(self) -> int:
        """About what it takes in a record."""
        columns = (self.users, self.items, self.item_counts, self.hours)
        return sum(column.nbytes for column in columns) + 18 * len(self.hull)

    @property
    def centre(self) -> tuple[float, float]:
        """The mean direction (degrees), right across the date line and at the poles."""
        x, y, z = self.direction
        return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))

    @property
    def distinct_users(self) -> int:
        """Exact below ``MAX_USERS``, beyond it estimated from where the largest kept code lies (codes are uniform)."""
        kept = len(self.users)
        return kept if kept < MAX_USERS else round((kept - 1) * 2.0**63 / float(self.users[-1]))


def parts_of(points: Mapping[str, np.ndarray], start: Ints) -> list[CrowdPart]:
    """The part that each run of points makes (columns user, item, time_ms, lat, lon), none of them empty.

    ``start`` int64[parts], ascending from 0, are the runs' first points. What can be is computed of all of them at once: most
    crowds are small, and a call costs more than its work. O(points log points).
    """
    if not len(start):
        return []
    lat, lon = points["lat"], points["lon"]
    count = np.diff(np.append(start, len(lat)))
    phi, theta = np.radians(lat), np.radians(lon)
    flat = np.cos(phi)
    x, y, z = (np.add.reduceat(each, start) for each in (flat * np.cos(theta), flat * np.sin(theta), np.sin(phi)))
    centre = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
    north_m, east_m = offsets_m((np.repeat(centre[0], count), np.repeat(centre[1], count)), lat, lon)
    spread_m2 = np.add.reduceat(north_m**2 + east_m**2, start)
    hour = (points["time_ms"] // HOUR_MS + EPOCH_SHIFT_H) % HOURS_PER_WEEK
    week = np.repeat(np.arange(len(start)) * HOURS_PER_WEEK, count)
    hours = np.bincount(week + hour, minlength=len(start) * HOURS_PER_WEEK).reshape(-1, HOURS_PER_WEEK)
    users, (items, item_counts) = _distinct(points["user"], start)[0], _distinct(points["item"], start)
    corners = convex_hulls(east_m.round(1), north_m.round(1), start)
    hulls = [list(zip(lat[at].tolist(), lon[at].tolist(), strict=True)) for at in corners]
    direction = zip(x.tolist(), y.tolist(), z.tolist(), strict=True)
    columns = (count.tolist(), direction, spread_m2.tolist(), users, items, item_counts, hours, hulls)
    # Copies: a part must not keep the columns of all others.
    return [
        CrowdPart(number, towards, spread, who[:MAX_USERS].copy(), what.copy(), often.copy(), week.copy(), hull)
        for number, towards, spread, who, what, often, week, hull in zip(*columns, strict=True)
    ]


def _distinct(codes: Ints, start: Ints) -> tuple[list[Ints], list[Ints]]:
    """The distinct codes of each run, ascending, and how often each occurs there."""
    run = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(codes))))
    ordered = codes[np.lexsort((codes, run))]
    new = np.append(True, (ordered[1:] != ordered[:-1]) | (run[1:] != run[:-1]))
    first = np.flatnonzero(new)
    bounds = np.cumsum(np.add.reduceat(new, start, dtype=np.int64))[:-1]
    return np.split(ordered[first], bounds), np.split(np.diff(np.append(first, len(ordered))), bounds)


def added(parts: Sequence[CrowdPart]) -> CrowdPart:
    """The part of all points of several parts (at least one), none of which share a point."""
    if len(parts) == 1:
        return parts[0]
    total = np.sum([part.direction for part in parts], axis=0).tolist()
    items, place = np.unique(np.concatenate([part.items for part in parts]), return_inverse=True)
    counts = np.bincount(place, np.concatenate([part.item_counts for part in parts]), len(items))
    corners = np.array([corner for part in parts for corner in part.hull])
    whole = CrowdPart(
        sum(part.count for part in parts), tuple(total), 0.0,
        np.unique(np.concatenate([part.users for part in parts]))[:MAX_USERS], items, counts.astype(np.int64),
        np.sum([part.hours for part in parts], axis=0), [],
    )  # fmt: skip
    lat, lon = np.array([part.centre for part in parts]).T
    north_m, east_m = offsets_m(whole.centre, lat, lon)
    apart_m2 = float((np.array([part.count for part in parts]) * (north_m**2 + east_m**2)).sum())
    return msgspec.structs.replace(
        whole,
        spread_m2=sum(part.spread_m2 for part in parts) + apart_m2,
        hull=hull_of(corners[:, 0], corners[:, 1], *offsets_m(whole.centre, corners[:, 0], corners[:, 1])),
    )


def offsets_m(
    centre: tuple[float | np.ndarray, float | np.ndarray], lat: np.ndarray, lon: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(north, east) of a centre in metres, for what is near it; ``centre`` is one for all or one for each."""
    north_m = np.radians(lat - centre[0]) * EARTH_RADIUS_M
    east = np.radians((lon - centre[1] + 180.0) % 360.0 - 180.0)
    return north_m, east * (EARTH_RADIUS_M * np.cos(np.radians(centre[0])))


def distance_m(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """How far two places are apart that are near each other."""
    east = math.radians((lon - other_lon + 180.0) % 360.0 - 180.0) * math.cos(math.radians(other_lat))
    return math.hypot(math.radians(lat - other_lat), east) * EARTH_RADIUS_M


def hull_of(lat: np.ndarray, lon: np.ndarray, north_m: np.ndarray, east_m: np.ndarray) -> list[tuple[float, float]]:
    """The corners of the convex hull, to a tenth of a metre; both ends of points on one line."""
    at = convex_hull(east_m.round(1), north_m.round(1))
    return list(zip(lat[at].tolist(), lon[at].tolist(), strict=True))


def pack_part(part: CrowdPart) -> tuple[object, ...]:
    """A part as plain values, for ``unpack_part``: its columns as little-endian bytes."""
    values = (getattr(part, name) for name in CrowdPart.__struct_fields__)
    return tuple(value.astype("<i8").tobytes() if isinstance(value, np.ndarray) else value for value in values)


def unpack_part(packed: Sequence[object]) -> CrowdPart:
    """The part of ``pack_part``."""
    count, direction, spread_m2, *columns, hull = packed
    arrays = (np.frombuffer(column, "<i8") for column in columns)  # type: ignore[call-overload]
    corners = [(float(lat), float(lon)) for lat, lon in hull]  # type: ignore[attr-defined]
    return CrowdPart(count, tuple(direction), spread_m2, *arrays, corners)  # type: ignore[arg-type,call-arg]
