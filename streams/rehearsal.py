"""Compiles every kernel of the stages before traffic: a made-up stream goes through all of them.

A kernel is compiled for the types and the layout of its columns. Which of those it meets (views of a record, arrays of a state
that was read back) only the stages themselves can tell, so besides what each module compiles for itself they are all run once.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec
import numpy as np

from schemas.events import BehaviorEvent
from schemas.json_wire import encode
from schemas.validation import EventLimits
from streams import id_codes
from streams.decoding import EventDecoder
from streams.pipeline import PatternPipeline
from streams.stages.compiled import warm_up as compile_kernels

EVENTS, USERS, ITEMS = 1_500, 30, 400
STEP_MS, START_MS = 1_200_000, 1_000_000_000_000


def warm_up() -> None:
    """Compile (or read from numba's cache) all kernels. Minutes the first time, a second or two afterwards."""
    compile_kernels()
    rehearse_decoding()
    for partitions in (1, 2):
        pipeline, events = PatternPipeline(partitions=partitions), made_up_events()
        while batch := list(islice(events, EVENTS // 3)):
            pipeline.update(batch)
            pipeline.examine(8)
            _read_back(pipeline)


def made_up_events() -> Iterator[BehaviorEvent]:
    """Three weeks of check-ins: crowds that come and go, a daily habit, the same three places in a row, places seen once, late
    events.
    """
    rng = np.random.default_rng(0)
    for at in range(EVENTS):
        habit, in_a_row = at % 72 == 0, at // 3 % 2 == 0
        item = 0 if habit else 1 + (at % 3 if in_a_row else int(rng.integers(ITEMS)))
        north, east = rng.normal(0.0, 2e-4, 2)
        yield BehaviorEvent(
            event_id=f"rehearsal-{at}", user_id=f"user-{0 if habit else at // 3 % USERS}", item_id=f"item-{item}",
            action="checkin", event_time_ms=START_MS + STEP_MS * (at - 5 * (at % 50 == 49)),
            lat=40.0 + 0.01 * (at * 5 // EVENTS) + float(north), lon=-74.0 + float(east) + (0.5 if at % 10 == 0 else 0.0),
            context={"category": f"category-{item % 7}"},
        )  # fmt: skip


def rehearse_decoding() -> None:
    """Compile (or read from numba's cache) the kernels between the bytes of events and their columns."""
    id_codes.warm_up()
    events = list(made_up_events())
    records = [_Record(offset, encode(event), START_MS) for offset, event in enumerate(events)]
    unusual = _Record(len(events), encode(events[0])[:-1] + b',"unknown":0}', START_MS)
    EventDecoder(EventLimits()).decode([*records, unusual], 2 * START_MS)


class _Record(msgspec.Struct):
    offset: int
    value: bytes | None
    timestamp: int


def _read_back(pipeline: PatternPipeline) -> None:
    """Every state goes on from its bytes, as after a restart."""
    for stages in pipeline.stages.values():
        for stage in stages:
            stage.load(stage.to_bytes())
