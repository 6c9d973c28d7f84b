"""One content vector per catalogue item: its text block beside one block per modality."""

from collections.abc import Mapping, Sequence

import numpy as np

from model_server.content.text_encoders import HashingTextEncoder, TextEncoder, Vectors, unit_rows
from schemas.events import Item


class ContentTower:
    """Maps items to vectors of ``dim`` = text dimensions + the dimensions of the declared modalities.

    ``modalities`` declares the length of each modality's vectors; vectors of other modalities are not used. A block that an
    item lacks is zero, every other block has norm 1, so that no modality drowns the others. What a block means for
    recommendation is learned where the vectors are used (a linear projection in the item table).

    >>> tower = ContentTower(HashingTextEncoder(16), {"image": 2})
    >>> vectors = tower.encode([Item(item_id="a", text="corner cafe", vectors={"image": [3.0, 4.0]}), Item(item_id="b")])
    >>> vectors.shape, vectors[0, 16:].tolist() == [np.float32(0.6), np.float32(0.8)], float(abs(vectors[1]).sum())
    ((2, 18), True, 0.0)
    """

    def __init__(self, encoder: TextEncoder | None = None, modalities: Mapping[str, int] | None = None) -> None:
        self.encoder = encoder or HashingTextEncoder()
        self.modalities = dict(sorted((modalities or {}).items()))
        for name, length in self.modalities.items():
            if length < 1:
                raise ValueError(f"modality {name} must have at least one dimension, got {length}")
        self.dim = self.encoder.dim + sum(self.modalities.values())

    def encode(self, items: Sequence[Item]) -> Vectors:
        """float32[n, dim]. Raises ValueError naming the item and the modality for a vector of the wrong length or not finite."""
        blocks = [self.encoder.encode([describe(item) for item in items])]
        for name, length in self.modalities.items():
            blocks.append(
                unit_rows(np.array([_vector(item, name, length) for item in items], np.float32).reshape(-1, length))
            )
        return np.concatenate(blocks, 1)


def describe(item: Item) -> str:
    """The text that stands for an item: its text, its categories and its tags.

    >>> describe(Item(item_id="a", text="Joe's", categories=["coffee shop"], tags=["wifi"]))
    "Joe's. coffee shop. wifi"
    """
    return ". ".join(part for part in [item.text, *item.categories, *item.tags] if part)


def _vector(item: Item, name: str, length: int) -> list[float]:
    vector = item.vectors.get(name)
    if vector is None:
        return [0.0] * length
    if len(vector) != length:
        raise ValueError(f"item {item.item_id}: modality {name} has {len(vector)} dimensions, expected {length}")
    if not np.isfinite(vector).all():
        raise ValueError(f"item {item.item_id}: modality {name} is not finite")
    return vector
