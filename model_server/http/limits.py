"""A token bucket per client address."""

from collections import OrderedDict


class RateLimit:
    """Admits ``per_s`` requests per second and client, with bursts of one second's worth; idle clients are forgotten.

    >>> limit = RateLimit(per_s=2.0)
    >>> [limit.admits("a", now_s) for now_s in (0.0, 0.0, 0.0, 0.5)]
    [True, True, False, True]
    """

    MAX_CLIENTS = 10_000

    def __init__(self, per_s: float) -> None:
        self._per_s, self._burst = per_s, max(per_s, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, client: str, now_s: float) -> bool:
        """Whether this client may go on now. O(1)."""
        tokens, refilled_s = self._buckets.pop(client, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - refilled_s) * self._per_s)
        admitted = tokens >= 1.0
        self._buckets[client] = (tokens - admitted, now_s)
        if len(self._buckets) > self.MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return admitted
