"""What follows what: decayed transition counts, sessions, frequent sequences, the behaviour graph."""

from processors.sequence.frequent import FrequentSequence, FrequentSequences
from processors.sequence.heavy_keys import HeavyKeys
from processors.sequence.recent import RecentStates
from processors.sequence.sessions import Sessions, Transitions
from processors.sequence.settings import NO_STATE, TransitionSettings
from processors.sequence.transition_counts import TransitionChanges, TransitionCounts, warm_up

__all__ = [
    "NO_STATE",
    "FrequentSequence",
    "FrequentSequences",
    "HeavyKeys",
    "RecentStates",
    "Sessions",
    "TransitionChanges",
    "TransitionCounts",
    "TransitionSettings",
    "Transitions",
    "warm_up",
]
