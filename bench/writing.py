"""Milliseconds until Kafka has a few small records for each of many partitions: the worker's writer beside confluent-kafka's.

``python bench/writing.py [--topics N] [--records N] [--writes N]``. That is what a stage's batch comes to at a steady load. Both
write in turn, several rounds, to the same four-partition topics of an Apache Kafka in a local JVM; the broker's processor time
is taken from its process.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from processes import processor_s
from rich.console import Console
from rich.table import Table

from chronotope.local.apache_kafka import ApacheKafka
from schemas.settings import KafkaSettings
from streams.app import writer_config
from streams.engine.writer import BatchWriter, OutRecord
from streams.settings import WorkerSettings

ROUNDS, PARTITIONS, WARM_UP, PAUSE_S = 3, 4, 20, 0.03
VALUE = bytes(300)
Records = list[OutRecord]


async def ours(kafka: KafkaSettings, records: Records, writes: int, warm: Callable[[], None]) -> list[float]:
    """How long each write took with the worker's writer."""
    writer, took_ms = BatchWriter(writer_config(WorkerSettings(kafka=kafka))), list[float]()
    for at in range(WARM_UP + writes):
        if at == WARM_UP:
            warm()
        began = time.perf_counter()
        writing = asyncio.create_task(writer.write(records))
        await asyncio.sleep(0)
        writer.release()
        await writing
        took_ms.append((time.perf_counter() - began) * 1000.0)
        await asyncio.sleep(PAUSE_S)
    await writer.close()
    return took_ms[WARM_UP:]


def confluent(kafka: KafkaSettings, records: Records, writes: int, warm: Callable[[], None]) -> list[float]:
    """How long each write took with a confluent-kafka producer."""
    producer = Producer(kafka.confluent_producer() | {"linger.ms": 1, "compression.type": "none", "log_level": 0})
    took_ms, left = list[float](), 0

    def acknowledged(*_: object) -> None:
        nonlocal left
        left -= 1

    for at in range(WARM_UP + writes):
        if at == WARM_UP:
            warm()
        began, left = time.perf_counter(), len(records)
        for record in records:
            producer.produce(record.topic, record.value, None, record.partition, acknowledged)
        while left:
            producer.poll(0.001)
        took_ms.append((time.perf_counter() - began) * 1000.0)
        time.sleep(PAUSE_S)
    return took_ms[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topics", type=int, default=8, help="of four partitions each")
    parser.add_argument("--records", type=int, default=4, help="for each partition in each write")
    parser.add_argument("--writes", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chronotope-bench-") as name, ApacheKafka(Path(name)) as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap)
        names = [f"bench.{at}" for at in range(options.topics)]
        admin = AdminClient(kafka.confluent() | {"log_level": 0})
        for made in admin.create_topics([NewTopic(each, PARTITIONS, 1) for each in names]).values():
            made.result()
        records = [
            OutRecord(each, at, None, VALUE)
            for each in names for at in range(PARTITIONS) for _ in range(options.records)
        ]  # fmt: skip
        table = Table("", "p50 ms", "p90 ms", "broker's processor ms per write")
        for _ in range(ROUNDS):
            for who in ("ours", "confluent-kafka"):
                table.add_row(who, *_measured(who, kafka, records, options.writes, broker.brokers[0].pid))
        Console().print(table)


def _measured(who: str, kafka: KafkaSettings, records: Records, writes: int, broker_pid: int) -> tuple[str, str, str]:
    began_s = 0.0

    def warm() -> None:
        nonlocal began_s
        began_s = processor_s(broker_pid)

    took_ms = (
        asyncio.run(ours(kafka, records, writes, warm)) if who == "ours" else confluent(kafka, records, writes, warm)
    )
    used_ms = (processor_s(broker_pid) - began_s) * 1000.0 / writes
    cuts = statistics.quantiles(took_ms, n=10)
    return f"{statistics.median(took_ms):.1f}", f"{cuts[8]:.1f}", f"{used_ms:.1f}"


if __name__ == "__main__":
    main()
