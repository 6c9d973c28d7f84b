"""Records that were fetched are gone as soon as nobody can read them any more."""

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.engine.fetched_records import FetchedRecords, ReadRecords

TP = TopicPartition("events", 0)


@pytest.fixture
def without_looks_for_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fetched(records: int = 10, position: int = 0) -> tuple[FetchResult, "weakref.ref[PartitionRecords]"]:
    """What aiokafka makes of an answer of a broker."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=9_999)
    for offset in range(records):
        builder.append(offset, 0, b"key", b"value", [])
    answer = MemoryRecords(bytes(builder.build()))
    partition_records = PartitionRecords(TP, answer, [], 0, None, None, True, 0)
    state = SimpleNamespace(paused=False, position=position)
    state.consumed_to = lambda offset: setattr(state, "position", offset)
    assignment: Any = SimpleNamespace(active=True, state_value=lambda tp: state)
    result = FetchResult(TP, assignment=assignment, partition_records=partition_records, backoff=0.0)
    return result, weakref.ref(partition_records)


@pytest.mark.usefixtures("without_looks_for_cycles")
def test_what_nobody_read_goes_with_its_place() -> None:
    held = FetchedRecords()
    held[TP], records = fetched()
    assert records() is not None
    del held[TP]
    assert records() is None


@pytest.mark.usefixtures("without_looks_for_cycles")
def test_what_was_read_in_part_goes_with_its_place() -> None:
    held = FetchedRecords()
    held[TP], records = fetched()
    assert [one.offset for one in held[TP].getall(4)] == [0, 1, 2, 3]
    assert [one.offset for one in held[TP].getall(4)] == [4, 5, 6, 7] and records() is not None
    del held[TP]
    assert records() is None


@pytest.mark.usefixtures("without_looks_for_cycles")
def test_what_was_delivered_another_way_goes_when_it_is_asked_for() -> None:
    held = FetchedRecords()
    held[TP], records = fetched(position=5)
    assert held[TP].getall() == [] and records() is None


@pytest.mark.usefixtures("without_looks_for_cycles")
def test_what_was_read_to_the_end_is_all_there_and_gone() -> None:
    held = FetchedRecords()
    held[TP], records = fetched()
    assert [one.offset for one in held[TP].getall()] == list(range(10)) and records() is None


@pytest.mark.usefixtures("without_looks_for_cycles")
def test_by_itself_what_nobody_read_stays() -> None:
    result, records = fetched()
    del result
    assert records() is not None, "aiokafka lets go by itself now: FetchedRecords is not needed any more"


def test_light_records_say_what_those_of_aiokafka_say() -> None:
    """Faust makes messages of either."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=9_999)
    builder.append(0, 7, b"key", b"value", [("reason", b"late")])
    builder.append(1, 8, None, None, [])
    answer = bytes(builder.build())
    stock = list(PartitionRecords(TP, MemoryRecords(answer), [], 0, None, None, True, 0))
    ours = list(ReadRecords(PartitionRecords(TP, MemoryRecords(answer), [], 0, None, None, True, 0)))
    for name in (field.name for field in dataclasses.fields(ConsumerRecord)):
        assert [getattr(one, name) for one in ours] == [getattr(one, name) for one in stock], name


def test_a_collector_of_cycles_has_nothing_to_look_at_in_light_records() -> None:
    held = FetchedRecords()
    held[TP], _ = fetched()
    assert not any(gc.is_tracked(one) or gc.is_tracked(one.headers) for one in held[TP].getall())
