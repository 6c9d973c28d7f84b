"""Trains the sequence model on history and measures it on the events that came after, split by time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from chronotope.evaluation.metrics import metrics_of
from chronotope.evaluation.stream import Stream
from model_server.checkpoints import Checkpoint, fingerprint_of, save_checkpoint
from model_server.sequence_model.expert import SequenceExpert
from model_server.sequence_model.memory import Events
from model_server.sequence_model.model import ModelSettings
from model_server.sequence_model.trainer import TrainerSettings

BLOCK = 512
Progress = Callable[[str, int, int], None]
Metrics = dict[str, dict[str, dict[str, float]]]


class TrainedModel(msgspec.Struct, frozen=True):
    """The expert after the last event of the stream, and its metrics as {"val" | "test": {mode: {metric: value}}}."""

    expert: SequenceExpert
    metrics: Metrics
    loss: float


def train(
    stream: Stream,
    settings: ModelSettings,
    training: TrainerSettings,
    epochs: int,
    progress: Progress,
    held_out: float = 0.1,
) -> TrainedModel:
    """Learn from the first 80 % of the events, then rank for those of the next two tenths with the weights held fixed.

    The first epoch reads the events in time order as a stream would; each further one replays as many as are remembered. In
    validation and test a user's history moves on event by event, the weights do not. Raises ValueError if a part is empty.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    n = len(stream)
    bounds = [0, n - 2 * int(held_out * n), n - int(held_out * n), n]
    if min(np.diff(bounds)) < 1:
        raise ValueError(f"{n} events are too few to train, validate and test")
    expert = SequenceExpert(settings, training)
    for start in range(0, bounds[1], BLOCK):
        expert.observe(*_columns(stream, slice(start, min(start + BLOCK, bounds[1]))))
        progress("epoch 1", min(start + BLOCK, bounds[1]), bounds[1])
    loss = expert.learn()
    for epoch in range(2, epochs + 1):
        loss = expert.fit(1)
        progress(f"epoch {epoch}", bounds[1], bounds[1])
    metrics = {}
    for name, start, stop in (("val", bounds[1], bounds[2]), ("test", bounds[2], bounds[3])):
        metrics[name] = _measure(expert, stream, start, stop, partial(progress, name))
    return TrainedModel(expert, metrics, loss)


def save_trained(trained: TrainedModel, stream: Stream, folder: Path) -> Path:
    """Write ``sequence.ckpt`` (weights, histories, and the ids of user and item rows) and ``metrics.json``; the former's path."""
    ids = {
        "user_ids": [event.user_id for event in stream.events],
        "item_ids": [event.item_id for event in stream.events],
    }
    state = {"sequence": trained.expert.state()} | {name: list(dict.fromkeys(column)) for name, column in ids.items()}
    path = folder / "sequence.ckpt"
    save_checkpoint(path, Checkpoint(state=state, offsets={}, fingerprint=fingerprint_of(trained.expert.settings)))
    (folder / "metrics.json").write_bytes(msgspec.json.format(msgspec.json.encode(trained.metrics)))
    return path


def _measure(
    expert: SequenceExpert, stream: Stream, start: int, stop: int, progress: Callable[[int, int], None]
) -> dict[str, dict[str, float]]:
    modes = expert.training.modes
    ranks: dict[str, list[np.ndarray]] = {mode: [] for mode in modes}
    for begin in range(start, stop, BLOCK):
        part = slice(begin, min(begin + BLOCK, stop))
        events = Events.of(*_columns(stream, part), None, expert.device)
        before = _earlier_events(expert, stream.user[part])
        expert.remember(events)
        returning = before > 0
        for mode in modes:
            when = stream.time_s[part][returning] if mode == "request" else None
            log_p = expert.logits(stream.user[part][returning], when, before=before[returning])
            ranks[mode].append(_ranks(log_p.cpu().numpy(), stream.item[part][returning], stream.known[part][returning]))
        for _ in expert.absorbing(events, train=False):
            pass
        progress(part.stop - start, stop - start)
    return {mode: metrics_of(np.concatenate(ranks[mode])) for mode in modes}


def _ranks(log_p: np.ndarray, target: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The expected rank of each target among its row's scores; inf for a target that nobody had touched."""
    score = np.take_along_axis(log_p, target[:, None], 1)
    rank = (log_p > score).sum(1) + ((log_p == score).sum(1) + 1) / 2
    return np.where(known, rank, np.inf)


def _earlier_events(expert: SequenceExpert, users: np.ndarray) -> np.ndarray:
    """How many events each user has before each of these, those of the block before it included."""
    count = np.zeros(max(int(users.max()) + 1, expert.memory.rows), np.int64)
    count[: expert.memory.rows] = expert.memory.count[: expert.memory.rows].cpu().numpy()
    order = np.argsort(users, kind="stable")
    grouped = users[order]
    start = np.r_[True, grouped[1:] != grouped[:-1]]
    rank = np.arange(len(users)) - np.maximum.accumulate(np.where(start, np.arange(len(users)), 0))
    before = np.empty(len(users), np.int64)
    before[order] = count[grouped] + rank
    return before


def _columns(stream: Stream, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return stream.user[part], stream.item[part], stream.time_s[part], stream.lat[part], stream.lon[part]
