"""From raw columns to records a learner can take: gaps filled, outliers clipped, scales made alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from river import preprocessing, stats

Columns = Mapping[str, Any]
"""Equally long columns by name: float arrays are numbers, integer arrays and sequences of str are categories."""


class Cleaner:
    """Fills, scales and clips numbers with river's running statistics; categories become words.

    A number that is NaN or infinite is replaced by the running mean of its column, then all are standardised and clipped to
    ``clip`` standard deviations, so that one broken sensor cannot throw a learner off. Statistics are learnt from a record
    before it is transformed; a record that is only read changes none. A category that is an integer or a str becomes a
    str, which river's factorisation machines take as it is; :func:`one_hot` is for the linear models.

    Example:
        >>> import numpy as np
        >>> cleaner = Cleaner(clip=3.0)
        >>> records = cleaner.learn({"gap_s": np.array([1.0, 3.0, np.nan]), "category": ["bar", "gym", "bar"]})
        >>> [round(record["gap_s"], 3) for record in records], records[0]["category"]
        ([0.0, 1.0, 0.0], 'bar')
    """

    def __init__(self, clip: float = 5.0) -> None:
        if not clip > 0:
            raise ValueError(f"clip must be positive, got {clip}")
        self.clip = clip
        self._imputer: preprocessing.StatImputer | None = None
        self._scaler = preprocessing.StandardScaler()

    def learn(self, columns: Columns) -> list[dict[str, Any]]:
        """Learn from each record in turn, and clean it.

        Raises:
            ValueError: the columns differ in length, or other numbers are given than the first time.
        """
        return [self._clean(numbers, words, learn=True) for numbers, words in split_records(columns)]

    def transform(self, columns: Columns) -> list[dict[str, Any]]:
        """Clean records without learning from them. Raises what :meth:`learn` raises."""
        return [self._clean(numbers, words, learn=False) for numbers, words in split_records(columns)]

    def _clean(self, numbers: dict[str, float | None], words: dict[str, str], learn: bool) -> dict[str, Any]:
        if self._imputer is None:
            self._imputer = preprocessing.StatImputer(*((name, stats.Mean()) for name in numbers))
        if self._imputer.stats.keys() != numbers.keys():
            raise ValueError(f"columns must hold the numbers {sorted(self._imputer.stats)}, got {sorted(numbers)}")
        if learn:
            self._imputer.learn_one(numbers)
        filled = self._imputer.transform_one(numbers)
        if learn:
            self._scaler.learn_one(filled)
        scaled = self._scaler.transform_one(filled)
        return {name: min(max(number, -self.clip), self.clip) for name, number in scaled.items()} | words


def split_records(columns: Columns) -> list[tuple[dict[str, float | None], dict[str, str]]]:
    """Each record's numbers (None where they are not finite) and words. Raises ValueError if the columns differ in length."""
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError(f"columns differ in length: { {name: len(column) for name, column in columns.items()} }")
    numbers: dict[str, Sequence[float | None]] = {}
    words: dict[str, Sequence[str]] = {}
    for name, column in columns.items():
        array = np.asarray(column)
        if array.dtype.kind == "f":
            numbers[name] = [value if np.isfinite(value) else None for value in array.tolist()]
        else:
            words[name] = [str(value) for value in array.tolist()]
    rows = range(len(next(iter(columns.values()), ())))
    return [({name: numbers[name][i] for name in numbers}, {name: words[name][i] for name in words}) for i in rows]


def one_hot(record: Mapping[str, Any]) -> dict[str, float]:
    """A record with each word as a number of its own: ``{"category": "bar"}`` becomes ``{"category=bar": 1.0}``."""
    return {
        (f"{name}={value}" if isinstance(value, str) else name): (1.0 if isinstance(value, str) else value)
        for name, value in record.items()
    }
