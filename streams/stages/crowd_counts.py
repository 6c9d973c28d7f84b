"""How many visits crowds have in each bin of time: counted by each region for its own points, added up where crowds are told."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from processors.code_index import Ints
from processors.temporal import ClosedBin
from streams.stages.settings import RegionStageSettings

MS = 1000.0
Bins = tuple[int, int]
NO_BINS: Bins = (0, 0)
PackedVisits = tuple[bytes, bytes, bytes]


class VisitCounts(msgspec.Struct, frozen=True):
    """Visits by label and bin (its number since the epoch), in columns of one length; what is not named has none."""

    labels: Ints
    bins: Ints
    counts: Ints


def visits_in(bins: Bins, bin_s: float, labels: Ints, time_ms: Ints) -> VisitCounts:
    """The visits from the first of ``bins`` up to the end, which is not among them. O(points log points).

    >>> found = visits_in((1, 3), 60.0, np.array([7, 7, 7, 8]), np.array([0, 60_000, 119_999, 180_000]))
    >>> found.labels.tolist(), found.bins.tolist(), found.counts.tolist()
    ([7], [1], [2])
    """
    first, end = bins
    at = time_ms // round(bin_s * MS)
    inside = (at >= first) & (at < end)
    pairs, counts = np.unique(labels[inside] * (end - first) + at[inside] - first, return_counts=True)
    label, since_first = np.divmod(pairs, max(end - first, 1))
    return VisitCounts(label, first + since_first, counts.astype(np.int64))


def pack_visits(visits: VisitCounts) -> PackedVisits:
    """Visits as little-endian bytes, for ``unpack_visits``."""
    labels, bins, counts = (column.astype("<i8").tobytes() for column in (visits.labels, visits.bins, visits.counts))
    return labels, bins, counts


def unpack_visits(packed: PackedVisits) -> VisitCounts:
    """The visits of ``pack_visits``."""
    return VisitCounts(*(np.frombuffer(column, "<i8") for column in packed))


class CrowdCounts:
    """The bins of the public crowds, each closed once: at the first look after its end, by the crowds as they are then."""

    def __init__(self, settings: RegionStageSettings) -> None:
        self._settings = settings
        self._counted_to: int | None = None
        self._visits: dict[int, VisitCounts] = {}

    def bins_due(self, now_ms: int) -> Bins:
        """The bins that ended since the last look and are not older than the window, as (first, end)."""
        bin_ms = round(self._settings.forecasts.bin_s * MS)
        end = now_ms // bin_ms
        if self._counted_to is None:
            return end, end
        return max(self._counted_to, end - int(self._settings.window_s * MS) // bin_ms), end

    def take(self, region: int, visits: VisitCounts) -> None:
        """Take a region's visits of ``bins_due`` in place of what it said before."""
        self._visits[region] = visits

    def close(self, now_ms: int, sizes: Mapping[int, int], ids_of: Callable[[int, Ints], Ints]) -> list[ClosedBin]:
        """Close the bins that are due, for the busiest of the crowds of ``sizes`` (id: points). O(crowds and visits).

        ``ids_of`` gives the ids of a region's labels.
        """
        own, (first, end) = self._settings.forecasts, self.bins_due(now_ms)
        visits, self._visits, self._counted_to = self._visits, {}, end
        if first >= end:
            return []
        ids, points = np.array(sorted(sizes), np.int64), np.array([sizes[one] for one in sorted(sizes)], np.int64)
        busiest = np.lexsort((ids, -points))[: own.max_keys]
        keys = np.sort(ids[busiest[points[busiest] >= own.min_events]])
        table = np.zeros((end - first, len(keys)), np.int64)
        for region, found in visits.items():
            key = ids_of(region, found.labels)
            counted = np.isin(key, keys) & (found.bins >= first) & (found.bins < end)
            place = found.bins[counted] - first, np.searchsorted(keys, key[counted])
            np.add.at(table, place, found.counts[counted])
        return [ClosedBin((first + at) * own.bin_s, keys, counts) for at, counts in enumerate(table)]

    def to_bytes(self) -> bytes:
        """Everything, for ``load``."""
        visits = {region: pack_visits(found) for region, found in self._visits.items()}
        return msgspec.msgpack.encode((self._counted_to, visits))

    def load(self, data: bytes) -> None:
        """Become the counts of ``to_bytes``."""
        self._counted_to, visits = msgspec.msgpack.decode(data, type=tuple[int | None, dict[int, PackedVisits]])
        self._visits = {region: unpack_visits(packed) for region, packed in visits.items()}
