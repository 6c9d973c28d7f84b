"""Feedback joined to the recommendation it answers: labels for learning, click-through by strategy."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal

import msgspec

from schemas.events import RecommendationFeedback

Outcome = Literal["click", "dismissal", "ignored"]


class Shown(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What one recommendation offered: to whom, by which strategy, and for interleaved ones by which strategy each item."""

    user_id: str
    strategy: str
    item_ids: tuple[str, ...]
    chosen_by: tuple[str, ...] = ()


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of showing one item at ``position`` (from 0): clicked, dismissed, or ignored for the whole window."""

    request_id: str
    user_id: str
    item_id: str
    position: int
    strategy: str
    outcome: Outcome
    event_time_ms: int


class FeedbackJoiner:
    """Joins impressions, clicks and dismissals by request within a window of event time; at most ``limit`` are remembered.

    An impression waits ``window_s`` for its click; a click without an impression counts as both; what comes twice counts
    once. O(1) per message, amortised.

    >>> joiner = FeedbackJoiner(window_s=60.0)
    >>> joiner.shown("r1", Shown(user_id="ann", strategy="fused", item_ids=("cafe", "gym")))
    >>> seen = RecommendationFeedback(request_id="r1", user_id="ann", item_id="cafe", kind="impression", event_time_ms=0)
    >>> click = msgspec.structs.replace(seen, kind="click", event_time_ms=5_000)
    >>> joiner.join(seen), [(label.item_id, label.outcome) for label in joiner.join(click)]
    ([], [('cafe', 'click')])
    """

    def __init__(self, window_s: float, limit: int = 500_000) -> None:
        self._window_ms, self._limit = int(window_s * 1000), limit
        self._shown: OrderedDict[str, Shown] = OrderedDict()
        self._waiting: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._decided: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._latest_ms = 0

    def shown(self, request_id: str, offer: Shown) -> None:
        """A recommendation was sent."""
        self._shown[request_id] = offer
        if len(self._shown) > self._limit:
            self._shown.popitem(last=False)

    def offer_of(self, feedback: RecommendationFeedback) -> Shown | None:
        """What the feedback is about; None if that recommendation is not remembered or was another user's."""
        offer = self._shown.get(feedback.request_id)
        if offer is None or offer.user_id != feedback.user_id or feedback.item_id not in offer.item_ids:
            return None
        return offer

    def join(self, feedback: RecommendationFeedback) -> list[Label]:
        """The labels that this message decides; it may also end the window of earlier impressions."""
        self._latest_ms = max(self._latest_ms, feedback.event_time_ms)
        labels = list(self._expire())
        offer = self.offer_of(feedback)
        key = (feedback.request_id, feedback.item_id)
        if offer is None or key in self._decided:
            return labels
        if feedback.kind == "impression":
            self._waiting.setdefault(key, feedback.event_time_ms)
            return labels
        seen_ms = self._waiting.pop(key, feedback.event_time_ms)
        if feedback.event_time_ms - seen_ms <= self._window_ms:
            labels.append(self._decide(key, offer, feedback.kind, feedback.event_time_ms))
        return labels

    def state(self) -> bytes:
        """What was shown, what waits and what is decided, packed."""
        waiting = [(*key, seen_ms) for key, seen_ms in self._waiting.items()]
        return _ENCODER.encode(_State(self._shown, waiting, list(self._decided), self._latest_ms))

    def load_state(self, state: bytes) -> None:
        """Take over what ``state`` gave. Raises ValueError (msgspec.ValidationError) if it is not such a state."""
        held = _DECODER.decode(state)
        self._shown = OrderedDict(held.shown)
        self._waiting = OrderedDict(((request, item), seen_ms) for request, item, seen_ms in held.waiting)
        self._decided = OrderedDict.fromkeys(held.decided)
        self._latest_ms = held.latest_ms

    def _expire(self) -> Iterator[Label]:
        while self._waiting:
            key, seen_ms = next(iter(self._waiting.items()))
            if self._latest_ms - seen_ms <= self._window_ms and len(self._waiting) <= self._limit:
                return
            del self._waiting[key]
            offer = self._shown.get(key[0])
            if offer is not None:
                yield self._decide(key, offer, "ignored", seen_ms + self._window_ms)

    def _decide(self, key: tuple[str, str], offer: Shown, outcome: Outcome, time_ms: int) -> Label:
        self._decided[key] = None
        if len(self._decided) > self._limit:
            self._decided.popitem(last=False)
        position = offer.item_ids.index(key[1])
        return Label(
            request_id=key[0],
            user_id=offer.user_id,
            item_id=key[1],
            position=position,
            strategy=offer.chosen_by[position] if offer.chosen_by else offer.strategy,
            outcome=outcome,
            event_time_ms=time_ms,
        )


class _State(msgspec.Struct, array_like=True):
    shown: dict[str, Shown]
    waiting: list[tuple[str, str, int]]
    decided: list[tuple[str, str]]
    latest_ms: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_State)
