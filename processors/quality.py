"""How far a pattern can be trusted: support, significance and stability, computed in one place for every kind.

``support`` is the (decayed) number of events behind a pattern. ``significance`` is -log10 of the p-value against the
pattern's own null hypothesis; the functions here give the nulls of counts. ``stability`` is the share of its life in which
it did not change, kept by a :class:`PatternBook` for the patterns of one kind.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import msgspec
import numpy as np
from scipy import special

from processors.payload import decode_payload, encode_payload
from schemas.patterns import PatternQuality

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
MAX_SIGNIFICANCE = 1e6
_FORMAT = "chronotope.pattern_book.2"


def significance_of(p_value: float) -> float:
    """-log10 of a p-value, 0 for 1 and at most ``MAX_SIGNIFICANCE``.

    >>> significance_of(0.001)
    3.0
    """
    if not 0 <= p_value <= 1:
        raise ValueError(f"p_value must lie in [0, 1], got {p_value}")
    return min(-math.log10(p_value), MAX_SIGNIFICANCE) + 0.0 if p_value > 0 else MAX_SIGNIFICANCE


def best_of(significance: float, tried: int) -> float:
    """The significance of the best of ``tried`` patterns, after Bonferroni.

    >>> best_of(3.0, 10), best_of(0.5, 10)
    (2.0, 0.0)
    """
    return max(significance - math.log10(max(tried, 1)), 0.0)


def poisson_significance(count: float, expected: float) -> float:
    """-log10 P(X >= count) for X Poisson(expected); decayed counts need not be whole.

    The null of a sequence, an edge or a crowd: its parts met by chance. Reaches far below the smallest double.

    >>> round(poisson_significance(10, 10), 2), round(poisson_significance(10, 1), 2)
    (0.27, 6.95)
    """
    if not (count >= 0 and expected >= 0):
        raise ValueError(f"count and expected must not be negative, got {count} and {expected}")
    if count == 0 or expected >= MAX_SIGNIFICANCE * 1e6:
        return 0.0
    if expected == 0:
        return MAX_SIGNIFICANCE
    tail = float(special.gammainc(count, expected))
    if tail > 1e-290:
        return max(-math.log10(tail), 0.0)
    log_first = count * math.log(expected) - expected - math.lgamma(count + 1)
    log_series = -math.log1p(-expected / (count + 1))  # the tail's terms shrink at least by that factor
    return min(-(log_first + log_series) / math.log(10), MAX_SIGNIFICANCE)


def poisson_significances(count: Floats, expected: Floats) -> Floats:
    """:func:`poisson_significance` of many patterns at once, float64[n] each. O(n).

    >>> poisson_significances(np.array([10.0, 0.0]), np.array([1.0, 1.0])).round(2).tolist()
    [6.95, 0.0]
    """
    tail = special.gammainc(np.maximum(count, 1e-300), np.maximum(expected, 0.0))
    plain = (count > 0) & (expected > 0) & (expected < MAX_SIGNIFICANCE * 1e6) & (tail > 1e-290)
    out = np.maximum(-np.log10(np.where(plain, tail, 1.0)), 0.0)
    for row in np.flatnonzero(~plain).tolist():
        out[row] = poisson_significance(float(count[row]), float(expected[row]))
    return out


def binomial_significance(count: float, total: float, share: float) -> float:
    """-log10 P(X >= count) for X Binomial(total, share); decayed counts need not be whole.

    The null of a transition: its target comes as often after this state as anywhere.

    >>> round(binomial_significance(8, 10, 0.5), 3)
    1.262
    """
    if not 0 <= count <= total * (1 + 1e-9):
        raise ValueError(f"count must lie in [0, total], got {count} of {total}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    rest = max(total - count, 0.0)
    if count == 0 or share == 1:
        return 0.0
    if share == 0:
        return MAX_SIGNIFICANCE
    tail = float(special.betainc(count, rest + 1, share))
    if tail > 1e-290:
        return max(-math.log10(tail), 0.0)
    log_choose = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(rest + 1)
    log_first = log_choose + count * math.log(share) + rest * math.log1p(-share)
    ratio = rest / (count + 1) * share / (1 - share)
    return min(-(log_first - math.log1p(-min(ratio, 1 - 1e-9))) / math.log(10), MAX_SIGNIFICANCE)


def binomial_significances(count: Floats, total: Floats, share: Floats) -> Floats:
    """:func:`binomial_significance` of many patterns at once, float64[n] each. O(n).

    >>> binomial_significances(np.array([8.0, 0.0]), np.array([10.0, 10.0]), np.array([0.5, 0.5])).round(3).tolist()
    [1.262, 0.0]
    """
    tail = special.betainc(np.maximum(count, 1e-300), np.maximum(total - count, 0.0) + 1.0, share)
    plain = (count > 0) & (count <= total) & (share > 0) & (share < 1) & (tail > 1e-290)
    out = np.maximum(-np.log10(np.where(plain, tail, 1.0)), 0.0)
    for row in np.flatnonzero(~plain).tolist():
        out[row] = binomial_significance(float(count[row]), float(total[row]), float(share[row]))
    return out


def normal_significance(z: float) -> float:
    """-log10 P(X >= z) for X standard normal. Reaches far below the smallest double.

    >>> round(normal_significance(1.645), 2), round(normal_significance(0.0), 2)
    (1.3, 0.3)
    """
    return min(float(-special.log_ndtr(-z)) / math.log(10) + 0.0, MAX_SIGNIFICANCE)


class PatternLife(msgspec.Struct, array_like=True, gc=False):
    """What is kept of one pattern: its latest quality and how its life was spent."""

    born_s: float
    seen_s: float
    unchanged_s: float
    claim: int
    support: float
    significance: float

    def quality(self) -> PatternQuality:
        """The quality as it is published; a newborn pattern has proven nothing and has stability 0."""
        life_s = self.seen_s - self.born_s
        stability = self.unchanged_s / life_s if life_s > 0 else 0.0
        return PatternQuality(support=self.support, significance=self.significance, stability=min(stability, 1.0))


class PatternBook:
    """The quality of every pattern of one kind that a stage has published, by an int64 key.

    Args:
        max_patterns: patterns kept; beyond, the weakest eighth is forgotten.

    Example:
        >>> book = PatternBook()
        >>> cafe, office = 1, 2
        >>> book.record(cafe, time_s=0.0, claim=office, support=5.0, significance=3.0).stability
        0.0
        >>> book.record(cafe, time_s=60.0, claim=office, support=9.0, significance=6.0).stability
        1.0
    """

    def __init__(self, max_patterns: int = 100_000) -> None:
        if max_patterns < 8:
            raise ValueError(f"max_patterns must be at least 8, got {max_patterns}")
        self.max_patterns = max_patterns
        self.forgotten_patterns = 0
        self._lives: dict[int, PatternLife] = {}

    def record(self, key: int, *, time_s: float, claim: int, support: float, significance: float) -> PatternQuality:
        """Take note of a pattern as of ``time_s`` and return its quality. O(1), but for the forgetting.

        ``claim`` is what the pattern says, as a number (its most probable state, its period in steps): the time since the
        last record counts as unchanged if the claim is the same as then. An earlier ``time_s`` than the last adds no life.
        A significance beyond ``MAX_SIGNIFICANCE`` is cut.

        Raises:
            ValueError: a number is not finite, or support or significance is negative.
        """
        if not all(map(math.isfinite, (time_s, support, significance))) or support < 0 or significance < 0:
            raise ValueError(
                f"time_s, support and significance must be finite and not negative: {time_s}, {support}, {significance}"
            )
        significance = min(significance, MAX_SIGNIFICANCE)
        life = self._lives.get(key)
        if life is None:
            if len(self._lives) >= self.max_patterns:
                self._forget_weakest()
            life = self._lives[key] = PatternLife(time_s, time_s, 0.0, claim, support, significance)
            return life.quality()
        passed_s = max(time_s - life.seen_s, 0.0)
        life.seen_s += passed_s
        if claim == life.claim:
            life.unchanged_s += passed_s
        life.claim, life.support, life.significance = claim, support, significance
        return life.quality()

    def _forget_weakest(self) -> None:
        keys = np.fromiter(self._lives, np.int64, len(self._lives))
        strengths = np.array([strength(life.quality()) for life in self._lives.values()])
        weakest = keys[np.lexsort((keys, strengths[:, 1], strengths[:, 0]))[: max(1, len(keys) // 8)]]
        for key in weakest.tolist():
            del self._lives[key]
        self.forgotten_patterns += len(weakest)

    def retire(self, key: int) -> None:
        """Forget a pattern that is no more; an unknown one is ignored."""
        self._lives.pop(key, None)

    def __len__(self) -> int:
        return len(self._lives)

    def __contains__(self, key: int) -> bool:
        """Whether a pattern is known: recorded, not retired and not forgotten."""
        return key in self._lives

    def to_bytes(self) -> bytes:
        """The whole book; :meth:`from_bytes` goes on exactly like this one."""
        parts: dict[str, Any] = {"max_patterns": self.max_patterns, "forgotten_patterns": self.forgotten_patterns}
        return encode_payload(_FORMAT, {**parts, "lives": self._lives})

    @classmethod
    def from_bytes(cls, payload: bytes) -> PatternBook:
        """The book of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        book = cls(parts["max_patterns"])
        book.forgotten_patterns = parts["forgotten_patterns"]
        book._lives = msgspec.convert(parts["lives"], dict[int, PatternLife])
        return book


def strength(quality: PatternQuality) -> tuple[float, float]:
    """What orders patterns: significance, up to halved for instability, then support."""
    return quality.significance * (0.5 + 0.5 * quality.stability), quality.support
