"""``chronotope train`` learns from the past, is measured on what came after, and leaves a checkpoint that loads."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from chronotope.cli.main import app
from chronotope.evaluation.stream import Stream, stream_of
from chronotope.training import save_trained, train
from model_server.checkpoints import fingerprint_of, load_checkpoint
from model_server.sequence_model.expert import SequenceExpert
from model_server.sequence_model.model import ModelSettings
from model_server.sequence_model.trainer import TrainerSettings
from schemas.events import BehaviorEvent

TINY = ModelSettings(dim=16, window=8, memory=16, pointers=3)
QUICK = TrainerSettings(batch_events=64, targets=4, replay_chunks=8, queries_per_step=64, replays=1)


def _habits(n: int = 600) -> list[BehaviorEvent]:
    """Each of ten users walks around three places of its own, in turn."""
    rng = np.random.default_rng(0)
    steps = np.zeros(10, int)
    events = []
    for number in range(n):
        user = int(rng.integers(10))
        item = f"place-{user}-{steps[user] % 3}"
        steps[user] += 1
        events.append(
            BehaviorEvent(
                event_id=str(number), user_id=f"user-{user}", item_id=item, action="checkin",
                event_time_ms=1_300_000_000_000 + number * 600_000,
            )
        )  # fmt: skip
    return events


@pytest.fixture(scope="module")
def stream() -> Stream:
    return stream_of(_habits())


def test_habits_are_learned_and_the_model_comes_back_from_disk(stream: Stream, tmp_path: Path) -> None:
    seen: list[str] = []
    trained = train(stream, TINY, QUICK, epochs=6, progress=lambda stage, done, total: seen.append(stage))
    for part in ("val", "test"):
        assert trained.metrics[part]["refresh"]["n"] == 60
        assert trained.metrics[part]["refresh"]["acc@1"] > 0.8 and trained.metrics[part]["request"]["mrr"] > 0.8
    assert {"epoch 1", "epoch 6", "val", "test"} <= set(seen)
    checkpoint = load_checkpoint(save_trained(trained, stream, tmp_path), fingerprint_of(TINY))
    other = SequenceExpert(TINY, QUICK)
    other.load_state(checkpoint.state["sequence"])
    users = np.arange(10)
    assert np.array_equal(trained.expert.logits(users).numpy(), other.logits(users).numpy())
    assert checkpoint.state["user_ids"] == list(dict.fromkeys(event.user_id for event in stream.events))
    assert json.loads((tmp_path / "metrics.json").read_bytes())["test"]["refresh"] == trained.metrics["test"]["refresh"]


def test_the_last_events_do_not_change_what_was_learned_before_them(stream: Stream) -> None:
    def weights(n: int) -> dict[str, np.ndarray]:
        short = stream_of(stream.events[:n])
        # the first 480 events train in both: 80 % of 600
        trained = train(short, TINY, QUICK, 1, lambda *_: None, held_out=(n - 480) / 2 / n)
        return {name: value.detach().numpy() for name, value in trained.expert.model.transducer.named_parameters()}

    whole, cut = weights(600), weights(540)
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)


def test_too_few_events_are_refused(stream: Stream) -> None:
    with pytest.raises(ValueError, match="too few"):
        train(stream_of(stream.events[:5]), TINY, QUICK, 1, lambda *_: None)


def test_the_command_prints_one_json_document(tmp_path: Path) -> None:
    data = tmp_path / "events.jsonl"
    data.write_bytes(b"\n".join(msgspec.json.encode(event) for event in _habits(200)))
    answer = CliRunner().invoke(
        app,
        ["train", "--data", str(data), "--format", "jsonl", "--epochs", "1", "--out", str(tmp_path / "m"), "--json"],
    )
    assert answer.exit_code == 0, answer.output
    printed = json.loads(answer.stdout)
    assert (
        printed["events"] == 200
        and {"precision@10", "recall@10", "f1@10", "mrr", "ndcg@10"} <= printed["test"]["refresh"].keys()
    )
    assert Path(printed["checkpoint"]).is_file()


def test_an_unknown_preset_is_refused(tmp_path: Path) -> None:
    answer = CliRunner().invoke(
        app, ["train", "--data", "x", "--format", "csv", "--out", str(tmp_path), "--preset", "huge"]
    )
    assert answer.exit_code != 0
