"""The dynamic item table: items are admitted while the model runs, the dead are forgotten, and the table grows in place."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPARSE_FROM_ROWS = 50_000


class RowTable(nn.Module):
    """An embedding table that grows, forgets rows and carries its own AdaGrad state, so that no optimiser has to be rebuilt.

    One squared-gradient sum per row (row-wise AdaGrad); from ``SPARSE_FROM_ROWS`` rows on, only touched rows cost anything.
    """

    weight: nn.Parameter
    square: Tensor

    def __init__(self, rows: int, dim: int, std: float) -> None:
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.randn(rows, dim) * std)
        self.register_buffer("square", torch.full((rows,), 0.1))

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors of the rows, [..., dim]."""
        return F.embedding(rows, self.weight, sparse=len(self.weight) >= SPARSE_FROM_ROWS)

    @torch.no_grad()
    def ensure(self, rows: int) -> None:
        """Make room for ``rows`` rows; capacity doubles."""
        old = len(self.weight)
        if rows <= old:
            return
        more = max(rows - old, old)
        fresh = torch.randn(more, self.weight.shape[1]) * self.std
        self.weight = nn.Parameter(torch.cat([self.weight.data, fresh.to(self.weight)]))
        self.square = torch.cat([self.square, self.square.new_full((more,), 0.1)])

    @torch.no_grad()
    def reset(self, rows: Tensor) -> None:
        """Start the rows afresh, their learning rate included."""
        fresh = torch.randn(len(rows), self.weight.shape[1]) * self.std
        self.weight[rows] = fresh.to(self.weight)
        self.square[rows] = 0.1

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One AdaGrad step on the gradient that backward left, which is then cleared."""
        grad = self.weight.grad
        self.weight.grad = None
        if grad is None:
            return
        if grad.is_sparse:
            grad = grad.coalesce()
            rows, values = grad.indices()[0], grad.values()
            self.square[rows] += values.pow(2).mean(-1)
            self.weight[rows] -= learning_rate * values / self.square[rows].sqrt()[:, None]
        else:
            self.square += grad.pow(2).mean(-1)
            self.weight -= learning_rate * grad / self.square.sqrt()[:, None]


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
        self.vectors = RowTable(64, dim, std=0.02)
        self.bias = RowTable(64, 1, std=0.0)
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
    def touch(self, rows: Tensor, time_s: Tensor, lat: Tensor, lon: Tensor) -> None:
        """Count the events on these rows, admit those that have earned a slot, and place those without a place."""
        if not len(rows):
            return
        self.ensure(int(rows.max()) + 1)
        self.known[rows] = True
        self.touches += torch.bincount(rows, minlength=len(self.touches)).to(self.touches)
        self.last_s.scatter_reduce_(0, rows, time_s.to(self.last_s), "amax")
        placed = torch.isfinite(lat) & torch.isfinite(lon) & ~torch.isfinite(self.lat[rows])
        self.lat[rows[placed]], self.lon[rows[placed]] = lat[placed], lon[placed]
        self._admit(torch.unique(rows))

    def _admit(self, rows: Tensor) -> None:
        rows = rows[(self.slot_of[rows] == 0) & (self.touches[rows] >= self.admit_after)]
        if not len(rows):
            return
        reused, self.free = self.free[: len(rows)], self.free[len(rows) :]
        fresh = range(self.slots, self.slots + len(rows) - len(reused))
        slots = torch.tensor([*reused, *fresh], device=rows.device)
        self.slots = max(self.slots, fresh.stop)
        self.vectors.ensure(self.slots)
        self.bias.ensure(self.slots)
        self.vectors.reset(slots)
        self.bias.reset(slots)
        self.slot_of[rows] = slots

    @torch.no_grad()
    def expire(self, now_s: float) -> int:
        """Take the slots of items that nobody touched since ``now_s - expire_after_s``; how many. They are no longer known."""
        dead = torch.nonzero((self.slot_of > 0) & (self.last_s < now_s - self.expire_after_s)).flatten()
        self.free.extend(self.slot_of[dead].tolist())
        self.slot_of[dead] = 0
        self.touches[dead] = 0
        self.known[dead] = False
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

    def get_extra_state(self) -> dict[str, object]:
        """What the buffers do not say (part of the module's state)."""
        return {"rows": self.rows, "slots": self.slots, "free": list(self.free)}

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Take over what ``get_extra_state`` gave."""
        self.rows, self.slots, self.free = state["rows"], state["slots"], list(state["free"])  # type: ignore


_COLUMNS: tuple[tuple[str, torch.dtype, float], ...] = (
    ("slot_of", torch.int64, 0),
    ("touches", torch.float32, 0.0),
    ("last_s", torch.float64, 0.0),
    ("known", torch.bool, False),
    ("lat", torch.float32, float("nan")),
    ("lon", torch.float32, float("nan")),
)
