"""How often, how lately and at which hours everybody visits each item and each category."""

import torch
from torch import Tensor

from model_server.catalogue import grown

DAY_S = 86400.0
SPANS_S = (DAY_S, 7 * DAY_S, 30 * DAY_S)
RESCALE_AT = 30.0
DAY_PARTS = 24


class VisitCounts:
    """Counts per catalogue row and per category code; decayed ones grow forward in time and are rescaled now and then.

    >>> counts = VisitCounts(torch.device("cpu"))
    >>> counts.add(torch.tensor([3, 3]), torch.tensor([1, 1]), torch.tensor([True, False]), torch.tensor([0.0, 60.0]).double(),
    ...            torch.tensor([9.0, 9.0]))
    >>> counts.touches[3].item(), counts.visitors[3].item(), round(counts.recent(torch.tensor([3]), 0).item(), 3)
    (2.0, 1.0, 1.999)
    """

    _ROW = ("touches", "visitors", "first_s", "decayed", "decayed_visitors", "hours")
    _CATEGORY = ("category_visitors", "category_hours")

    def __init__(self, device: torch.device, capacity: int = 1024) -> None:
        self.touches = torch.zeros(capacity, device=device)
        self.visitors = torch.zeros(capacity, device=device)
        self.first_s = torch.full((capacity,), torch.inf, dtype=torch.float64, device=device)
        self.decayed = torch.zeros((capacity, len(SPANS_S)), device=device)
        self.decayed_visitors = torch.zeros((capacity, len(SPANS_S)), device=device)
        self.hours = torch.zeros((capacity, DAY_PARTS), device=device)
        self.category_visitors = torch.zeros(64, device=device)
        self.category_hours = torch.zeros((64, DAY_PARTS), device=device)
        self.now_s = 0.0
        self.changes = 0  # so that what is derived knows when it is out of date
        self._origin_s = [0.0] * len(SPANS_S)

    def add(self, rows: Tensor, categories: Tensor, new_to_user: Tensor, time_s: Tensor, hour: Tensor) -> None:
        """Count visits [n]; ``hour`` is local, [0, 24). O(n), amortised."""
        self.reserve(int(rows.max()) + 1, int(categories.max()) + 1)
        if self.now_s == 0.0:
            self._origin_s = [float(time_s[0])] * len(SPANS_S)
        self.now_s = max(self.now_s, float(time_s.max()))
        self.changes += 1
        self._rescale()
        one, new, bin_ = torch.ones_like(hour), new_to_user.float(), hour.long().clamp(0, DAY_PARTS - 1)
        self.first_s.scatter_reduce_(0, rows, time_s, "amin")
        self.touches.index_add_(0, rows, one)
        self.visitors.index_add_(0, rows, new)
        for span, (span_s, origin_s) in enumerate(zip(SPANS_S, self._origin_s)):
            weight = torch.exp((time_s - origin_s) / span_s).float()
            self.decayed[:, span].index_add_(0, rows, weight)
            self.decayed_visitors[:, span].index_add_(0, rows, weight * new)
        self.hours.index_put_((rows, bin_), one, accumulate=True)
        self.category_visitors.index_add_(0, categories, new)
        self.category_hours.index_put_((categories, bin_), one, accumulate=True)

    def recent(self, rows: Tensor, span: int) -> Tensor:
        """Visits of these rows decayed with time constant ``SPANS_S[span]``, as of the latest visit counted."""
        return self.decayed[rows, span] * self._fade(span)

    def recent_visitors(self, rows: Tensor, span: int) -> Tensor:
        """First visits of a user to these rows, decayed likewise."""
        return self.decayed_visitors[rows, span] * self._fade(span)

    def age_s(self, rows: Tensor) -> Tensor:
        """Seconds since the first visit to these rows, 0 without one."""
        return torch.where(self.touches[rows] > 0, self.now_s - self.first_s[rows], 0.0).float()

    def reserve(self, rows: int, categories: int) -> None:
        """Make room."""
        for names, needed in ((self._ROW, rows), (self._CATEGORY, categories)):
            have = len(getattr(self, names[0]))
            if needed > have:
                for name in names:
                    fill = torch.inf if name == "first_s" else 0.0
                    setattr(self, name, grown(getattr(self, name), max(2 * have, needed), fill))

    def state(self) -> dict[str, object]:
        """Everything, as tensors and plain values."""
        tensors = {name: getattr(self, name).cpu().clone() for name in (*self._ROW, *self._CATEGORY)}
        return {**tensors, "now_s": self.now_s, "origin_s": list(self._origin_s)}

    def load_state(self, state: dict[str, object]) -> None:
        """Take over what ``state`` gave; ValueError if something is missing."""
        for name in (*self._ROW, *self._CATEGORY):
            column = state.get(name)
            if not isinstance(column, Tensor) or column.shape[1:] != getattr(self, name).shape[1:]:
                raise ValueError(f"visit counts lack the column {name}")
            setattr(self, name, column.to(self.touches.device).clone())
        now_s, origin_s = state.get("now_s"), state.get("origin_s")
        if not isinstance(now_s, float) or not isinstance(origin_s, list) or len(origin_s) != len(SPANS_S):
            raise ValueError("visit counts lack now_s or origin_s")
        self.changes += 1
        self.now_s, self._origin_s = now_s, [float(each) for each in origin_s]

    def _fade(self, span: int) -> float:
        return float(torch.exp(torch.tensor((self._origin_s[span] - self.now_s) / SPANS_S[span])))

    def _rescale(self) -> None:
        for span, span_s in enumerate(SPANS_S):
            if (self.now_s - self._origin_s[span]) / span_s > RESCALE_AT:
                fade = self._fade(span)
                self.decayed[:, span] *= fade
                self.decayed_visitors[:, span] *= fade
                self._origin_s[span] = self.now_s
