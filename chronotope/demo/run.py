"""One demo run: start everything, replay, watch until all that was sent has arrived everywhere, sum up."""

import math
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from chronotope.demo.accounting import Accounting, Progress
from chronotope.demo.board import Board
from chronotope.demo.observer import Observer
from chronotope.demo.summary import Freshness, Summary
from chronotope.kafka.catalogue import catalogued_items
from chronotope.kafka.producer import EventProducer
from chronotope.kafka.topics import apply_topics
from chronotope.local.process import ProcessFailed
from chronotope.local.services import LocalServices
from chronotope.local.stack import LocalStack
from chronotope.replay import Replay
from schemas.events import BehaviorEvent

LOOK_EVERY_S = 0.5
QUIET_S = 1.5
STALL_S = 90.0


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What the live view shows."""

    phase: str
    seconds: float
    sent: int
    users_sent: int
    event_time_ms: int
    progress: Progress | None
    board: Board


Show = Callable[[Moment], None]


class Demo:
    """Runs ``events`` through a local stack; ``show`` is called twice a second with the present state."""

    def __init__(self, stack: LocalStack, workers: int, show: Show) -> None:
        self._stack = stack
        self._workers = workers
        self._show = show

    def run(self, events: Iterator[BehaviorEvent], rate: float = math.inf, duration_s: float = math.inf) -> Summary:
        """Replay and wait until everything has settled; what was started has ended on return, however that comes about.

        Raises ProcessFailed if a service dies or nothing moves for ``STALL_S`` seconds, ClusterError, and whatever the
        iterator of events raises.
        """
        producer = EventProducer(self._stack.kafka)
        apply_topics(self._stack.kafka)
        replay = Replay(producer, events, rate, catalogued_items(self._stack.kafka))
        board = Board(producer.times)
        with LocalServices(self._stack, self._workers) as services:
            self._show_phase("starting the services (the very first time compiles kernels)", replay, board)
            services.await_ready()
            with (
                Observer(self._stack.kafka, board) as observer,
                Accounting(self._stack.kafka, services, *services.groups) as accounting,
            ):
                last, processing_s = self._drive(replay, duration_s, services, observer, accounting)
                return _sum_up(last, board, replay, processing_s)

    def _drive(
        self,
        replay: Replay,
        duration_s: float,
        services: LocalServices,
        observer: Observer,
        accounting: Accounting,
    ) -> tuple[Progress, float]:
        """The last progress, and the seconds until the workers had processed the last event."""
        started, processed, processing_s = time.monotonic(), 0, 0.0
        sender, stalled = _Sender(replay, duration_s), _StallWatch()
        sender.start()
        try:
            while True:
                time.sleep(LOOK_EVERY_S)
                services.check_alive()
                if observer.failure is not None:
                    raise observer.failure
                progress = accounting.look()
                if progress.processed != processed:
                    processed, processing_s = progress.processed, time.monotonic() - started
                phase = "replaying" if sender.is_alive() else "settling"
                self._show(_moment(phase, time.monotonic() - started, replay, observer.board, progress))
                if not sender.is_alive():
                    sender.raise_failure()
                    if progress.settled and observer.quiet_s > QUIET_S:
                        return progress, processing_s
                stalled.check((replay.producer.sent, observer.board.records, progress))
        finally:
            sender.stop()

    def _show_phase(self, phase: str, replay: Replay, board: Board) -> None:
        self._show(_moment(phase, 0.0, replay, board, None))


class _Sender(threading.Thread):
    """The replay in a thread; its failure is raised in the main thread."""

    def __init__(self, replay: Replay, duration_s: float) -> None:
        super().__init__(name="replay", daemon=True)
        self._replay = replay
        self._duration_s = duration_s
        self._ending = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._replay.run(self._ending, self._duration_s)
        except BaseException as error:
            self._failure = error

    def stop(self) -> None:
        self._ending.set()
        self.join()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class _StallWatch:
    """Raises ProcessFailed when what it is shown has not changed for ``STALL_S`` seconds."""

    def __init__(self) -> None:
        self._last: object = None
        self._changed = time.monotonic()

    def check(self, state: object) -> None:
        if state != self._last:
            self._last, self._changed = state, time.monotonic()
        elif time.monotonic() - self._changed > STALL_S:
            raise ProcessFailed(f"nothing has moved for {STALL_S:g} s: {state}")


def _moment(phase: str, seconds: float, replay: Replay, board: Board, progress: Progress | None) -> Moment:
    return Moment(
        phase=phase,
        seconds=seconds,
        sent=replay.producer.sent,
        users_sent=len(replay.users),
        event_time_ms=replay.last_event_time_ms,
        progress=progress,
        board=board,
    )


def _sum_up(last: Progress, board: Board, replay: Replay, seconds: float) -> Summary:
    p50, p99 = board.freshness_ms() or (None, None)
    return Summary(
        events_sent=replay.producer.sent,
        events_processed=last.processed,
        events_repeated=last.repeated,
        events_rejected=board.rejected,
        events_late=board.late,
        clusters_live=len(board.clusters),
        periodic_entities=len(board.periodic),
        transition_states=len(board.transitions),
        recommendations_published=board.recommendations,
        users_with_recommendations=len(board.users),
        freshness_ms=Freshness(p50=p50, p99=p99),
        events_per_s=round(last.processed / max(seconds, 1e-9), 1),
    )
