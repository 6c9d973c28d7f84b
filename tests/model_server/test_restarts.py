"""Crashes, restarts and rebalances: nothing is lost, learned twice, or back in version."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from serving_harness import START_MS, RunningServer, probing, settings_of, until

from chronotope.kafka.topics import apply_topics
from chronotope.local.ports import free_ports
from chronotope.local.services import Service
from chronotope.local.stack import LocalStack
from model_server.consuming import OwnedConsumer
from model_server.ledger import Source
from model_server.metrics import ServerMetrics
from model_server.ranking import Query
from model_server.recovery import CheckpointKeeper
from model_server.rules.fallback import FallbackRanker
from schemas.topics import EVENTS

pytestmark = pytest.mark.integration


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with LocalStack(tmp_path) as running:
        apply_topics(running.kafka)
        yield running


def own_items(running: RunningServer, user: str) -> list[str]:
    ranker = running.server.strategies["popular"].ranker
    (ranking,) = ranker.rank([Query(user_id=user, k=5)])
    return [item.item_id for item in ranking.items if "personal" in item.experts]


def weights(running: RunningServer, user: str) -> list[float]:
    ranker = running.server.strategies["popular"].ranker
    assert isinstance(ranker, FallbackRanker)
    habits = ranker._users[user]
    return [round(weight, 6) for weight in habits.counts.values()]


def test_a_warm_restart_goes_on_from_the_checkpoint_without_learning_anything_twice(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings = settings_of(stack, checkpoint_dir=tmp_path / "checkpoints")
    with probing(stack) as probe:
        with RunningServer(settings) as first:
            for n in range(3):
                probe.event("ann", f"i{n}", START_MS + n)
            until(lambda: len(own_items(first, "ann")) == 3, "three items are learned")
            version = probe.next_of("ann").version
        for n in range(3, 5):
            probe.event("ann", f"i{n}", START_MS + n)
        before = len(probe.of("ann"))
        with RunningServer(settings) as second:
            assert second.value("chronotope_checkpoints_total", outcome="restored") == 1
            latest = probe.next_of("ann", after=before)
            until(lambda: len(own_items(second, "ann")) == 5, "what came in between is learned")
            assert weights(second, "ann") == [1.0] * 5
            assert latest.version > version
            assert second.value("chronotope_server_records_total", topic="behavior.event.raw.v1") == 2


def test_the_served_model_ranks_on_after_a_warm_restart_as_if_nothing_had_happened(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings = settings_of(stack, checkpoint_dir=tmp_path / "checkpoints", strategies={"fused": 1.0})
    people = [f"user-{n}" for n in range(6)]

    def answers(running: RunningServer) -> list[list[tuple[str, float]]]:
        rankings = running.server.strategies["fused"].ranker.rank([Query(user_id=user, k=5) for user in people])
        return [[(item.item_id, round(item.probability, 6)) for item in ranking.items] for ranking in rankings]

    with probing(stack) as probe:
        with RunningServer(settings) as first:
            for n in range(90):
                probe.event(people[n % 6], f"i{n * n % 13}", START_MS + n)
            until(lambda: all(probe.of(user) for user in people), "everybody is recommended something")
            until(lambda: first.value("chronotope_server_users") == 6, "all of them are known")
        left = answers(first)
        with RunningServer(settings) as second:
            assert second.value("chronotope_checkpoints_total", outcome="restored") == 1
            assert answers(second) == left
            before = len(probe.of("user-1"))
            probe.event("user-1", "i3", START_MS + 1_000)
            assert probe.next_of("user-1", after=before).strategy == "fused"
            samples = [sample for family in second.metrics.registry.collect() for sample in family.samples]
            assert not any(one.value for one in samples if one.name == "chronotope_server_model_errors_total")


def test_without_a_checkpoint_everything_is_learned_again_and_nothing_confirmed_is_sent_again(
    stack: LocalStack,
) -> None:
    with probing(stack) as probe:
        with RunningServer(settings_of(stack)) as first:
            for n in range(3):
                probe.event("ann", f"i{n}", START_MS + n)
            until(lambda: len(own_items(first, "ann")) == 3, "three items are learned")
            until(lambda: len(first.server.ledger) == 0 and len(first.server.scheduler) == 0, "everything is settled")
        before = len(probe.of("ann"))
        with RunningServer(settings_of(stack)) as second:
            assert weights(second, "ann") == [1.0] * 3, "ready means learned again"
            time.sleep(0.3)
            assert len(probe.of("ann")) == before
            probe.event("ann", "i9", START_MS + 9)
            versions = [probe.next_of("ann", after=before).version, *(r.version for r in probe.of("ann")[:before])]
            assert versions[0] == max(versions)


def test_events_that_the_checkpoint_holds_but_redis_never_got_are_sent_again_and_not_learned_again(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings = settings_of(stack, checkpoint_dir=tmp_path / "checkpoints")
    nowhere = stack.redis.model_copy(
        update={"url": SecretStr(f"redis://127.0.0.1:{free_ports(1)[0]}/0"), "timeout_s": 0.2}
    )
    with probing(stack) as probe:
        with RunningServer(settings.model_copy(update={"redis": nowhere})) as first:
            for n in range(3):
                probe.event("ann", f"i{n}", START_MS + n)
            until(lambda: len(own_items(first, "ann")) == 3, "three items are learned")
            latest = probe.next_of("ann")
        before = len(probe.of("ann"))
        with RunningServer(settings) as second:
            assert probe.next_of("ann", after=before).version > latest.version
            until(lambda: len(second.server.ledger) == 0, "everything is settled")
            assert second.value("chronotope_server_records_total", topic="behavior.event.raw.v1") == 3
            assert weights(second, "ann") == [1.0] * 3
            client = redis.Redis.from_url(stack.redis.url.get_secret_value())
            assert client.exists("chronotope:recommendation:ann")


@pytest.mark.parametrize("damage", ["garbage", "other settings"])
def test_a_checkpoint_that_cannot_be_used_is_refused_and_everything_learned_again(
    stack: LocalStack, tmp_path: Path, damage: str
) -> None:
    settings = settings_of(stack, checkpoint_dir=tmp_path / "checkpoints")
    path = tmp_path / "checkpoints" / "server.checkpoint"
    with probing(stack) as probe, RunningServer(settings) as first:
        probe.event("ann", "cafe")
        until(lambda: own_items(first, "ann") == ["cafe"], "it is learned")
    if damage == "garbage":
        path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    else:
        settings = settings.model_copy(update={"exclude_seen": True})
    with RunningServer(settings) as second:
        assert second.value("chronotope_checkpoints_total", outcome="refused") == 1
        assert own_items(second, "ann") == ["cafe"]


def test_checkpoints_are_fewer_where_copying_takes_long(stack: LocalStack, tmp_path: Path) -> None:
    settings = settings_of(stack, checkpoint_every_s=0.05)
    for copying_s, due in ((0.0, True), (0.1, False)):
        keeper = CheckpointKeeper(tmp_path / str(copying_s), settings, ServerMetrics())

        def state(copying_s: float = copying_s) -> dict[str, Any]:
            time.sleep(copying_s)
            return {}

        keeper.save(state, {})
        keeper.wait()
        time.sleep(0.2)
        assert keeper.due == due


def test_versions_stay_above_the_topic_even_if_the_clock_steps_back(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with probing(stack) as probe:
        with RunningServer(settings_of(stack)):
            probe.event("ann", "cafe")
            first = probe.next_of("ann")
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
        with RunningServer(settings_of(stack)):
            probe.event("ann", "gym", START_MS + 1)
            assert probe.next_of("ann", after=1).version > first.version


def test_two_instances_share_the_users_and_one_takes_over_when_the_other_leaves(stack: LocalStack) -> None:
    users = [f"u{n}" for n in range(12)]
    with probing(stack) as probe, RunningServer(settings_of(stack)) as first:
        with RunningServer(settings_of(stack)) as second:
            until(lambda: len(second.server.owned_partitions()) == 2, "the users are shared out")
            for user in users:
                probe.event(user, "cafe")
            for user in users:
                probe.next_of(user)
            served = [
                instance.value("chronotope_recommendations_total", strategy="popular") for instance in (first, second)
            ]
            assert min(served) > 0
            for instance in (first, second):
                until(
                    lambda i=instance: {i.get(f"/recommendations/{user}")[1]["trigger"] for user in users} == {"event"},
                    "either one looks up everybody's standing recommendation",
                )
        until(
            lambda: len(first.server.owned_partitions()) == 4 and not first.server.problems(),
            "the first owns everything",
        )
        for user in users:
            assert own_items(first, user) == ["cafe"], "the history of the other's users was learned from the log"
            seen = probe.of(user)
            probe.event(user, "gym", START_MS + 1)
            later = probe.next_of(user, after=len(seen))
            assert later.version > max(each.version for each in seen)
            assert {item.item_id for item in later.items} == {"cafe", "gym"}


def test_no_partition_is_owned_before_it_is_known_what_of_it_is_to_be_learned_again(stack: LocalStack) -> None:
    told: list[tuple[set[Source], set[Source]]] = []
    consumer = OwnedConsumer(
        stack.kafka,
        "readiness",
        [EVENTS],
        session_timeout_ms=1_000,
        learned=lambda source: 0,
        on_gained=lambda starts: told.append((set(starts), consumer.owned.copy())),
        on_lost=lambda sources: None,
    )
    try:
        until(lambda: not consumer.poll(1, 0.01) and bool(told), "partitions are gained")
        assert told == [(consumer.owned, set())]
    finally:
        consumer.close()


def test_after_a_sigkill_in_mid_load_every_user_ends_with_a_recommendation_of_the_last_event(
    stack: LocalStack, tmp_path: Path
) -> None:
    port = free_ports(1)[0]
    environment = stack.environment() | {
        "CHRONOTOPE_SERVER_HTTP_PORT": str(port),
        "CHRONOTOPE_SERVER_STRATEGIES": '{"popular": 1}',
        "CHRONOTOPE_SERVER_SESSION_TIMEOUT_MS": "1000",
        "CHRONOTOPE_SERVER_CHECKPOINT_DIR": str(tmp_path / "checkpoints"),
        "CHRONOTOPE_SERVER_CHECKPOINT_EVERY_S": "0.5",
    }
    users, rounds = [f"u{n}" for n in range(40)], 20
    with probing(stack) as probe:
        with Service("killed", "serve", environment, stack, port) as killed:
            killed.await_ready()
            for n in range(rounds):
                for user in users:
                    probe.event(user, f"i{n % 7}", START_MS + n, flush=user == users[-1])
                if n == rounds // 2:
                    os.kill(killed.process.pid, signal.SIGKILL)
        with Service("revived", "serve", environment, stack, port) as revived:
            revived.await_ready()

            def reflected() -> bool:
                latest = {each.user_id: each.source_offset for each in probe.poll()}
                return latest == {user: probe.last_offset[user] for user in users}

            until(reflected, "every user's last event is reflected", 60)
            for user in users:
                versions = [each.version for each in probe.of(user)]
                assert versions == sorted(set(versions))
            client = redis.Redis.from_url(stack.redis.url.get_secret_value())
            newest = {each.user_id: each.version for each in probe.poll()}

            def stored(user: str) -> int:
                return int(client.hget(f"chronotope:recommendation:{user}", "version") or 0)

            until(lambda: {user: stored(user) for user in users} == newest, "redis holds the same versions")
