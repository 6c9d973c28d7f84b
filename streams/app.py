"""Builds the Faust application of a stream worker, and runs it until it is told to end."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog
from confluent_kafka.admin import AdminClient
from faust.types import TP

from schemas.avro_wire import ConfluentAvroDecoder, RegistrySchemaSource
from schemas.events import BehaviorEvent
from schemas.topics import TopicSpec
from schemas.validation import EventLimits
from streams.agents import SOURCES, add_agent
from streams.announcing import Announcer
from streams.decoding import EventDecoder
from streams.engine.fetched_records import FetchedRecord
from streams.engine.table import StateTable
from streams.engine.transport import BatchApp
from streams.engine.writer import BatchWriter
from streams.health import HealthServer, Heartbeat
from streams.memory_allocator import give_back_large_pieces, give_back_now_and_then
from streams.metrics import WorkerMetrics, WorkerMonitor
from streams.period_search import PeriodSearch
from streams.rehearsal import warm_up
from streams.runner import StageRunner, UserStep, internal_step
from streams.settings import WorkerSettings
from streams.stages.factory import crowd_stage, stage_factory
from streams.stages.kept_settings import kept_settings
from streams.stages.settings import MiningSettings
from streams.ticking import Ticker
from streams.watchdog import Watchdog

log = structlog.get_logger()
WORKER_TOPICS_TIMEOUT_S = 10.0
STOP_DEADLINE_S = 30.0
# Tracked objects made before the young ones are looked through, and how many looks before the older ones are.
GARBAGE_THRESHOLDS = (200_000, 20, 50)
# Partitions whose batches may wait for a stage in one round before fetching pauses; each batch holds up to some 3 MB.
ROUND_PARTITIONS = 8
# How long the thread that fetches waits for the one that computes: a tenth of what Python leaves it at.
SWITCH_INTERVAL_S = 0.0005


class TopicsMissingError(RuntimeError):
    """A topic that the worker needs does not exist, or topics that must be co-partitioned are not."""


def build_app(settings: WorkerSettings, partitions: int, metrics: WorkerMetrics | None = None) -> BatchApp:
    """The Faust app of one worker; ``partitions`` is the partition count of the event and internal topics."""
    metrics = metrics or WorkerMetrics(settings.app_id)
    mining = settings.mining(partitions)
    writer = BatchWriter(writer_config(settings))
    app = BatchApp(
        settings.app_id,
        batch_topics=[SOURCES[stage].name for stage in settings.stages],
        inner_topics=[SOURCES[stage].name for stage in settings.stages if stage != "user"],
        max_batch_events=settings.max_batch_events,
        writer=writer,
        Monitor=lambda *_, **__: WorkerMonitor(metrics),
        **_faust_settings(settings, partitions),
    )
    for stage in settings.stages:
        announce = Announcer(app, writer) if stage == "user" else None
        table = StateTable(
            app, name=stage, partitions=partitions, writer=writer, new_state=_new_state(stage, mining), on_live=announce
        )
        app.tables.add(table)
        if announce is not None:
            announce.table = table
        step: Any = (
            UserStep(event_decoder(settings, mining.limits), _is_last(app)) if stage == "user" else internal_step
        )
        runner = StageRunner(stage, step, table, writer, metrics, app.crash, partitions, app.round)
        add_agent(app, runner)
        if stage == "user":
            app.task(Ticker(runner, app.round).run)
        if stage in ("user", "place", crowd_stage(partitions)):
            app.task(PeriodSearch(runner).run)
    return app


def _new_state(stage: str, mining: MiningSettings) -> Callable[[int, bytes | None], Any]:
    """The stage's factory; it says so if a snapshot keeps settings that are no longer asked for."""
    make = stage_factory(stage, mining)

    def new_state(partition: int, snapshot: bytes | None) -> Any:
        state = make(partition, snapshot)
        for name, (asked, kept) in kept_settings(stage, state, mining).items():
            log.warning(
                "a setting is part of the state and stays as it was until the state is reset",
                table=stage, partition=partition, setting=name, asked=asked, kept=kept,
            )  # fmt: skip
        return state

    return new_state


def _is_last(app: BatchApp) -> Callable[[FetchedRecord], bool]:
    """Whether a record is the last of its partition, as far as the latest fetch knows."""

    def is_last(record: FetchedRecord) -> bool:
        tp = TP(record.topic, record.partition)
        if tp not in app.consumer.assignment():  # given up while the batch was in hand
            return False
        end = app.consumer.highwater(tp)
        return end is not None and record.offset + 1 >= end

    return is_last


def event_decoder(settings: WorkerSettings, limits: EventLimits) -> EventDecoder:
    """The decoder of the event topic: JSON, and Avro in the Confluent wire format if a registry is configured."""
    registry = settings.registry.client_config()
    if registry is None:
        return EventDecoder(limits)
    return EventDecoder(limits, ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource(registry)))


def _faust_settings(settings: WorkerSettings, partitions: int) -> dict[str, Any]:
    return {
        "broker": ["kafka://" + server for server in settings.kafka.bootstrap.split(",")],
        "broker_credentials": _credentials(settings),
        "datadir": str(settings.data_dir),
        "consumer_group_instance_id": settings.group_instance_id,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": settings.max_fetch_bytes,
        "broker_max_poll_records": settings.max_batch_events,
        "broker_commit_interval": settings.commit_interval_s,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.session_timeout_s / 6,
        "broker_request_timeout": max(60.0, 2 * settings.session_timeout_s),
        # Faust stops fetching partitions when their stage's queue is four fifths full, which one round must not make it.
        "stream_buffer_maxsize": settings.buffered_batches + 2 * min(partitions, ROUND_PARTITIONS),
        "stream_wait_empty": True,
        "stream_recovery_delay": 0.0,
        "topic_partitions": partitions,
        "topic_replication_factor": settings.kafka.replication_factor,
        "topic_disable_leader": True,
        "table_standby_replicas": settings.standby_replicas,
        "web_enabled": False,
        "web_host": settings.http_host,
        "web_port": settings.http_port or 6066,
    }


def writer_config(settings: WorkerSettings) -> dict[str, Any]:
    """What the worker's producer is told: to send at once."""
    return settings.kafka.aiokafka() | {"client_id": f"{settings.app_id}-worker", "linger_ms": 0}


def _credentials(settings: WorkerSettings) -> Any:
    import faust

    kafka, context = settings.kafka, settings.kafka.ssl_context()
    if kafka.security_protocol.startswith("SASL"):
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
        return faust.SASLCredentials(
            mechanism=kafka.sasl_mechanism, username=kafka.sasl_username, password=password, ssl_context=context
        )
    return faust.SSLCredentials(context=context) if context else None


def run_worker(settings: WorkerSettings) -> None:
    """Run one worker until SIGTERM or SIGINT, then finish the batches in hand, commit and leave.

    Raises TopicsMissingError if the topics are not there. A crash ends with SystemExit(1): a supervisor starts it again.
    """
    quiet_logs()
    give_back_large_pieces()
    partitions = check_topics(settings)
    started = time.perf_counter()
    warm_up()
    collect_garbage_seldom()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    log.info("kernels compiled", seconds=round(time.perf_counter() - started, 1))
    raise SystemExit(asyncio.run(_serve(settings, partitions)))


def quiet_logs() -> None:
    """Faust and aiokafka log every message at DEBUG and INFO, which costs half the throughput."""
    for name in ("faust", "aiokafka", "mode", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def collect_garbage_seldom() -> None:
    """Let the collector of cycles look less often: a batch makes tens of thousands of objects, hardly any of them in cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def check_topics(settings: WorkerSettings) -> int:
    """The partition count that the worker's source topics share. Raises TopicsMissingError."""
    found = AdminClient(settings.kafka.confluent()).list_topics(timeout=WORKER_TOPICS_TIMEOUT_S).topics
    needed: list[TopicSpec] = [SOURCES[stage] for stage in settings.stages]
    missing = [spec.name for spec in needed if spec.name not in found]
    if missing:
        raise TopicsMissingError(f"no such topic: {', '.join(missing)}; create them with: chronotope topics apply")
    counts = {spec.name: len(found[spec.name].partitions) for spec in needed}
    if len(set(counts.values())) != 1:
        raise TopicsMissingError(f"these topics must have equally many partitions: {counts}")
    return next(iter(counts.values()))


async def _serve(settings: WorkerSettings, partitions: int) -> int:
    metrics, heartbeat, ending = WorkerMetrics(settings.app_id), Heartbeat(), asyncio.Event()
    app = build_app(settings, partitions, metrics)
    health = HealthServer(settings.http_host, settings.http_port, heartbeat, metrics.registry)
    health.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    watchdog = Watchdog(app, settings, metrics, heartbeat)
    watching = asyncio.create_task(watchdog.watch())
    giving_back = asyncio.create_task(give_back_now_and_then())
    ended = asyncio.create_task(ending.wait())
    starting = asyncio.create_task(app.start())
    try:
        await asyncio.wait([watching, ended], return_when=asyncio.FIRST_COMPLETED)
        heartbeat.ready = False
        log.info("worker ends", reason=watchdog.verdict or "told to")
        await _stop(app, starting)
    finally:
        watching.cancel()
        giving_back.cancel()
        await app.writer.close()
        health.stop()
    return 1 if watchdog.verdict else 0


async def _stop(app: BatchApp, starting: "asyncio.Task[Any]", within_s: float = STOP_DEADLINE_S) -> None:
    """Stop the app. If it does not end in time the process does, at once: nothing unacknowledged was promised to anybody."""
    stopping = asyncio.create_task(app.stop())
    await asyncio.wait([stopping], timeout=within_s)
    if not stopping.done():  # a cancellation would be waited for, and may be swallowed
        log.error("the worker did not end in time", seconds=within_s)
        os._exit(1)
    stopping.result()
    starting.cancel()
