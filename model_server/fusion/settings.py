"""How the fusion remembers and learns."""

from typing import Literal

import msgspec

from model_server.fusion.experts import EXPERTS

Mode = Literal["refresh", "request"]
MODES: tuple[Mode, ...] = ("refresh", "request")


class FusionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the fusion remembers and learns.

    ``history`` events are remembered per user, ``micro_batch`` events are learned from at once, and after each of them
    ``replays`` batches of ``replay_events`` past ones, by ``members`` networks that vote. ``modes`` are the kinds of query that
    can be answered well. ``sequence`` names the sequence model's preset, empty for none. ``explore_budget`` is the share of hits
    among ten that may be given up to show more discoveries. ``without`` leaves out experts by name (for ablations).

    >>> FusionSettings(without=("crowd", "hour")).members
    3

    Raises ValueError for an unknown expert or mode and for impossible sizes.
    """

    history: int = 512
    micro_batch: int = 128
    replays: int = 2
    replay_events: int = 96
    members: int = 3
    modes: tuple[Mode, ...] = MODES
    sequence: str = "nano"
    explore_budget: float = 0.004
    without: tuple[str, ...] = ()
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = set(self.without) - set(EXPERTS)
        if unknown:
            raise ValueError(f"unknown experts {', '.join(sorted(unknown))}: known are {', '.join(EXPERTS)}")
        if not self.modes or set(self.modes) - set(MODES):
            raise ValueError(f"modes must be some of refresh and request, got {self.modes}")
        if min(self.history - 2, self.micro_batch, self.replay_events, self.members) < 1 or self.replays < 0:
            raise ValueError(
                "history must be above 2, micro_batch, replay_events, members at least 1, replays not negative"
            )
