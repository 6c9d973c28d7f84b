"""The dynamic item table: items are admitted while the model runs, the dead are forgotten, and the table grows in place."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_server.sequence_model.lookup import lookup

SPARSE_FROM_ROWS = 50_000


class RowTable(nn.Module):
    """An embedding table that grows, forgets rows and carries its own AdaGrad state, so that no optimiser has to be rebuilt.

    One squared-gradient sum per row (row-wise AdaGrad); from ``SPARSE_FROM_ROWS`` rows on, only touched rows cost anything.
    """

    weight: nn.Parameter
    square: Tensor

    def __init__(self, rows: int, dim: int, std: float, initial_square: float = 0.1) -> None:
        super().__init__()
        self.std, self.dim, self.initial_square = std, dim, initial_square
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        self.weight = nn.Parameter(self._fresh(rows))
        self.register_buffer("square", torch.full((rows,), initial_square))

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors of the rows, [..., dim]."""
        if len(self.weight) >= SPARSE_FROM_ROWS:
            return F.embedding(rows, self.weight, sparse=True)
        return lookup(rows, self.weight)

    @torch.no_grad()
    def ensure(self, rows: int) -> None:
        """Make room for ``rows`` rows; capacity doubles."""
        old = len(self.weight)
        if rows <= old:
            return
        more = max(rows - old, old)
        self.weight = nn.Parameter(torch.cat([self.weight.data, self._fresh(more).to(self.weight)]))
        self.square = torch.cat([self.square, self.square.new_full((more,), self.initial_square)])

    @torch.no_grad()
    def reset(self, rows: Tensor) -> None:
        """Start the rows afresh, their learning rate included."""
        self.weight[rows] = self._fresh(len(rows)).to(self.weight)
        self.square[rows] = self.initial_square

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """One AdaGrad step on ``scale`` times the gradient that backward left, which is then cleared.

        With the number of events behind a mean loss as the scale, a row moves as if each of its events came alone.
        """
        grad = self.weight.grad
        self.weight.grad = None
        if grad is None:
            return
        grad = grad * scale
        if grad.is_sparse:
            grad = grad.coalesce()
            rows, values = grad.indices()[0], grad.values()
            self.square[rows] += values.pow(2).mean(-1)
            self.weight[rows] -= learning_rate * values / self.square[rows].sqrt()[:, None]
        else:
            self.square += grad.pow(2).mean(-1)
            self.weight.sub_(learning_rate * grad / self.square.sqrt()[:, None])

    def _fresh(self, rows: int) -> Tensor:
        return torch.randn(rows, self.dim, generator=self.generator) * self.std

    def get_extra_state(self) -> dict[str, Tensor]:
        """The random state, so that a restored table admits the same vectors (part of the module's state)."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take over what ``get_extra_state`` gave."""
        self.generator.set_state(state["generator"].cpu())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        rows = len(state_dict[prefix + "weight"])
        self.weight = nn.Parameter(self.weight.new_zeros(rows, self.dim))
        self.square = self.square.new_zeros(rows)
        super()._load_from_state_dict(state_dict, prefix, *args)


class ItemTable(nn.Module):
    """Vectors, popularity and places of the items of a growing catalogue.

    Catalogue rows are the caller's dense numbers. A row is *known* once it was touched or announced. After ``admit_after``
    touches it gets a vector of its own (a slot); before that, and after it was not touched for ``expire_after_s`` of event
    time, its content alone speaks for it. Expired slots are used again, so the table is bounded by the live items.
    """

    slot_of: Tensor
    touches: Tensor
    last_s: Tensor
    known: Tensor
    lat: Tensor
    lon: Tensor
    content: Tensor

    def __init__(
        self, dim: int, content_dim: int = 0, admit_after: int = 1, expire_after_s: float = 180 * 86_400.0
    ) -> None:
        super().__init__()
        if admit_after < 1 or expire_after_s <= 0:
            raise ValueError("admit_after must be >= 1 and expire_after_s > 0")
        self.admit_after = admit_after
        self.expire_after_s = expire_after_s
        self.vectors = RowTable(64, dim, std=0.02, initial_square=1.0)
        self.bias = RowTable(64, 1, std=0.0, initial_square=1.0)
        self.project = nn.Linear(content_dim, dim, bias=False) if content_dim else None
        self.rows = 0
        self.slots = 1  # slot 0 is shared by the items without one
        self.free: list[int] = []
        for name, dtype, fill in _COLUMNS:
            self.register_buffer(name, torch.full((0,), fill, dtype=dtype))
        self.register_buffer("content", torch.zeros(0, content_dim))

    def ensure(self, rows: int) -> None:
        """Make room for catalogue rows below ``rows``; capacity doubles."""
        capacity = len(self.touches)
        if rows > capacity:
            more = max(rows - capacity, capacity, 64)
            for name, _, fill in _COLUMNS:
                old = getattr(self, name)
                setattr(self, name, torch.cat([old, old.new_full((more,), fill)]))
            self.content = torch.cat([self.content, self.content.new_zeros(more, self.content.shape[1])])
        self.rows = max(self.rows, rows)

    @torch.no_grad()
    def announce(self, rows: Tensor, content: Tensor | None, lat: Tensor | None, lon: Tensor | None) -> None:
        """Make catalogue rows known before anybody touched them, with their content vectors [n, content_dim] and places."""
        if not len(rows):
            return
        if content is not None and content.shape != (len(rows), self.content.shape[1]):
            raise ValueError(
                f"content has shape {tuple(content.shape)}, expected ({len(rows)}, {self.content.shape[1]})"
            )
        self.ensure(int(rows.max()) + 1)
        self.known[rows] = True
        if content is not None:
            self.content[rows] = content.to(self.content)
        if lat is not None and lon is not None:
            self.lat[rows], self.lon[rows] = lat.to(self.lat), lon.to(self.lon)

    @torch.no_grad()
    def touch(self, rows: Tensor, time_s: Tensor, lat: Tensor, lon: Tensor) -> bool:
        """Count the events on these rows, admit those that have earned a slot, and place those without; was any admitted?"""
        if not len(rows):
            return False
        self.ensure(int(rows.max()) + 1)
        self.known[rows] = True
        self.touches += torch.bincount(rows, minlength=len(self.touches)).to(self.touches)
        self.last_s.scatter_reduce_(0, rows, time_s.to(self.last_s), "amax")
        placed = torch.isfinite(lat) & torch.isfinite(lon) & ~torch.isfinite(self.lat[rows])
        self.lat[rows[placed]], self.lon[rows[placed]] = lat[placed], lon[placed]
        return self._admit(torch.unique(rows))

    def _admit(self, rows: Tensor) -> bool:
        rows = rows[(self.slot_of[rows] == 0) & (self.touches[rows] >= self.admit_after)]
        if not len(rows):
            return False
        reused, self.free = self.free[: len(rows)], self.free[len(rows) :]
        fresh = range(self.slots, self.slots + len(rows) - len(reused))
        slots = torch.tensor([*reused, *fresh], device=rows.device)
        self.slots = max(self.slots, fresh.stop)
        self.vectors.ensure(self.slots)
        self.bias.ensure(self.slots)
        self.vectors.reset(slots)
        self.bias.reset(slots)
        self.slot_of[rows] = slots
        return True

    @torch.no_grad()
    def expire(self, now_s: float) -> int:
        """Take the slots of items untouched since ``now_s - expire_after_s``; how many. They stay known by their content."""
        dead = torch.nonzero((self.slot_of > 0) & (self.last_s < now_s - self.expire_after_s)).flatten()
        self.free.extend(self.slot_of[dead].tolist())
        self.slot_of[dead] = 0
        self.touches[dead] = 0
        return len(dead)

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors of catalogue rows, [..., dim]; rows below 0 or beyond the table share the slot of the unknown."""
        inside = (rows >= 0) & (rows < self.rows)
        safe = torch.where(inside, rows, 0)
        if not self.rows:
            return self.vectors(torch.zeros_like(rows))
        out: Tensor = self.vectors(torch.where(inside, self.slot_of[safe], 0))
        if self.project is not None:
            out = out + self.project(self.content[safe]) * inside[..., None]
        return out

    def catalogue(self) -> Tensor:
        """The vectors of all rows, [rows, dim]."""
        out: Tensor = self(torch.arange(self.rows, device=self.touches.device))
        return out

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in [*(column[0] for column in _COLUMNS), "content"]:
            held = state_dict[prefix + name]
            setattr(self, name, getattr(self, name).new_zeros((len(held), *getattr(self, name).shape[1:])))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def get_extra_state(self) -> dict[str, Any]:
        """What the buffers do not say (part of the module's state)."""
        return {"rows": self.rows, "slots": self.slots, "free": list(self.free)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what ``get_extra_state`` gave."""
        self.rows, self.slots, self.free = state["rows"], state["slots"], list(state["free"])


_COLUMNS: tuple[tuple[str, torch.dtype, float], ...] = (
    ("slot_of", torch.int64, 0),
    ("touches", torch.float32, 0.0),
    ("last_s", torch.float64, 0.0),
    ("known", torch.bool, False),
    ("lat", torch.float32, float("nan")),
    ("lon", torch.float32, float("nan")),
)
