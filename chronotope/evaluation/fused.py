"""The fusion and the sequence model inside it, driven as live: blocks of events, patterns from the mining stages."""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from chronotope.evaluation.ranking import Standing
from chronotope.evaluation.stream import Stream
from model_server.fusion.head import Scored
from model_server.fusion.settings import FusionSettings, Mode
from model_server.fusion_ranker import FusionRanker
from streams.pipeline import PatternPipeline

FUSED, SEQUENCE, PLAIN = "fused", "sequence", "fused-by-probability"
RETURN_ONLY, EXPLORE_ONLY = "return-only", "explore-only"
FAMILY = (FUSED, SEQUENCE, PLAIN, RETURN_ONLY, EXPLORE_ONLY)


class Answer(msgspec.Struct, frozen=True):
    """What was recommended before event ``at``: a ranking per strategy, and the gate's probability of exploring."""

    at: int
    rankings: dict[str, Standing]
    explore: float


class FusedRun:
    """Replays a stream through a ranker and tells, for every scored event, what would have been shown.

    With mode "request" that is the answer for the event's time, from the state as of the block's start and the user's own events
    before. With "refresh" it is the answer computed after the user's previous event: the user's own events up to then, everything
    else as of the start of that event's block, so that nothing that came between the two events shows in it.
    """

    def __init__(
        self,
        stream: Stream,
        mode: Mode,
        settings: FusionSettings,
        pipeline: PatternPipeline | None,
        names: tuple[str, ...],
    ) -> None:
        self.stream, self.mode, self.names = stream, mode, names
        self.ranker = FusionRanker(settings)
        self.pipeline = pipeline
        self.patterns = 0
        self._row: npt.NDArray[np.int64] = np.full(stream.items, -1, np.int64)
        self._item: npt.NDArray[np.int64] = np.zeros(stream.items, np.int64)
        self._number = stream.own_numbers()
        self._pending: dict[int, tuple[dict[str, Standing], float]] = {}

    def answers(self, scored: npt.NDArray[np.bool_]) -> Iterator[Answer]:
        """An answer for every scored event, in blocks; the stream is learned on the way."""
        stream, block = self.stream, self.ranker.settings.micro_batch
        following = np.full(len(stream), -1, np.int64)
        later = np.flatnonzero(stream.previous >= 0)
        following[stream.previous[later]] = later
        for start in range(0, len(stream), block):
            stop = min(start + block, len(stream))
            yield from self._block(start, stop, scored, following)

    def late_answers(self, scored: npt.NDArray[np.bool_], delay_s: float) -> Iterator[Answer]:
        """The same for requests, from a model that every event, the user's own too, reaches ``delay_s`` after it happened.

        A user of whom nothing has arrived yet is shown what is popular.
        """
        stream, ranker = self.stream, self.ranker
        by_then = np.searchsorted(stream.time_s, stream.time_s - delay_s, side="right")
        arrived = np.minimum(by_then, np.arange(len(stream)))
        seen = 0
        for start in range(0, len(stream), ranker.settings.micro_batch):
            stop = min(start + ranker.settings.micro_batch, len(stream))
            events = stream.events[seen : min(by_then[stop - 1], stop)]
            arrivals = ranker.remember(events) if events else None
            if arrivals is not None:
                rows = arrivals.rows.cpu().numpy()
                self._row[stream.item[seen : seen + len(events)]] = rows
                self._item[rows] = stream.item[seen : seen + len(events)]
                seen += len(events)
            yield from self._asked_late(start + np.flatnonzero(scored[start:stop]), arrived)
            if arrivals is not None:
                ranker.learn(arrivals, ranker.test(arrivals))
                if self.pipeline is not None:
                    ranker.apply_patterns(self.pipeline.update(events))

    def _asked_late(self, asked: npt.NDArray[np.int64], arrived: npt.NDArray[np.int64]) -> Iterator[Answer]:
        stream, ranker = self.stream, self.ranker
        before = np.array([self._own_before(at, int(arrived[at])) for at in asked.tolist()], np.int64)
        for at in asked[before == 0].tolist():
            known = np.flatnonzero(self._row >= 0)
            touches = ranker.visits.touches[torch.from_numpy(self._row[known])].numpy()
            yield Answer(at, dict.fromkeys(self.names, Standing.of(known, touches)), 1.0)
        some, before = asked[before > 0], before[before > 0]
        if not len(some):
            return
        slots = ranker.histories.slots_of([stream.events[at].user_id for at in some.tolist()])
        scored = ranker.score(self.mode, slots, torch.from_numpy(before), torch.from_numpy(stream.time_s[some]))
        for at, (rankings, explore) in zip(some.tolist(), self._rankings(scored, np.arange(len(some)))):
            yield Answer(at, rankings, explore)

    def _own_before(self, at: int, arrived: int) -> int:
        """How many events of the user of event ``at`` are among the first ``arrived`` of the stream."""
        before = int(self.stream.previous[at])
        while before >= arrived:
            before = int(self.stream.previous[before])
        return int(self._number[before]) + 1 if before >= 0 else 0

    def _block(
        self, start: int, stop: int, scored: npt.NDArray[np.bool_], following: npt.NDArray[np.int64]
    ) -> Iterator[Answer]:
        stream, ranker = self.stream, self.ranker
        events = stream.events[start:stop]
        arrivals = ranker.remember(events)
        self._row[stream.item[start:stop]] = arrivals.rows.cpu().numpy()
        self._item[arrivals.rows.cpu().numpy()] = stream.item[start:stop]
        tested = ranker.test(arrivals)
        here = start + ranker.testable(arrivals).cpu().numpy()
        wanted = np.flatnonzero(scored[here]) if len(here) else here
        fresh = wanted if self.mode == "request" else wanted[stream.previous[here[wanted]] >= start]
        answers = self._rankings(tested[self.mode], fresh) if len(fresh) else []
        found = dict(zip(here[fresh].tolist(), answers))
        for at in here[wanted].tolist():
            rankings, explore = found[at] if at in found else self._pending.pop(int(stream.user[at]))
            yield Answer(at, rankings, explore)
        if self.mode == "refresh":
            self._refresh(np.arange(start, stop), stop, scored, following)
        ranker.learn(arrivals, tested)
        if self.pipeline is not None:
            patterns = self.pipeline.update(events)
            self.patterns += len(patterns)
            ranker.apply_patterns(patterns)

    def _refresh(
        self, at: npt.NDArray[np.int64], stop: int, scored: npt.NDArray[np.bool_], following: npt.NDArray[np.int64]
    ) -> None:
        """Compute the standing answers of users whose next event is scored and lies in a later block."""
        next_at = following[at]
        due = at[(next_at >= stop) & scored[next_at]]
        if not len(due):
            return
        users = self.stream.user[due]
        slots = self.ranker.histories.slots_of([self.stream.events[n].user_id for n in due.tolist()])
        answers = self._rankings(self.ranker.score(self.mode, slots), np.arange(len(due)))
        self._pending.update(zip(users.tolist(), answers))

    def _rankings(self, scored: Scored, positions: npt.NDArray[np.int64]) -> list[tuple[dict[str, Standing], float]]:
        merged, order = self.ranker.ordered(self.mode, scored)
        lists = {FUSED: (merged.rows, order), PLAIN: (merged.rows, merged.probability)}
        lists[RETURN_ONLY] = (merged.rows.masked_fill(merged.explore, -1), merged.probability)
        lists[EXPLORE_ONLY] = (merged.rows.masked_fill(~merged.explore, -1), merged.probability)
        if SEQUENCE in self.names and scored.heard is not None:
            log_p = scored.heard.full()
            rows = torch.arange(log_p.shape[1]).expand(log_p.shape)
            known = self.ranker.catalogue.rankable()[: log_p.shape[1]]
            lists[SEQUENCE] = (torch.where(known, rows, -1), log_p)
        arrays = {
            name: (rows.cpu().numpy(), values.cpu().numpy())
            for name, (rows, values) in lists.items()
            if name in self.names
        }
        gates = scored.gate.tolist()
        result = []
        for position in positions.tolist():
            rankings = {}
            for name, (rows, values) in arrays.items():
                held = rows[position] >= 0
                rankings[name] = Standing.of(self._item[rows[position][held]], values[position][held])
            result.append((rankings, gates[position]))
        return result
