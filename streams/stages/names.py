"""The ids behind the codes that a stage holds, bounded."""

from collections.abc import Iterable, Mapping
from itertools import islice

from streams.stages.columns import decode_names, encode_names


class Names:
    """Code to id. Beyond ``max_names`` an eighth is forgotten, the ids that were learned longest ago.

    >>> names = Names(max_names=2)
    >>> names.learn({1: "a", 2: "b", 3: "c"})
    >>> len(names), names.get(3)
    (2, 'c')
    """

    def __init__(self, max_names: int, held: Mapping[int, str] | None = None) -> None:
        self.max_names = max_names
        self.held: dict[int, str] = dict(held or {})

    def __len__(self) -> int:
        return len(self.held)

    def learn(self, names: Mapping[int, str]) -> None:
        """Take in the ids of a batch. O(ids)."""
        self.held.update(names)
        surplus = len(self.held) - self.max_names
        if surplus > 0:  # more at once: to find the first key of a dict, all that are gone are passed
            for code in list(islice(self.held, surplus + self.max_names // 8)):
                del self.held[code]

    def get(self, code: int) -> str | None:
        """The id of a code; None if it was never seen or is forgotten."""
        return self.held.get(code)

    def of(self, codes: Iterable[int]) -> dict[int, str]:
        """The ids of those codes that are known."""
        held = self.held
        return {code: held[code] for code in codes if code in held}

    def to_bytes(self) -> bytes:
        """All codes and ids."""
        return encode_names(self.held)

    @classmethod
    def from_bytes(cls, max_names: int, data: bytes) -> "Names":
        """The object of ``to_bytes``."""
        return cls(max_names, decode_names(data))
