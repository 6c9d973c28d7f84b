"""The strongest patterns that the pattern topics hold, by kind."""

import contextlib
from collections.abc import Iterable

import msgspec

from chronotope.kafka.offsets import OffsetReader
from chronotope.kafka.reading import read_to
from processors.quality import strength
from schemas import json_wire
from schemas.patterns import (
    ClusterUpdate,
    CoVisitUpdate,
    ForecastUpdate,
    Pattern,
    PatternQuality,
    PeriodicityUpdate,
    ProfileUpdate,
    SequenceUpdate,
    TransitionUpdate,
    kind_of,
)
from schemas.settings import KafkaSettings
from schemas.topics import PATTERN_TOPICS

HOUR_S, DAY_S = 3600.0, 86_400.0
_Key = tuple[str, bytes | None]


class StrongPattern(msgspec.Struct, frozen=True, kw_only=True):
    """A published pattern in words, and how far it can be trusted."""

    pattern: str
    support: float
    significance: float
    stability: float


class _Latest(msgspec.Struct, frozen=True):
    version: int
    kind: str
    words: str
    quality: PatternQuality


def strongest(settings: KafkaSettings, per_kind: int) -> dict[str, list[StrongPattern]]:
    """The ``per_kind`` strongest patterns of each kind that is published, by significance and stability, then support.

    Reads the pattern topics whole and keeps a line for each live pattern. A pattern that was withdrawn (a crowd that is gone,
    an entity without periods) is none; what cannot be decoded is left out. Raises ClusterError.
    """
    decoders = {spec.name: json_wire.decoder(spec) for spec in PATTERN_TOPICS}
    with OffsetReader(settings) as reader:
        ends = reader.ends(reader.partitions(decoders))
    latest: dict[_Key, _Latest] = {}
    for message in read_to(settings, ends):
        key = message.topic(), message.key()
        if message.value() is None:
            latest.pop(key, None)
            continue
        with contextlib.suppress(msgspec.DecodeError):
            _keep(latest, key, decoders[message.topic()].decode(message.value()))
    return _ranked(latest.values(), per_kind)


def _keep(latest: dict[_Key, _Latest], key: _Key, pattern: Pattern) -> None:
    known = latest.get(key)
    if known is None or pattern.version > known.version:
        quality = pattern.quality or PatternQuality(support=0.0, significance=0.0, stability=0.0)
        latest[key] = _Latest(pattern.version, kind_of(pattern), in_words(pattern), quality)


def _ranked(found: Iterable[_Latest], per_kind: int) -> dict[str, list[StrongPattern]]:
    by_kind: dict[str, list[_Latest]] = {}
    for one in found:
        if one.words:
            by_kind.setdefault(one.kind, []).append(one)
    return {
        kind: [
            StrongPattern(pattern=one.words, **msgspec.structs.asdict(one.quality))
            for one in sorted(by_kind[kind], key=lambda one: (*(-part for part in strength(one.quality)), one.words))
        ][:per_kind]
        for kind in sorted(by_kind)
    }


def in_words(pattern: Pattern) -> str:
    """What a pattern says, in one line; empty if it withdraws what was said before.

    >>> in_words(SequenceUpdate(state_kind="item", states=["a", "b"], version=1, event_time_ms=0, support=9, lift=2))
    'a > b, 2.0 times as often as by chance'
    >>> in_words(SequenceUpdate(state_kind="item", states=["a", "b"], version=2, event_time_ms=0, support=0, lift=0))
    ''
    >>> from schemas.patterns import NamedShare
    >>> in_words(TransitionUpdate(
    ...     state_kind="cluster", from_state="0-7", version=1, event_time_ms=0, next_states=[NamedShare("0-2", 0.25)], total=8))
    'crowd 0-7 > crowd 0-2 25% of 8 who leave'
    """
    match pattern:
        case ClusterUpdate(change="died" | "merged"):
            return ""
        case ClusterUpdate():
            top = f", most at {pattern.top_items[0].name}" if pattern.top_items else ""
            where = f"{pattern.lat:.4f} {pattern.lon:.4f} within {pattern.radius_m:.0f} m"
            return f"{pattern.cluster_id}: {pattern.distinct_users} people at {where}{top}"
        case CoVisitUpdate(neighbours=[first, *_]):
            return f"{pattern.item_id} with {first.item_id}, {first.lift:.1f} times as often as by chance"
        case PeriodicityUpdate(periods=[first, *_]):
            entity = pattern.entity.replace("\x1f", " at ")
            return f"{pattern.entity_kind} {entity} every {_duration(first.period_s)} ({first.period_kind})"
        case ForecastUpdate(steps=[first, *_]):
            surge = "" if pattern.surge == "none" else f", {pattern.surge}"
            entity = f"{pattern.entity_kind} {pattern.entity}"
            return f"{entity}: {first.mean:.1f} in the next {_duration(pattern.bin_s)} by {pattern.model}{surge}"
        case TransitionUpdate(state_kind="cluster", next_states=[first, *_]):
            return f"crowd {pattern.from_state} > crowd {first.name} {first.share:.0%} of {pattern.total:.0f} who leave"
        case TransitionUpdate(next_states=[first, *_]):
            return f"{pattern.user_id or 'everybody'}: {pattern.from_state} > {first.name} {first.share:.0%}"
        case SequenceUpdate(support=support) if support > 0:
            return f"{' > '.join(pattern.states)}, {pattern.lift:.1f} times as often as by chance"
        case ProfileUpdate(items=[first, *_]):
            return f"{pattern.user_id}: {first.name} {first.share:.0%} of {pattern.events} events"
    return ""


def _duration(seconds: float) -> str:
    return f"{seconds / DAY_S:.1f} d" if seconds >= 2 * DAY_S else f"{seconds / HOUR_S:.1f} h"
