"""Sentence encoders: a hashing one that needs no download, and any sentence-transformers model directory, offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import HashingVectorizer

Vectors = npt.NDArray[np.float32]
WORD_WEIGHT = 2.0


class TextEncoder(Protocol):
    """Turns texts into vectors of one length; the same text always gives the same vector."""

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32[n, dim], rows of norm 1; an empty text gives the zero row."""


class HashingTextEncoder:
    """Words and character 3- to 5-grams hashed into signed buckets (scikit-learn's murmur3): no vocabulary, no download.

    Texts that share words or word stems are close, synonyms are not. Deterministic across processes and machines.

    >>> encoder = HashingTextEncoder(dim=64)
    >>> a, b, c = encoder.encode(["coffee shop", "coffee bar", "gym"])
    >>> bool(a @ b > a @ c)
    True
    """

    def __init__(self, dim: int = 256) -> None:
        if dim < 8:
            raise ValueError(f"dim must be at least 8, got {dim}")
        self.name, self.dim = f"hash-{dim}", dim
        common = {"n_features": dim, "alternate_sign": True, "norm": "l2", "dtype": np.float32}
        self._words = HashingVectorizer(analyzer="word", token_pattern=r"(?u)\b\w+\b", **common)
        self._grams = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **common)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32[n, dim], rows of norm 1; an empty text gives the zero row. O(characters)."""
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(WORD_WEIGHT * self._words.transform(texts).toarray() + self._grams.transform(texts).toarray())


class SentenceTransformerEncoder:
    """A sentence-transformers model directory (needs the extra ``text``); nothing is downloaded.

    Raises ValueError if the directory is not such a model, ImportError without the package.
    """

    def __init__(self, directory: str | Path, device: str = "cpu") -> None:
        path = Path(directory)
        if not (path / "modules.json").is_file():
            raise ValueError(f"{path} is not a sentence-transformers model directory: it has no modules.json")
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(path), device=device, local_files_only=True)
        self.name, self.dim = path.name, int(self._model.encode(["probe"]).shape[1])

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32[n, dim], rows of norm 1; an empty text gives the zero row."""
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        vectors = unit_rows(np.asarray(self._model.encode(list(texts), show_progress_bar=False), np.float32))
        vectors[[not text.strip() for text in texts]] = 0.0
        return vectors


def text_encoder(spec: str = "hash", device: str = "cpu") -> TextEncoder:
    """The encoder that a setting names: ``hash``, ``hash-DIM`` or the path of a model directory.

    >>> text_encoder("hash-128").dim
    128
    """
    if spec == "hash":
        return HashingTextEncoder()
    if spec.startswith("hash-") and spec[5:].isdigit():
        return HashingTextEncoder(int(spec[5:]))
    return SentenceTransformerEncoder(spec, device)


def unit_rows(vectors: npt.NDArray[np.floating]) -> Vectors:
    """Rows scaled to norm 1; zero rows stay zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors, np.float32), where=norm > 0)
