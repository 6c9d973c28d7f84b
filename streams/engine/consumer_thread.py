"""The thread of a Faust consumer in which aiokafka fetches: on demand, behind what is delivered without it, to true ends."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.engine.fetched_records import FetchedRecord, FetchedRecords
from streams.engine.fetching import FETCH_MAX_WAIT_MS, FetchDemand
from streams.engine.handing_over import skip

END_OFFSET_DEADLINE_S = 20.0
TOPICS_DEADLINE_S = 30.0
PAUSE_S = 0.05


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches on demand and without long waits, and reads true end offsets before a recovery.

    A client has one fetch at a time in flight per broker; what comes to a partition that is not in it waits for its end, which
    Faust leaves at 1.5 s. A broker's ListOffsets answer may lie before the end of the last batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.demand = FetchDemand()
        self.delivered: dict[TP, int] = {}

    async def on_start(self) -> None:
        """Connect, and let the demand govern what is fetched."""
        await super().on_start()
        fetcher = self._ensure_consumer()._fetcher
        fetcher._records = FetchedRecords(fetcher._records)
        self.demand.govern(fetcher)

    async def _fetch_records(
        self, consumer: AIOKafkaConsumer, active_partitions: set[TP], timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[FetchedRecord]]:  # fmt: skip
        skip(consumer._fetcher, self.delivered)
        records: Mapping[TP, list[FetchedRecord]]
        records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        return records

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe once the brokers tell of every topic. Raises RuntimeError if they do not in time.

        A changelog that was created a moment ago may not be known to all of them yet, and the group's assignor passes over a
        topic that its leader does not see: a partition of the source would be assigned without its state.
        """
        wanted = set(topics)
        await self.call_thread(self._await_topics, wanted)
        await super().subscribe(wanted)

    async def _await_topics(self, wanted: set[str]) -> None:
        deadline = asyncio.get_running_loop().time() + TOPICS_DEADLINE_S
        while missing := wanted - await self._ensure_consumer().topics():
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"the brokers tell of no topic {', '.join(sorted(missing))}")
            await asyncio.sleep(PAUSE_S)

    async def _highwaters(self, partitions: list[TP]) -> Mapping[TP, int]:
        reported = dict(await super()._highwaters(partitions))
        tails = {tp: end - 1 for tp, end in reported.items() if end}
        return reported | (await self._fetched_ends(tails) if tails else {})

    async def reported_ends(self, partitions: Sequence[TP]) -> Mapping[TP, int]:
        """The end offsets that the brokers report: one request, and on some brokers a little before the end."""
        ends: Mapping[TP, int] = await self.call_thread(super()._highwaters, list(partitions))
        return ends

    async def _fetched_ends(self, tails: dict[TP, int]) -> dict[TP, int]:
        """The high watermarks that fetches at ``tails`` report, exact on every broker."""
        consumer = AIOKafkaConsumer(**self._probe_settings(), enable_auto_commit=False)
        await consumer.start()
        try:
            probes = {driver._TopicPartition(tp.topic, tp.partition): tp for tp in tails}
            consumer.assign(list(probes))
            for probe, tp in probes.items():
                consumer.seek(probe, tails[tp])
            ends: dict[TP, int] = {}
            deadline = asyncio.get_running_loop().time() + END_OFFSET_DEADLINE_S
            while len(ends) < len(probes):
                if asyncio.get_running_loop().time() > deadline:
                    missing = sorted(str(tp) for tp in tails if tp not in ends)
                    raise RuntimeError(f"no end offset within {END_OFFSET_DEADLINE_S} s for {', '.join(missing)}")
                await consumer.getmany(timeout_ms=50, max_records=1)
                ends = {tp: end for probe, tp in probes.items() if (end := consumer.highwater(probe)) is not None}
            return ends
        finally:
            await consumer.stop()

    def _probe_settings(self) -> dict[str, Any]:
        conf = self.app.conf
        auth = driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
        servers = driver.server_list(self.transport.url, self.transport.default_port)
        return {"bootstrap_servers": servers, "max_partition_fetch_bytes": conf.consumer_max_fetch_size, **auth}
