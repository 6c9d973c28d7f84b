"""What follows what: decayed transition counts, sessions, frequent sequences, the behaviour graph."""

from processors.sequence.collaborative import item_based, user_based
from processors.sequence.frequent import FrequentSequence, FrequentSequences
from processors.sequence.graph import BehaviourGraph
from processors.sequence.heaviest import HeaviestStates
from processors.sequence.heavy_keys import HeavyKeys
from processors.sequence.moves import Moves, moves_between
from processors.sequence.recent import RecentStates
from processors.sequence.sessions import Sessions, Transitions, steps_back
from processors.sequence.settings import NO_STATE, TransitionSettings
from processors.sequence.sketches import UserSketches
from processors.sequence.transition_counts import TransitionChanges, TransitionCounts
from processors.sequence.warming import warm_up

__all__ = [
    "NO_STATE",
    "BehaviourGraph",
    "FrequentSequence",
    "FrequentSequences",
    "HeaviestStates",
    "HeavyKeys",
    "Moves",
    "RecentStates",
    "Sessions",
    "TransitionChanges",
    "TransitionCounts",
    "TransitionSettings",
    "Transitions",
    "UserSketches",
    "item_based",
    "moves_between",
    "steps_back",
    "user_based",
    "warm_up",
]
