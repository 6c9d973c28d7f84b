"""What our transport and table rely on in Faust and aiokafka: a new version that breaks one of these must fail here first."""

import inspect
from importlib.metadata import version

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.app.base import App
from faust.tables.base import Collection
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver
from mode.utils.queues import FlowControlEvent

from streams.engine import transport
from streams.engine.consumer_thread import BatchConsumerThread
from streams.engine.table import StateTable


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_pinned_pair_is_the_one_that_was_tested() -> None:
    assert (version("faust-streaming"), version("aiokafka")) == ("0.15.3", "0.14.0")


@pytest.mark.parametrize(
    ("owner", "method", "expected"),
    [
        (Consumer, "_drain_messages", ["self", "fetcher"]),
        (Consumer, "_new_offset", ["self", "tp"]),
        (Consumer, "_wait_next_records", ["self", "timeout"]),
        (Consumer, "perform_seek", ["self"]),
        (Consumer, "on_partitions_revoked", ["self", "revoked"]),
        (Consumer, "on_partitions_assigned", ["self", "assigned", "generation_id"]),
        (ThreadDelegateConsumer, "_getmany", ["self", "active_partitions", "timeout"]),
        (ThreadDelegateConsumer, "_new_consumer_thread", ["self"]),
        (driver.Consumer, "_to_message", ["self", "tp", "record"]),
        (driver.AIOKafkaConsumerThread, "_highwaters", ["self", "partitions"]),
        (driver.AIOKafkaConsumerThread, "subscribe", ["self", "topics"]),
        (
            driver.AIOKafkaConsumerThread,
            "_fetch_records",
            ["self", "consumer", "active_partitions", "timeout", "max_records"],
        ),
        (Fetcher, "seek_to", ["self", "tp", "offset"]),
        (SubscriptionState, "is_assigned", ["self", "tp"]),
        (Assignment, "state_value", ["self", "tp"]),
        (Consumer, "_get_active_partitions", ["self"]),
        (AIOKafkaConsumer, "topics", ["self"]),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
        (driver, "credentials_to_aiokafka_auth", ["credentials", "ssl_context"]),
        (driver, "server_list", ["urls", "default_port"]),
        (App, "_new_transport", ["self"]),
        (Collection, "persisted_offset", ["self", "tp"]),
        (Collection, "apply_changelog_batch", ["self", "batch"]),
        (Collection, "on_rebalance", ["self", "assigned", "revoked", "newly_assigned", "generation_id"]),
        (Collection, "on_recovery_completed", ["self", "active_tps", "standby_tps"]),
        (Recovery, "revoke", ["self", "tp"]),
        (AIOKafkaProducer, "create_batch", ["self"]),
        (AIOKafkaProducer, "send_batch", ["self", "batch", "topic", "partition"]),
        (BatchBuilder, "append", ["self", "timestamp", "key", "value", "headers"]),
        (AIOKafkaConsumer, "highwater", ["self", "partition"]),
        (driver.AIOKafkaConsumerThread, "on_start", ["self"]),
        (Fetcher, "_get_actions_per_node", ["self", "assignment"]),
        (Fetcher, "_create_fetch_waiter", ["self"]),
        (Fetcher, "_notify", ["self", "future"]),
    ],
)
def test_a_method_that_we_override_or_call_has_the_signature_we_know(
    owner: object, method: str, expected: list[str]
) -> None:
    assert parameters(getattr(owner, method)) == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (transport.BatchConsumer, driver.Consumer),
        (BatchConsumerThread, driver.AIOKafkaConsumerThread),
        (StateTable, Collection),
        (transport.BatchApp, App),
    ],
)
def test_every_override_still_overrides_something(ours: type, theirs: type) -> None:
    own = {
        "_await_topics",
        "_fetched_ends",
        "_probe_settings",
        "_deliver_fetched",
        "_deliver_all",
        "_deliver_apart",
        "_deliver_handed",
        "_forget_delivered",
        "_hand_on",
        "_hand_over",
        "_see_round_through",
        "_note_backlog",
        "_new_topics",
        "_unread",
        "_deliver",
        "_batch_message",
        "reported_ends",
        "progress",
    }
    own |= {"append", "owns", "wants_snapshot", "start_snapshot", "_write", "_write_snapshot", "_drop", "_build"}
    methods = {name for name, value in vars(ours).items() if inspect.isfunction(value) and not name.startswith("__")}
    assert {name for name in methods - own if not hasattr(theirs, name)} == set()


def test_the_consumer_has_the_fields_that_the_batch_delivery_uses() -> None:
    source = inspect.getsource(Consumer)
    for field in ("_acked", "_acked_index", "_read_offset", "_buffered_partitions", "suspend_flow", "flow_active"):
        assert f"self.{field}" in source
    assert "consumer_stopped_errors" in vars(driver.Consumer)


def test_the_consumer_makes_its_fetcher_when_it_starts_from_a_field_that_we_set() -> None:
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)


def test_the_fetcher_asks_what_to_do_whenever_it_is_woken_and_has_the_fields_that_the_demand_uses() -> None:
    loop = inspect.getsource(Fetcher._fetch_requests_routine)
    assert loop.index("self._wait_consume_future = create_future()") < loop.index(
        "self._get_actions_per_node(assignment)"
    )
    assert "fetch_requests,\n                    reset_requests," in loop
    assert "self._create_fetch_waiter()" in inspect.getsource(Fetcher.fetched_records)
    assert "backoff=self._prefetch_backoff" in inspect.getsource(Fetcher._proc_fetch_request)
    assert "self._fetcher_timeout" in inspect.getsource(Fetcher._get_actions_per_node)


def test_recovery_asks_the_table_for_its_offset_and_calls_it_when_it_is_complete() -> None:
    assert "table.persisted_offset(tp)" in inspect.getsource(Recovery._add)
    assert "table.on_recovery_completed(" in inspect.getsource(Recovery.on_recovery_completed)
    assert "table.apply_changelog_batch(" in inspect.getsource(Recovery.flush_buffers)


def test_faust_still_empties_the_queues_between_the_seek_and_the_end_of_a_rebalance_which_is_why_ours_keep_them() -> (
    None
):
    steps = inspect.getsource(Recovery.on_recovery_completed)
    order = [
        "consumer.resume_partitions(",
        "consumer.perform_seek()",
        "flow_control.resume()",
        "app.on_rebalance_end()",
    ]
    assert [steps.index(step) for step in order] == sorted(steps.index(step) for step in order)
    assert "self.clear()" in inspect.getsource(FlowControlEvent.resume)


def test_faust_still_acknowledges_after_an_exception_which_is_why_our_agents_do_it_themselves() -> None:
    from faust.streams import Stream

    assert "noack" in vars(Stream)
    assert "event.ack()" in inspect.getsource(Stream._py_aiter)
