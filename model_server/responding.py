"""What users did with recommendations: click-through by strategy, dismissals that block, clicks that are learned from."""

import time
from collections.abc import Sequence

from model_server.feedback import FeedbackJoiner, Label, Shown
from model_server.intake import Received
from model_server.learning import Learner
from model_server.metrics import ServerMetrics
from model_server.recommending import Made
from model_server.settings import ServerSettings
from model_server.users import OwnedUsers
from schemas.events import BehaviorEvent, RecommendationFeedback


class FeedbackDesk:
    """Joins feedback to what was sent and acts on the labels."""

    def __init__(self, settings: ServerSettings, users: OwnedUsers, learner: Learner, metrics: ServerMetrics) -> None:
        self._settings, self._users, self._learner, self._metrics = settings, users, learner, metrics
        self.joiner = FeedbackJoiner(settings.feedback_window_s)

    def sent(self, made: Made, item_ids: tuple[str, ...]) -> None:
        """Remember which items were sent, so that feedback on them can be understood."""
        recommendation = made.recommendation
        offer = Shown(
            user_id=recommendation.user_id,
            strategy=recommendation.strategy,
            item_ids=item_ids,
            chosen_by=made.chosen_by,
        )
        self.joiner.shown(recommendation.request_id, offer)

    def take(self, received: Sequence[Received]) -> None:
        """Feedback in the order of its topic; what the state has absorbed already changes nothing."""
        for message, record in received:
            feedback: RecommendationFeedback = message
            if record.offset < self._learner.learned.get(record.source, 0):
                continue
            offer = self.joiner.offer_of(feedback)
            if offer is None:
                self._metrics.feedback_unmatched.labels(feedback.kind).inc()
                self._act(feedback, None, record.source.partition)
                continue
            if feedback.kind == "impression":
                self._metrics.feedback.labels(offer.strategy, "impression").inc()
            for label in self.joiner.join(feedback):
                self._count(label, offer)
                self._act(feedback, label, record.source.partition)

    def _count(self, label: Label, offer: Shown) -> None:
        self._metrics.feedback.labels(offer.strategy, label.outcome).inc()
        if label.outcome == "click" and offer.chosen_by:
            self._metrics.interleaved_wins.labels(label.strategy).inc()

    def _act(self, feedback: RecommendationFeedback, label: Label | None, partition: int) -> None:
        """A dismissal blocks its item even if what it answers is forgotten; a click is learned from when it is joined."""
        if feedback.kind == "dismissal" and (label is None or label.outcome == "dismissal"):
            until_ms = time.time_ns() // 1_000_000 + int(self._settings.dismissed_for_s * 1000)
            self._users.of(feedback.user_id, partition).dismissed[feedback.item_id] = until_ms
        elif label is not None and label.outcome == "click" and self._settings.learn_from_clicks:
            click = BehaviorEvent(
                event_id=f"feedback:{label.request_id}:{label.item_id}",
                user_id=label.user_id,
                item_id=label.item_id,
                action="click",
                event_time_ms=label.event_time_ms,
                request_id=label.request_id,
            )
            self._learner.take_clicks([click], partition)
