"""The rejected topic as a dead letter queue: what lies there, why, and sending it back where it came from.

A record that was sent back is marked in the rejected topic itself, by a record without a value whose header
``redriven`` names it; marks live as long as what they mark. Events are sent and acknowledged before their marks are written:
after a crash in between a record is sent twice, and the workers recognise the second by its event id.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import Partition
from chronotope.kafka.reading import ends_of, read_to
from schemas.headers import Headers, kept_headers
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS, REJECTED

MARK = "redriven"
# A CloudEvents extension attribute: the workers keep it, so that a record rejected again is recognised.
REDRIVEN_FROM = "ce_redrivenfrom"
FLUSH_EVERY = 5_000
FLUSH_TIMEOUT_S = 60.0


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One rejected record; ``cut`` says that its value was too long to be kept whole."""

    partition: int
    offset: int
    reason: str
    error: str
    source: str
    time_ms: int
    key: bytes | None
    value: bytes
    cut: bool
    attempted: bool


class DeadLetterReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many records were rejected, by reason; how many of them were sent back; the latest ones."""

    total: int
    by_reason: dict[str, int]
    redriven: int
    latest: list[DeadLetter]


class RedriveReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many records were sent back, and how many were left and why."""

    redriven: int
    already_redriven: int
    rejected_again: int
    cut: int


def inspect(settings: KafkaSettings, reason: str | None = None, latest: int = 5) -> DeadLetterReport:
    """Count the dead letters and keep the latest few. Raises ClusterError."""
    ends = ends_of(settings, REJECTED.name)
    marks = _marks(settings, ends)
    reasons: Counter[str] = Counter()
    tail: deque[DeadLetter] = deque(maxlen=latest)
    redriven = 0
    for _, letter in _letters(settings, ends, reason):
        reasons[letter.reason] += 1
        redriven += (letter.partition, letter.offset) in marks
        tail.append(letter)
    return DeadLetterReport(
        total=reasons.total(), by_reason=dict(reasons.most_common()), redriven=redriven, latest=list(tail)
    )


def redrive(settings: KafkaSettings, reason: str | None = None, again: bool = False) -> RedriveReport:
    """Send dead letters back to the event topic with their original key, value and kept headers; twice changes nothing.

    What was rejected a second time is left alone unless ``again``. Raises ClusterError.
    """
    ends = ends_of(settings, REJECTED.name)
    marks = _marks(settings, ends)
    sender = _Sender(settings)
    counts: Counter[str] = Counter()
    for message, letter in _letters(settings, ends, reason):
        if (letter.partition, letter.offset) in marks:
            counts["already_redriven"] += 1
        elif letter.attempted and not again:
            counts["rejected_again"] += 1
        elif letter.cut:
            counts["cut"] += 1
        else:
            sender.send(message, letter)
            counts["redriven"] += 1
    sender.flush()
    names = RedriveReport.__struct_fields__
    return RedriveReport(**{name: counts[name] for name in names})


class _Sender:
    """Sends back in groups: the events of a group are acknowledged before its marks are written."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._producer = Producer(settings.confluent_producer() | {"log_level": 0})
        self._unmarked: list[tuple[int, int]] = []
        self._failure: str | None = None

    def send(self, message: Message, letter: DeadLetter) -> None:
        origin = f"{letter.partition}/{letter.offset}"
        headers: Headers = [
            *((name, value) for name, value in kept_headers(message.headers()) if name != REDRIVEN_FROM),
            (REDRIVEN_FROM, origin.encode()),
        ]
        self._produce(EVENTS.name, message.value(), letter.key, headers, None)
        self._unmarked.append((letter.partition, letter.offset))
        if len(self._unmarked) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        self._await_acknowledgements()
        for partition, offset in self._unmarked:
            self._produce(REJECTED.name, None, None, [(MARK, f"{partition}/{offset}".encode())], partition)
        self._await_acknowledgements()
        self._unmarked.clear()

    def _produce(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers, partition: int | None
    ) -> None:
        placed = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._acknowledged, **placed)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _acknowledged(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = f"{message.topic()}: {error.str()}"

    def _await_acknowledgements(self) -> None:
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        if self._failure is not None or left:
            raise ClusterError(self._failure or f"{left} records were not acknowledged within {FLUSH_TIMEOUT_S:g} s")


def _letters(
    settings: KafkaSettings, ends: Mapping[Partition, int], reason: str | None
) -> Iterator[tuple[Message, DeadLetter]]:
    for message in read_to(settings, ends):
        headers = {name: value or b"" for name, value in message.headers() or ()}
        if MARK in headers:
            continue
        letter = _letter(message, headers)
        if reason is None or letter.reason == reason:
            yield message, letter


def _letter(message: Message, headers: Mapping[str, bytes]) -> DeadLetter:
    def text(name: str) -> str:
        return headers.get(name, b"").decode(errors="replace")

    return DeadLetter(
        partition=message.partition(),
        offset=message.offset(),
        reason=text("reason") or "unknown",
        error=text("error"),
        source=f"{text('source_topic')}/{text('source_partition')}/{text('source_offset')}",
        time_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value() or b"",
        cut="value_bytes" in headers,
        attempted=REDRIVEN_FROM in headers,
    )


def _marks(settings: KafkaSettings, ends: Mapping[Partition, int]) -> set[tuple[int, int]]:
    marks = set()
    for message in read_to(settings, ends):
        for name, value in message.headers() or ():
            if name == MARK and value is not None:
                partition, _, offset = value.decode().partition("/")
                marks.add((int(partition), int(offset)))
    return marks
