"""Versions that only grow: across restarts, and whichever instance owns a user."""


class VersionClock:
    """A hybrid clock: microseconds of wall time, pushed above every version that was ever seen.

    A clock that steps back, or another instance whose clock runs ahead, cannot make a version go back. O(1).

    >>> clock = VersionClock()
    >>> first = clock.next(now_us=1_000)
    >>> clock.raise_to(5_000)
    >>> first, clock.next(now_us=1_001), clock.next(now_us=9_000)
    (1000, 5001, 9000)
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self, now_us: int) -> int:
        """A version above all earlier ones."""
        self.last = max(self.last + 1, now_us)
        return self.last

    def raise_to(self, version: int) -> None:
        """Take note of a version that somebody else gave out."""
        self.last = max(self.last, version)
