"""Raw records to event columns, once per fetched batch: what cannot be decoded or validated is set aside with a reason."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from schemas import avro_wire, json_wire
from schemas.codes import code_of
from schemas.events import BehaviorEvent
from schemas.topics import EVENTS
from schemas.validation import PROBLEMS, EventLimits, problem_of
from streams.event_hash import hash_texts
from streams.stages.columns import NO_CODE, EventColumns

CATEGORY = "category"
MAX_CACHED_CODES = 1_000_000
REASONS = ("no_value", "too_large", "no_schema_registry", "wrong_fields", "not_decodable", *PROBLEMS)


class SourceRecord(Protocol):
    """What the decoder reads of a fetched record."""

    offset: int
    timestamp: int
    value: bytes | None


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

    def decode(self, records: Sequence[SourceRecord], now_ms: int) -> tuple[EventColumns, list[Reject]]:
        """The acceptable events of ``records`` (in offset order) as columns, and the others with their reasons.

        O(bytes); about 2 us per event. Raises RegistryUnavailableError if a schema cannot be looked up now.
        """
        events, offsets, rejects = self._decoded(records)
        stamps = np.fromiter((record.timestamp for record in records), np.int64, len(records))
        if rejects:
            refused = {reject.offset for reject in rejects}
            stamps = stamps[[record.offset not in refused for record in records]]
        clock_ms = np.where((stamps > 0) & (stamps < now_ms), stamps, now_ms)
        columns, problems = self.columns_of(events, np.array(offsets, np.int64), clock_ms)
        return columns, sorted(rejects + problems, key=lambda reject: reject.offset)

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

    def _decoded(self, records: Sequence[SourceRecord]) -> tuple[Sequence[BehaviorEvent], Sequence[int], list[Reject]]:
        decode, limit = self._json, self.limits.max_bytes
        try:
            events = [decode(record.value) for record in records if len(record.value) <= limit]  # type: ignore[arg-type]
            if len(events) == len(records):
                return events, [record.offset for record in records], []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
            pass
        return self._decoded_one_by_one(records)

    def _decoded_one_by_one(
        self, records: Sequence[SourceRecord]
    ) -> tuple[list[BehaviorEvent], list[int], list[Reject]]:
        events: list[BehaviorEvent] = []
        offsets: list[int] = []
        rejects: list[Reject] = []
        for record in records:
            outcome = self._decode_one(record)
            if isinstance(outcome, Reject):
                rejects.append(outcome)
            else:
                events.append(outcome)
                offsets.append(record.offset)
        return events, offsets, rejects

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
        for ids in (fields.event_ids, fields.users, fields.items):
            lengths = list(map(len, ids))
            if lengths and (min(lengths) == 0 or max(lengths) > limits.max_id_chars):
                odd |= (np.array(lengths) == 0) | (np.array(lengths) > limits.max_id_chars)
        return np.flatnonzero(odd)

    def _columns(self, events: Sequence[BehaviorEvent], fields: "_Fields", offsets: np.ndarray) -> EventColumns:
        code = self._codes.__getitem__
        users, items = list(map(code, fields.users)), list(map(code, fields.items))
        categories = [event.context.get(CATEGORY) if event.context else None for event in events]
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
            names=names,
        )


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
