"""What follows what: decayed transition counts, sessions, frequent sequences, the behaviour graph."""

from processors.sequence.settings import NO_STATE, TransitionSettings
from processors.sequence.transition_counts import TransitionChanges, TransitionCounts, warm_up

__all__ = ["NO_STATE", "TransitionChanges", "TransitionCounts", "TransitionSettings", "warm_up"]
