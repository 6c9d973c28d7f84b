"""The shape of a sequence model, and the presets."""

import msgspec

from model_server.sequence_model.memory import DAY_S

MODES = ("refresh", "request")
NEVER = -1e9


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a model. ``window`` tokens are encoded, ``memory`` events (>= window) can be returned to."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    window: int = 32
    memory: int = 160
    pointers: int = 8
    content_dim: int = 0
    admit_after: int = 1
    expire_after_s: float = 180 * DAY_S
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.dim, self.layers, self.heads, self.pointers) < 1 or self.dim % self.heads:
            raise ValueError("dim, layers, heads and pointers must be >= 1 and heads must divide dim")
        if not 2 <= self.window <= self.memory:
            raise ValueError(f"need 2 <= window <= memory, got {self.window} and {self.memory}")


PRESETS: dict[str, ModelSettings] = {
    "nano": ModelSettings(),
    "small": ModelSettings(dim=128, layers=4, heads=4, window=96, memory=256, pointers=12),
    "base": ModelSettings(dim=256, layers=8, heads=8, window=192, memory=384, pointers=16),
    "large": ModelSettings(dim=512, layers=12, heads=8, window=384, memory=512, pointers=16),
}
