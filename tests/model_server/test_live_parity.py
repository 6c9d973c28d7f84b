"""What ``chronotope evaluate`` measures is what is served: the same events by both ways give the same recommendations."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving_harness import START_MS, Probe, RunningServer, probing, settings_of, until

from chronotope.evaluation.fused import FUSED, FusedRun
from chronotope.evaluation.ranking import Standing
from chronotope.evaluation.stream import Stream, stream_of
from chronotope.kafka.topics import apply_topics
from chronotope.local.stack import LocalStack
from model_server.fusion.settings import FusionSettings
from model_server.fusion_ranker import FusionRanker
from schemas.events import BehaviorEvent
from schemas.partitioning import partition_of
from schemas.patterns import Pattern
from schemas.recommendations import Recommendation
from schemas.topics import EVENTS, PATTERN_TOPICS
from streams.pipeline import PatternPipeline
from streams.stages.output import key_of, topic_of

pytestmark = pytest.mark.integration
BLOCK = 64  # what the server learns at a time
BLOCKS = 5
SHOWN = 10


class Recorded(PatternPipeline):
    """The mining stages, remembering what they published for each block of events."""

    def __init__(self) -> None:
        super().__init__(partitions=1)
        self.blocks: list[list[Pattern]] = []

    def update(self, events: list[BehaviorEvent]) -> list[Pattern]:
        self.blocks.append(super().update(events))
        return self.blocks[-1]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with LocalStack(tmp_path) as running:
        apply_topics(running.kafka)
        yield running


def habits() -> Stream:
    """Twenty people of one partition (so that Kafka keeps the order of all events) and their rounds, with detours."""
    names = (f"person-{n}" for n in itertools.count())
    people = list(itertools.islice((u for u in names if partition_of(u.encode(), EVENTS.partitions) == 0), 20))
    rng = np.random.default_rng(4)
    rounds = [rng.choice(60, 4, replace=False) for _ in people]
    events = []
    for number in range(BLOCK * BLOCKS):
        who = int(rng.integers(len(people)))
        place = int(rounds[who][rng.integers(4)]) if rng.random() < 0.8 else int(rng.integers(60))
        events.append(
            BehaviorEvent(
                event_id=f"e{number}", user_id=people[who], item_id=f"place-{place}", action="checkin",
                event_time_ms=START_MS + number * 1_200_000, lat=40.7 + place // 8 * 0.004, lon=-74.0 + place % 8 * 0.004,
                context={"category": f"kind-{place % 5}"},
            )
        )  # fmt: skip
    return stream_of(events)


def evaluated(stream: Stream) -> tuple[dict[str, Standing], list[list[Pattern]]]:
    """By the id of the event that it followed: every standing answer; and the patterns of each block."""
    mining = Recorded()
    run = FusedRun(stream, "refresh", FusionSettings(micro_batch=BLOCK), mining, (FUSED,))
    answers = {
        stream.events[stream.previous[answer.at]].event_id: answer.rankings[FUSED]
        for answer in run.answers(stream.previous >= 0)
    }
    return answers, mining.blocks


def taken_in(running: RunningServer) -> float:
    """How many patterns the server has read."""
    return sum(running.value("chronotope_server_records_total", topic=spec.name) for spec in PATTERN_TOPICS)


def served(stream: Stream, patterns: list[list[Pattern]], stack: LocalStack, probe: Probe) -> dict[str, Recommendation]:
    """By the id of the event that it followed: every recommendation that an event caused; all of it through Kafka."""
    # learning only while nobody waits: a block is then ranked for as a whole before it is learned, as in the evaluation
    settings = settings_of(stack, strategies={"fused": 1.0}, learning_share=0.0)
    offsets = {}
    with RunningServer(settings) as running:
        ranker = running.server.strategies["fused"].ranker
        assert isinstance(ranker, FusionRanker)

        def learned(events: int) -> bool:
            counted = float(ranker.visits.touches.sum()) == events
            return counted and not (running.server.strategies.learning_due() or len(running.server.scheduler))

        told = 0
        for number, block in enumerate(patterns):
            for event in stream.events[number * BLOCK : (number + 1) * BLOCK]:
                probe.send(EVENTS, event.user_id, event, flush=False)
                offsets[len(offsets)] = event.event_id
            probe.flush()
            until(lambda n=number: learned((n + 1) * BLOCK), "the block is learned")
            for pattern in block:
                probe.send(topic_of(pattern), key_of(pattern), pattern, flush=False)
            probe.flush()
            told += len(block)
            until(lambda n=told: taken_in(running) == n, "the patterns are taken in")
        until(lambda: not len(running.server.scheduler), "nobody waits for a refresh")
        probe.poll()
    return {offsets[each.source_offset]: each for each in probe.poll() if each.trigger == "event"}


def test_the_same_events_through_kafka_and_through_the_evaluation_give_the_same_recommendations(
    stack: LocalStack,
) -> None:
    stream = habits()
    expected, patterns = evaluated(stream)
    assert sum(map(len, patterns)) > 100
    with probing(stack) as probe:
        found = served(stream, patterns, stack, probe)
    compared = {event_id for event_id in expected if event_id in found}
    assert len(compared) > BLOCKS * 10, "every user of a block but the last is compared"
    names = {int(code): event.item_id for code, event in zip(stream.item, stream.events)}
    for event_id in sorted(compared):
        shown, standing = found[event_id].items, expected[event_id]
        ranked = [names[code] for code in standing.top(SHOWN).tolist()]
        # the first block is ranked before anything was learned: what the model cannot fill, the server's fallbacks do
        assert [item.item_id for item in shown[: len(ranked)]] == ranked, event_id
        assert np.allclose([item.score for item in shown[: len(ranked)]], standing.scores[: len(ranked)], atol=1e-4)
