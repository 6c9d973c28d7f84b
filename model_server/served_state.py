"""What a server has learned, as one value: written into checkpoints, and taken over from the last one when it starts."""

from typing import Any

from model_server.items import ItemTable
from model_server.learning import Learner
from model_server.next_behaviour import NextBehaviourPredictor
from model_server.noticing import PatternDesk
from model_server.recovery import CheckpointKeeper, offsets_of
from model_server.responding import FeedbackDesk
from model_server.strategies import StrategySet
from model_server.users import OwnedUsers
from model_server.versions import VersionClock


class ServedState:
    """The parts of a server that outlive it."""

    def __init__(
        self,
        items: ItemTable,
        users: OwnedUsers,
        strategies: StrategySet,
        feedback: FeedbackDesk,
        predictor: NextBehaviourPredictor | None,
        versions: VersionClock,
    ) -> None:
        self._items, self._users, self._strategies = items, users, strategies
        self._feedback, self._predictor, self._versions = feedback, predictor, versions

    def collect(self) -> dict[str, Any]:
        """Everything, as of after what is being learned."""
        self._strategies.finish_learning()
        return {
            "strategies": self._strategies.state(),
            "users": self._users.state(),
            "feedback": self._feedback.joiner.state(),
            "predictor": self._predictor.state() if self._predictor is not None else None,
            "version": self._versions.last,
        }

    def restore(self, checkpoints: CheckpointKeeper, learner: Learner, patterns: PatternDesk) -> None:
        """Take over the last checkpoint; if that fails half-way, nothing of it stays."""
        checkpoint = checkpoints.restore(self._load)
        if checkpoint is not None:
            learner.learned.update(offsets_of(checkpoint))
            patterns.live_since_ms = checkpoint.created_at_ms
            return
        self._items.clear()
        self._strategies.rebuild()
        self._users.clear()

    def _load(self, state: dict[str, Any]) -> None:
        self._strategies.load_state(state["strategies"])
        self._users.load_state(state["users"])
        self._feedback.joiner.load_state(state["feedback"])
        if self._predictor is not None and state["predictor"] is not None:
            self._predictor.load_state(state["predictor"])
        self._versions.raise_to(int(state["version"]))
