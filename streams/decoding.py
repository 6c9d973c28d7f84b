"""Raw records to event columns, once per fetched batch: what cannot be decoded or validated is set aside with a reason.

Plain JSON is read by a kernel; msgspec and ``schemas.validation`` read the rest and are what it must agree with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numba import njit

from schemas import avro_wire, json_wire
from schemas.codes import code_of
from schemas.events import BehaviorEvent
from schemas.topics import EVENTS
from schemas.validation import PROBLEMS, EventLimits, problem_of
from streams.event_hash import hash_spans, hash_texts
from streams.id_codes import IdCodes
from streams.json_scan import ACTION, CATEGORY, EVENT_ID, ITEM, USER, ScannedEvents, scan_events, which_of
from streams.stages.coded_ids import CodedIds
from streams.stages.columns import EVENT_COLUMNS, NO_CODE, EventColumns

MAX_CACHED_CODES = 1_000_000
LARGEST = 2**62
REASONS = ("no_value", "too_large", "no_schema_registry", "wrong_fields", "not_decodable", *PROBLEMS)


class SourceRecord(Protocol):
    """What the decoder reads of a fetched record."""

    @property
    def offset(self) -> int:
        """Its place in its partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds, 0 or less if it has none."""

    @property
    def value(self) -> bytes | None:
        """The event."""


class Reject(msgspec.Struct, frozen=True):
    """A record that was refused: a stable word for counters, and the error in full."""

    offset: int
    reason: str
    error: str


class CodeCache(dict[str, int]):
    """Codes of ids by text, computed on first sight; it forgets everything when it is full."""

    def __missing__(self, text: str) -> int:
        if len(self) >= MAX_CACHED_CODES:
            self.clear()
        code = self[text] = code_of(text)
        return code


class EventDecoder:
    """Decodes and validates the records of the event topic.

    ``avro`` decodes values in the Confluent wire format (a leading zero byte); without it such values are refused.
    A record's own timestamp is the clock by which an event lies in the future, so that reading a record again gives the same
    verdict; a timestamp that is missing or ahead of the wall clock is not trusted.
    """

    def __init__(self, limits: EventLimits, avro: avro_wire.ConfluentAvroDecoder | None = None) -> None:
        self.limits = limits
        self._json: Callable[[bytes], BehaviorEvent] = json_wire.decoder(EVENTS).decode
        self._avro = avro
        self._codes = CodeCache()
        self._ids = IdCodes(MAX_CACHED_CODES)
        self._actions = list(limits.action_weights)
        self._weights = np.array([*limits.action_weights.values(), np.nan])  # the last one is of unknown actions

    def decode(self, records: Sequence[SourceRecord], now_ms: int) -> tuple[EventColumns, list[Reject]]:
        """The acceptable events of ``records`` (in offset order) as columns, and the others with their reasons.

        O(bytes); about 2 us per event. Raises RegistryUnavailableError if a schema cannot be looked up now.
        """
        stamps = np.fromiter((record.timestamp for record in records), np.int64, len(records))
        offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
        clock_ms = np.where((stamps > 0) & (stamps < now_ms), stamps, now_ms)
        found = scan_events([record.value for record in records])
        columns, rest = self._plain(found, offsets, clock_ms)
        if not len(rest):
            return columns, []
        # What is not plain, or breaks a limit, is looked at one by one, which also gives the reasons.
        others, rejects = self._one_by_one([records[row] for row in rest.tolist()], clock_ms[rest])
        return joined(columns, others), rejects

    def _plain(
        self, found: ScannedEvents, offsets: np.ndarray, clock_ms: np.ndarray
    ) -> tuple[EventColumns, np.ndarray]:
        """The columns of the events that were read by the kernel and hold within the limits; the rows of all others."""
        limits, spans = self.limits, found.spans
        weight = self._weights[which_of(found.data, spans[:, ACTION], self._actions)]
        bounds = (limits.max_bytes, limits.max_id_chars, limits.min_event_time_ms, limits.max_ahead_ms)
        chosen, rest, placed, mentions = _within(
            *found[1:], weight, clock_ms, *(max(-LARGEST, min(bound, LARGEST)) for bound in bounds)
        )
        codes, names = self._ids.of(found.data, mentions)
        category = np.full(len(chosen), NO_CODE)
        category[placed] = codes[2 * len(chosen) :]
        columns = EventColumns(
            offset=offsets[chosen],
            time_ms=found.time_ms[chosen],
            event_hash=hash_spans(found.data, spans[chosen, EVENT_ID]),
            user=codes[: len(chosen)],
            item=codes[len(chosen) : 2 * len(chosen)],
            category=category,
            weight=weight[chosen],
            lat=found.places[chosen, 0],
            lon=found.places[chosen, 1],
            names=names,
        )
        return columns, rest

    def columns_of(
        self, events: Sequence[BehaviorEvent], offsets: np.ndarray, clock_ms: np.ndarray
    ) -> tuple[EventColumns, list[Reject]]:
        """The columns of decoded events that hold within the limits, and the others with their reasons."""
        fields, rejects = _Fields(events, self.limits.action_weights), list[Reject]()
        for row in self._suspects(events, fields, clock_ms).tolist():
            problem = problem_of(events[row], self.limits, int(clock_ms[row]))
            if problem is not None:
                rejects.append(Reject(int(offsets[row]), problem, problem.replace("_", " ")))
        if rejects:
            refused = {reject.offset for reject in rejects}
            rows = [row for row, offset in enumerate(offsets.tolist()) if offset not in refused]
            events, offsets = [events[row] for row in rows], offsets[rows]
            fields = _Fields(events, self.limits.action_weights)
        return self._columns(events, fields, offsets), rejects

    def _one_by_one(self, records: Sequence[SourceRecord], clock_ms: np.ndarray) -> tuple[EventColumns, list[Reject]]:
        events: list[BehaviorEvent] = []
        rows: list[int] = []
        rejects: list[Reject] = []
        for row, record in enumerate(records):
            outcome = self._decode_one(record)
            if isinstance(outcome, Reject):
                rejects.append(outcome)
            else:
                events.append(outcome)
                rows.append(row)
        offsets = np.array([records[row].offset for row in rows], np.int64)
        columns, problems = self.columns_of(events, offsets, clock_ms[rows])
        return columns, sorted(rejects + problems, key=lambda reject: reject.offset)

    def _decode_one(self, record: SourceRecord) -> BehaviorEvent | Reject:
        value = record.value
        if not value:
            return Reject(record.offset, "no_value", "the record has no value")
        if len(value) > self.limits.max_bytes:
            return Reject(record.offset, "too_large", f"{len(value)} bytes, at most {self.limits.max_bytes} are read")
        try:
            if value[0] == avro_wire.MAGIC:
                if self._avro is None:
                    return Reject(record.offset, "no_schema_registry", "Avro, but no schema registry is configured")
                return self._avro.decode(value)  # type: ignore[no-any-return]
            return self._json(value)
        except msgspec.ValidationError as error:
            return Reject(record.offset, "wrong_fields", str(error))
        except (msgspec.DecodeError, avro_wire.WireFormatError, UnicodeDecodeError) as error:
            return Reject(record.offset, "not_decodable", str(error))
        except RecursionError:
            return Reject(record.offset, "not_decodable", "the value is nested too deeply")

    def _suspects(self, events: Sequence[BehaviorEvent], fields: "_Fields", clock_ms: np.ndarray) -> np.ndarray:
        """The rows that may break a limit (a superset of those that do), by checks of whole columns."""
        limits = self.limits
        odd = (fields.time_ms < limits.min_event_time_ms) | (fields.time_ms > clock_ms + limits.max_ahead_ms)
        odd |= np.isnan(fields.weight) | (np.isnan(fields.lat) != np.isnan(fields.lon))
        odd |= (np.abs(fields.lat) > 90.0) | (np.abs(fields.lon) > 180.0)
        valued = [event.value is not None for event in events]
        if any(valued):
            odd |= np.array(valued)
        odd |= np.array([len(event.context.get("category", "")) > limits.max_id_chars for event in events], np.bool_)
        for ids in (fields.event_ids, fields.users, fields.items):
            lengths = list(map(len, ids))
            if lengths and (min(lengths) == 0 or max(lengths) > limits.max_id_chars):
                odd |= (np.array(lengths) == 0) | (np.array(lengths) > limits.max_id_chars)
        return np.flatnonzero(odd)

    def _columns(self, events: Sequence[BehaviorEvent], fields: "_Fields", offsets: np.ndarray) -> EventColumns:
        code = self._codes.__getitem__
        users, items = list(map(code, fields.users)), list(map(code, fields.items))
        categories = [event.context.get("category") if event.context else None for event in events]
        named = {text: code(text) for text in set(categories) if text is not None}
        names = dict(zip(users, fields.users, strict=True))
        names.update(zip(items, fields.items, strict=True))
        names.update((number, text) for text, number in named.items())
        return EventColumns(
            offset=offsets,
            time_ms=fields.time_ms,
            event_hash=hash_texts(fields.event_ids),
            user=np.array(users, np.int64),
            item=np.array(items, np.int64),
            category=np.array([NO_CODE if text is None else named[text] for text in categories], np.int64),
            weight=fields.weight,
            lat=fields.lat,
            lon=fields.lon,
            names=CodedIds.of(names),
        )


def joined(some: EventColumns, others: EventColumns) -> EventColumns:
    """The events of both, in offset order."""
    if not len(others):
        return some
    order = np.argsort(np.concatenate([some.offset, others.offset]), kind="stable")
    columns = {name: np.concatenate([getattr(some, name), getattr(others, name)])[order] for name in EVENT_COLUMNS}
    return EventColumns(**columns, names=CodedIds.joined([some.names, others.names]))


@njit(cache=True)
def _within(ends, plain, spans, time_ms, places, weight, clock_ms, max_bytes, max_id_bytes, min_time_ms, max_ahead_ms):  # type: ignore[no-untyped-def]
    """The rows that hold within the limits, all others, which of the former have a category, and the spans of their users, items
    and categories.
    """
    chosen, rest, placed = np.empty(len(ends), np.int64), np.empty(len(ends), np.int64), np.empty(len(ends), np.int64)
    kept, left, named, start = 0, 0, 0, 0
    for row in range(len(ends)):
        good = plain[row] and ends[row] - start <= max_bytes and not np.isnan(weight[row])
        start = ends[row]
        if good:
            good = min_time_ms <= time_ms[row] <= clock_ms[row] + max_ahead_ms
            for text in (EVENT_ID, USER, ITEM):
                good &= 0 < spans[row, text, 1] - spans[row, text, 0] <= max_id_bytes
            good &= spans[row, CATEGORY, 1] - spans[row, CATEGORY, 0] <= max_id_bytes
            lat, lon = places[row]
            good &= (np.isnan(lat) and np.isnan(lon)) or (abs(lat) <= 90.0 and abs(lon) <= 180.0)
        if not good:
            rest[left] = row
            left += 1
            continue
        if spans[row, CATEGORY, 0] >= 0:
            placed[named] = kept
            named += 1
        chosen[kept] = row
        kept += 1
    mentions = np.empty((2 * kept + named, 2), np.int64)
    for at in range(kept):
        mentions[at], mentions[kept + at] = spans[chosen[at], USER], spans[chosen[at], ITEM]
    for at in range(named):
        mentions[2 * kept + at] = spans[chosen[placed[at]], CATEGORY]
    return chosen[:kept], rest[:left], placed[:named], mentions


class _Fields:
    """The fields of events as columns, before they are known to be acceptable."""

    def __init__(self, events: Sequence[BehaviorEvent], weights: Mapping[str, float]) -> None:
        self.event_ids = [event.event_id for event in events]
        self.users = [event.user_id for event in events]
        self.items = [event.item_id for event in events]
        self.weight = np.array([weights.get(event.action, np.nan) for event in events], np.float64)
        self.lat = np.array([event.lat for event in events], np.float64)
        self.lon = np.array([event.lon for event in events], np.float64)
        times = [event.event_time_ms for event in events]
        try:
            self.time_ms = np.array(times, np.int64)
        except OverflowError:
            self.time_ms = np.array([min(max(time, -(2**63)), 2**63 - 1) for time in times], np.int64)
