"""Each user's latest events as tensors on the device: what the model reads, and what it replays to learn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_server.growing import lengthened, roomy_zeros

DAY_S = 86_400.0


@dataclass(frozen=True)
class Events:
    """Equally long columns of events, ordered by time within each user.

    ``users`` and ``items`` are dense rows (int64), ``time_s`` seconds since the epoch (float64), ``lat`` and ``lon`` WGS84
    degrees (float32, NaN where unknown), ``weights`` how much each event counts as a training target (float32, >= 0).
    """

    users: Tensor
    items: Tensor
    time_s: Tensor
    lat: Tensor
    lon: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(
        cls,
        users: npt.NDArray[Any],
        items: npt.NDArray[Any],
        time_s: npt.NDArray[Any],
        lat: npt.NDArray[Any] | None = None,
        lon: npt.NDArray[Any] | None = None,
        weights: npt.NDArray[Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> "Events":
        """Events from numpy columns; a place that is not given is unknown, a weight that is not given is 1.

        Raises ValueError for columns of different lengths, negative rows, and times or weights that are not finite.
        """
        n = len(users)
        columns: dict[str, npt.NDArray[Any]] = {
            "users": np.asarray(users, np.int64),
            "items": np.asarray(items, np.int64),
            "time_s": np.asarray(time_s, np.float64),
            "lat": np.full(n, np.nan, np.float32) if lat is None else np.asarray(lat, np.float32),
            "lon": np.full(n, np.nan, np.float32) if lon is None else np.asarray(lon, np.float32),
            "weights": np.ones(n, np.float32) if weights is None else np.asarray(weights, np.float32),
        }
        for name, column in columns.items():
            if column.shape != (n,):
                raise ValueError(f"{name} has shape {column.shape}, expected ({n},)")
        for name in ("users", "items"):
            if n and columns[name].min() < 0:
                raise ValueError(f"{name} has a negative row")
        if not np.isfinite(columns["time_s"]).all():
            raise ValueError("time_s is not finite")
        if not (columns["weights"] >= 0).all() or not np.isfinite(columns["weights"]).all():
            raise ValueError("weights must be finite and >= 0")
        return cls(**{name: torch.from_numpy(column.copy()).to(device) for name, column in columns.items()})


@dataclass(frozen=True)
class History:
    """The n latest events of B users before a moment, oldest first, right-aligned; ``mask`` is False where there is none.

    ``items`` is -1 where masked. ``prev_*`` describe the same user's event before each one; ``has_prev`` says whether
    it is known. ``local_s`` is local solar time: seconds since the epoch plus 240 s per degree of longitude.
    """

    users: Tensor  # [B]
    items: Tensor  # [B, n] int64
    time_s: Tensor  # [B, n] float64
    local_s: Tensor  # [B, n] float64
    lat: Tensor  # [B, n] float32
    lon: Tensor  # [B, n] float32
    mask: Tensor  # [B, n] bool
    prev_items: Tensor
    prev_time_s: Tensor
    prev_local_s: Tensor
    prev_lat: Tensor
    prev_lon: Tensor
    has_prev: Tensor
    count: Tensor  # [B] events before the moment, remembered or not

    def tail(self, length: int) -> "History":
        """The latest ``length`` events of each history."""
        columns: dict[str, Tensor] = {
            name: getattr(self, name)[:, -length:] for name in self.__dataclass_fields__ if name not in _PER_QUERY
        }
        return History(users=self.users, count=self.count, **columns)

    def pick(self, index: Tensor) -> "History":
        """The histories of some of the queries."""
        return History(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


_PER_QUERY = ("users", "count")
_MEMORY = ("count", "items", "time_s", "lat", "lon", "weights")


class UserMemory:
    """A ring of the latest ``length`` events per user row, grown on demand. O(1) per event, 28 bytes per remembered event."""

    def __init__(self, length: int, device: torch.device | str = "cpu") -> None:
        self.length = length
        self.device = torch.device(device)
        self.count = roomy_zeros(0, (), torch.int64, self.device)
        self.items = roomy_zeros(0, (length,), torch.int64, self.device)
        self.time_s = roomy_zeros(0, (length,), torch.float64, self.device)
        self.lat = roomy_zeros(0, (length,), torch.float32, self.device)
        self.lon = roomy_zeros(0, (length,), torch.float32, self.device)
        self.weights = roomy_zeros(0, (length,), torch.float32, self.device)
        self.rows = 0

    def ensure(self, rows: int) -> None:
        """Make room for user rows below ``rows``; capacity doubles, so growth is O(1) per user."""
        if rows > len(self.count):
            capacity = max(rows, 2 * len(self.count), 64)
            for name in _MEMORY:
                setattr(self, name, lengthened(getattr(self, name), capacity))
        self.rows = max(self.rows, rows)

    def forget(self, users: Tensor) -> None:
        """Nothing is remembered of these rows any more."""
        self.count[users] = 0

    def append(self, events: Events) -> Tensor:
        """Remember the events; returns for each the number of earlier events of its user (int64[n])."""
        if not len(events):
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        self.ensure(int(events.users.max()) + 1)
        before = self.count[events.users] + _rank_within(events.users)
        distinct, of_event, number = torch.unique(events.users, return_inverse=True, return_counts=True)
        after = self.count[distinct] + number
        fresh = before >= after[of_event] - self.length  # a longer burst overwrites itself
        users, slots = events.users[fresh], before[fresh] % self.length
        self.items[users, slots] = events.items[fresh]
        self.time_s[users, slots] = events.time_s[fresh]
        self.lat[users, slots] = events.lat[fresh]
        self.lon[users, slots] = events.lon[fresh]
        self.weights[users, slots] = events.weights[fresh]
        self.count[distinct] = after
        return before

    def oldest(self, users: Tensor) -> Tensor:
        """The absolute number of each user's oldest remembered event."""
        return (self.count[users] - self.length).clamp(min=0)

    def history(self, users: Tensor, before: Tensor, length: int, since: Tensor | None = None) -> History:
        """The latest ``length`` events of each user among its first ``before`` ones, as far as they are remembered.

        Events numbered below ``since`` (int64[B]) are masked.
        """
        n = min(length, max(int(before.max()), 1) if len(before) else 1)
        position = before[:, None] - n - 1 + torch.arange(n + 1, device=self.device)  # [B, n + 1]
        known = position >= self.oldest(users)[:, None]
        slot = position.clamp(min=0) % self.length
        at = (users[:, None], slot)
        visible = known[:, 1:] if since is None else known[:, 1:] & (position[:, 1:] >= since[:, None])
        items = torch.where(known, self.items[at], -1)
        time_s, lat, lon = self.time_s[at], self.lat[at], self.lon[at]
        local_s = local_solar_s(time_s, lon)
        return History(
            users=users, items=torch.where(visible, items[:, 1:], -1), time_s=time_s[:, 1:],
            local_s=local_s[:, 1:], lat=lat[:, 1:], lon=lon[:, 1:], mask=visible,
            prev_items=items[:, :-1], prev_time_s=time_s[:, :-1], prev_local_s=local_s[:, :-1],
            prev_lat=lat[:, :-1], prev_lon=lon[:, :-1], has_prev=known[:, :-1], count=before,
        )  # fmt: skip

    def event(self, users: Tensor, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The item, the time and the weight of each user's event with that absolute number; it must be remembered."""
        at = (users, number % self.length)
        return self.items[at], self.time_s[at], self.weights[at]

    def state(self) -> dict[str, Tensor]:
        """Everything remembered, as tensors."""
        return {name: getattr(self, name)[: self.rows].clone() for name in _MEMORY}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave. Raises ValueError if the ring length differs."""
        if state["items"].shape[1] != self.length:
            raise ValueError(f"the memory holds {state['items'].shape[1]} events per user, expected {self.length}")
        for name, value in state.items():
            setattr(self, name, value.to(self.device).clone())
        self.rows = len(self.count)


def local_solar_s(time_s: Tensor, lon: Tensor) -> Tensor:
    """Local solar time in seconds: no time zone database, within about an hour of the civil clock; UTC without a place."""
    return time_s + 240.0 * torch.nan_to_num(lon.double(), nan=0.0)


def _rank_within(users: Tensor) -> Tensor:
    """For each row, how many earlier rows hold the same user. O(n log n)."""
    order = torch.argsort(users, stable=True)
    grouped = users[order]
    index = torch.arange(len(users), device=users.device)
    starts = torch.where(torch.cat([grouped.new_ones(1, dtype=torch.bool), grouped[1:] != grouped[:-1]]), index, 0)
    rank = torch.empty_like(index)
    rank[order] = index - starts.cummax(0).values
    return rank
