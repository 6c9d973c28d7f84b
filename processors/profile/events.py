"""The checked columns that a bank of profiles learns from."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from processors.sequence import NO_STATE


class ProfileEvents:
    """The columns of a batch, all of one length. Raises what ``UserProfiles.update`` promises."""

    def __init__(
        self,
        users: Any,
        time_s: Any,
        items: Any,
        weights: Any,
        categories: Any,
        clusters: Any,
        lat: Any,
        lon: Any,
        utc_offset_s: Any,
    ) -> None:
        n = len(users)
        self.users, self.items = _codes("users", users, n), _codes("items", items, n)
        self.categories, self.clusters = _codes("categories", categories, n), _codes("clusters", clusters, n)
        self.time_s = _numbers("time_s", time_s, n)
        self.weights = _numbers("weights", 1.0 if weights is None else weights, n)
        self.utc_offset_s = _numbers("utc_offset_s", utc_offset_s, n)
        self.lat = _numbers("lat", np.nan if lat is None else lat, n, finite=False)
        self.lon = _numbers("lon", np.nan if lon is None else lon, n, finite=False)
        for name, codes in (("users", self.users), ("items", self.items)):
            if (codes == NO_STATE).any():
                raise ValueError(f"{name} must not contain NO_STATE")
        if not ((self.weights > 0) & (self.weights <= 1e9)).all():
            raise ValueError("weights must lie in (0, 1e9]")
        if (np.isnan(self.lat) != np.isnan(self.lon)).any():
            raise ValueError("lat and lon must be NaN together")
        if (np.abs(self.lat) > 90).any() or (np.abs(self.lon) > 180).any():
            raise ValueError("lat must lie in [-90, 90] and lon in [-180, 180]")

    def __len__(self) -> int:
        return len(self.users)

    def slice(self, start: int, end: int) -> ProfileEvents:
        """The events from ``start`` to before ``end``."""
        part = copy.copy(self)
        vars(part).update({name: column[start:end] for name, column in vars(self).items()})
        return part


def _codes(name: str, values: Any, length: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    codes = np.full(length, NO_STATE) if values is None else np.asarray(values)
    if codes.size and codes.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integer codes, got {codes.dtype}")
    if codes.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), got {codes.shape}")
    return np.ascontiguousarray(codes, np.int64)


def _numbers(name: str, values: Any, length: int, finite: bool = True) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = np.asarray(values, np.float64)
    if numbers.shape not in ((), (length,)):
        raise ValueError(f"{name} must have shape ({length},), got {numbers.shape}")
    if finite and not (np.abs(numbers) < 1e15).all():
        raise ValueError(f"{name} must be finite")
    return np.ascontiguousarray(np.broadcast_to(numbers, (length,)))
