"""A few numbers for many: principal components that follow a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import IncrementalPCA

from processors.profile.stored_model import dump_model, load_model

Floats = np.ndarray[Any, np.dtype[np.float64]]


class StreamingComponents:
    """Incremental PCA (Ross et al., IJCV 77, 2008; scikit-learn's) fed in blocks of its own, whatever the batches.

    Args:
        components: numbers that are kept.
        block: rows learnt at once; at least ``components``.

    Example:
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(500, 1)) @ np.array([[3.0, 4.0]])
        >>> pca = StreamingComponents(components=1)
        >>> pca.update(rows)
        >>> pca.ready, pca.explained_share.round(6).tolist()
        (True, [1.0])
    """

    def __init__(self, components: int = 8, block: int = 64) -> None:
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        if block < components:
            raise ValueError(f"block must be at least components, got {block} and {components}")
        self.block = block
        self._pca = IncrementalPCA(n_components=components)
        self._waiting: list[Floats] = []
        self._width: int | None = None

    def update(self, rows: Any) -> None:
        """Learn rows float64[n, d], a block at a time; the last ones wait for their block to fill.

        Raises:
            ValueError: not two dimensions, another width than before, narrower than ``components``, or not finite.
        """
        matrix = self._checked(rows)
        if matrix.shape[1] < self._pca.n_components:
            raise ValueError(f"rows must have at least {self._pca.n_components} columns, got {matrix.shape[1]}")
        self._width = matrix.shape[1]
        self._waiting.extend(matrix)
        while len(self._waiting) >= self.block:
            self._pca.partial_fit(np.array(self._waiting[: self.block]))
            del self._waiting[: self.block]

    @property
    def ready(self) -> bool:
        """Whether a first block was learnt."""
        return hasattr(self._pca, "components_")

    @property
    def explained_share(self) -> Floats:
        """The share of the variance that each component explains; empty before the first block."""
        return self._pca.explained_variance_ratio_ if self.ready else np.empty(0)

    def transform(self, rows: Any) -> Floats:
        """The components of rows float64[n, d], float64[n, components]. Raises ValueError before the first block."""
        matrix = self._checked(rows)
        if not self.ready:
            raise ValueError(f"rows cannot be transformed before {self.block} were learnt")
        return self._pca.transform(matrix)

    def _checked(self, rows: Any) -> Floats:
        matrix = np.array(rows, np.float64)
        if matrix.ndim != 2 or self._width not in (None, matrix.shape[1]):
            raise ValueError(f"rows must have shape (n, {self._width or 'd'}), got {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError("rows must be finite: clean them first")
        return matrix

    def to_bytes(self) -> bytes:
        return dump_model(self)

    @classmethod
    def from_bytes(cls, payload: bytes) -> StreamingComponents:
        """The object of :meth:`to_bytes`. Raises ValueError for any other payload."""
        model = load_model(payload)
        if not isinstance(model, cls):
            raise ValueError(f"payload is not {cls.__name__} but {type(model).__name__}")
        return model
