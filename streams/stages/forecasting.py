"""Forecasts of entities' counts as a stage keeps them: bins that close with event time, forecasters that learn them beside the
stream, and what to publish of it."""

from collections import deque
from collections.abc import Callable, Iterable
from zlib import crc32

import msgspec
import numpy as np

from processors.quality import PatternBook
from processors.temporal import ClosedBin, CountBins, CountForecast, ForecastBank, ForecastSettings
from schemas.patterns import EntityKind, ForecastStep, ForecastUpdate, Pattern, PatternQuality, Surge
from streams.stages.packing import pack_blobs, unpack_blobs
from streams.stages.settings import ForecastWatchSettings

MS = 1000
# Learning a bin of a key takes tens of microseconds, examining a key for periods milliseconds.
LEARNED_PER_EXAMINATION = 16
# A forecast says something new once it has moved by this share of its interval's half width, on average.
MOVED = 0.5


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """What was published of a key: the first bin forecast, and what of each bin."""

    first_bin: int
    mean: list[float]
    half_width: list[float]
    surge: Surge


class _Progress(msgspec.Struct, frozen=True, array_like=True):
    """The bins that wait to be learned, how many keys of the first one were, the start of the latest one that was looked at,
    and what was published."""

    waiting: list[tuple[float, bytes, bytes]]
    learned: int
    latest_s: float | None
    told: dict[int, _Told]


class ForecastWatch:
    """Forecasts for the entities of one kind that are busy enough.

    Bins close as events come, which costs little; ``examine`` lets the forecasters learn them when there is time. Published are
    forecasts as of the newest closed bin only, those that say something new: a surge or a drop and its end, a forecast that
    moved, one whose steps are half over, or an empty one for a key that is no longer watched. The version is the end of the
    bin in seconds: whoever learns a bin again says the same under the same version.

    If learning falls so far behind that the waiting bins hold ``max_waiting_seasons`` of the longest season, a whole season of
    them is left out, so that the hours and days that follow are the right ones.
    """

    def __init__(
        self, settings: ForecastWatchSettings, entity_kind: EntityKind, naming: Callable[[int], str | None]
    ) -> None:
        self.settings = settings
        self.bins = CountBins(
            settings.bin_s, idle_bins=max(settings.seasons), max_keys=settings.max_keys, min_events=settings.min_events
        )
        self.bank = ForecastBank(
            ForecastSettings(seasons=settings.seasons, horizon=settings.horizon, max_keys=settings.max_keys)
        )
        self.book = PatternBook(max(settings.max_keys, 8))
        self.skipped_bins = 0
        self._kind, self._naming = entity_kind, naming
        self._waiting: deque[ClosedBin] = deque()
        self._learned = 0
        self._latest_s: float | None = None
        self._told: dict[int, _Told] = {}

    def __len__(self) -> int:
        """Number of keys forecast."""
        return len(self.bank)

    def update(self, keys: np.ndarray, time_s: np.ndarray) -> int:
        """Count events of keys (int64[n], float64[n]) into bins; the number of keys that were too many. O(events)."""
        closed, evicted = self.count(keys, time_s)
        self.close(closed)
        return evicted

    def count(self, keys: np.ndarray, time_s: np.ndarray) -> tuple[list[ClosedBin], int]:
        """Count events without taking in the bins that they close: those, and the number of keys that were too many."""
        before = self.bins.evicted_keys
        closed = self.bins.update(keys, time_s)
        return closed, self.bins.evicted_keys - before

    def close(self, closed: Iterable[ClosedBin]) -> None:
        """Take in bins that were counted elsewhere, in order of time."""
        season = max(self.settings.seasons)
        for one in closed:
            self._waiting.append(one)
            if len(self._waiting) > season * self.settings.max_waiting_seasons:
                first = self._waiting.popleft()  # perhaps learned in part
                for _ in range(season):
                    self._waiting.popleft()
                self._waiting.appendleft(first)
                self.skipped_bins += season

    @property
    def untested(self) -> int:
        """About how many examinations' worth of learning waits."""
        rows = sum(len(one.keys) + 1 for one in self._waiting) - self._learned
        return -(-rows // LEARNED_PER_EXAMINATION)

    def examine(self, budget: int) -> list[Pattern]:
        """Learn what waits, at most ``budget`` examinations' worth, and tell what is new. Milliseconds per examination."""
        left, patterns = budget * LEARNED_PER_EXAMINATION, list[Pattern]()
        while left > 0 and self._waiting:
            closed = self._waiting[0]
            is_newest = len(self._waiting) == 1
            if self._learned == 0:
                patterns += self._let_go(closed)
            part = slice(self._learned, self._learned + left)
            for forecast in self.bank.update(closed.keys[part], closed.counts[part]):
                update = self._told_of(forecast, closed) if is_newest else None
                if update is not None:
                    patterns.append(update)
            left -= len(closed.keys[part]) + 1
            self._learned += len(closed.keys[part])
            if self._learned >= len(closed.keys):
                self._waiting.popleft()
                self._learned = 0
        return patterns

    def _let_go(self, closed: ClosedBin) -> list[Pattern]:
        """Forget the keys that are no longer counted; what was published of them is withdrawn.

        After a hole of other than whole seasons everybody's next hour would be taken for another one: all begin anew.
        """
        passed = round((closed.start_s - self._latest_s) / self.settings.bin_s) - 1 if self._latest_s is not None else 0
        self._latest_s = closed.start_s
        kept = set() if passed % max(self.settings.seasons) else set(closed.keys.tolist())
        gone = sorted(set(self.bank.keys) - kept)
        withdrawn: list[Pattern] = []
        for key in gone:
            self.bank.forget(key)
            self.book.retire(key)
            name = self._naming(key) if self._told.pop(key, None) else None
            if name is not None:
                withdrawn.append(self._message(name, closed, "", [], "none", None))
        return withdrawn

    def _told_of(self, forecast: CountForecast, closed: ClosedBin) -> Pattern | None:
        first_bin = round(closed.start_s / self.settings.bin_s) + 1
        if forecast.bins < min(self.settings.seasons) or not self._is_news(forecast, first_bin):
            return None
        name = self._naming(forecast.key)
        if name is None:
            return None
        half_width = 0.5 * (forecast.high - forecast.low)
        told = _Told(first_bin, forecast.mean.tolist(), half_width.tolist(), forecast.surge)
        self._told[forecast.key] = told
        quality = self.book.record(
            forecast.key, time_s=closed.start_s, claim=crc32(forecast.model.encode()),
            support=forecast.support, significance=forecast.significance,
        )  # fmt: skip
        columns = zip(forecast.mean.tolist(), forecast.low.tolist(), forecast.high.tolist(), strict=True)
        bin_ms = round(self.settings.bin_s * MS)
        steps = [ForecastStep((first_bin + at) * bin_ms, *step) for at, step in enumerate(columns)]
        return self._message(name, closed, forecast.model, steps, forecast.surge, quality)

    def _is_news(self, forecast: CountForecast, first_bin: int) -> bool:
        told = self._told.get(forecast.key)
        if told is None or told.surge != forecast.surge:
            return True
        passed, horizon = first_bin - told.first_bin, self.settings.horizon
        if passed * 2 >= horizon:
            return True
        moved = np.abs(forecast.mean[: horizon - passed] - np.array(told.mean[passed:])).mean()
        return bool(moved > MOVED * np.mean(told.half_width[passed:]))

    def _message(
        self, name: str, closed: ClosedBin, model: str, steps: list[ForecastStep], surge: Surge,
        quality: PatternQuality | None,
    ) -> ForecastUpdate:  # fmt: skip
        end_s = round(closed.start_s + self.settings.bin_s)
        return ForecastUpdate(
            entity_kind=self._kind, entity=name, version=end_s, event_time_ms=end_s * MS,
            bin_s=round(self.settings.bin_s), model=model, steps=steps, surge=surge, quality=quality,
        )  # fmt: skip

    # -- state

    def to_bytes(self) -> bytes:
        """All of it; ``load`` gives a watch that goes on exactly like this one."""
        waiting = [(one.start_s, one.keys.tobytes(), one.counts.tobytes()) for one in self._waiting]
        return pack_blobs(
            {
                "bins": self.bins.to_bytes(),
                "bank": self.bank.to_bytes(),
                "book": self.book.to_bytes(),
                "progress": msgspec.msgpack.encode(_Progress(waiting, self._learned, self._latest_s, self._told)),
            }
        )

    def load(self, data: bytes) -> None:
        """Become the watch of ``to_bytes``. Raises ValueError or msgspec.DecodeError if ``data`` is something else."""
        blobs = unpack_blobs(data)
        self.bins, self.bank = CountBins.from_bytes(blobs["bins"]), ForecastBank.from_bytes(blobs["bank"])
        self.book = PatternBook.from_bytes(blobs["book"])
        progress = msgspec.msgpack.decode(blobs["progress"], type=_Progress)
        columns = (
            (start_s, np.frombuffer(k, np.int64), np.frombuffer(c, np.int64)) for start_s, k, c in progress.waiting
        )
        self._waiting = deque(ClosedBin(*one) for one in columns)
        self._learned, self._latest_s, self._told = progress.learned, progress.latest_s, progress.told
