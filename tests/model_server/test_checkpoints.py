"""A checkpoint comes back as it was, or says clearly why it cannot be used."""

import io
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from confluent_kafka.admin import AdminClient, NewTopic
from serving_harness import until

from chronotope.local.apache_kafka import ApacheKafka
from model_server.checkpoints import (
    DIGEST_BYTES,
    MAGIC,
    Checkpoint,
    CheckpointError,
    fingerprint_of,
    load_checkpoint,
    save_checkpoint,
)
from model_server.recovery import topic_id
from schemas.settings import KafkaSettings


class _Settings(msgspec.Struct, frozen=True):
    dim: int = 64


@pytest.fixture
def checkpoint() -> Checkpoint:
    state = {
        "weights": {"w": torch.arange(6.0).reshape(2, 3)},
        "counts": np.array([1, 2, 3]),
        "ids": ["a", "b"],
        "nested": [{"rate": 0.5, "none": None, "on": True}, (1, "x")],
    }
    return Checkpoint(
        state=state, offsets={"events/0": 17}, fingerprint=fingerprint_of(_Settings()), model_version="v3"
    )


def test_everything_comes_back_as_it_was(tmp_path: Path, checkpoint: Checkpoint) -> None:
    size = save_checkpoint(tmp_path / "model.ckpt", checkpoint)
    loaded = load_checkpoint(tmp_path / "model.ckpt", checkpoint.fingerprint)
    assert size == (tmp_path / "model.ckpt").stat().st_size
    assert torch.equal(loaded.state["weights"]["w"], checkpoint.state["weights"]["w"])
    assert isinstance(loaded.state["counts"], np.ndarray) and loaded.state["counts"].tolist() == [1, 2, 3]
    assert loaded.state["ids"] == ["a", "b"] and loaded.state["nested"] == checkpoint.state["nested"]
    assert loaded.offsets == {"events/0": 17} and loaded.model_version == "v3"


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_no_other_file(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for offset in (1, 2):
        save_checkpoint(tmp_path / "m", msgspec.structs.replace(checkpoint, offsets={"events/0": offset}))
    assert load_checkpoint(tmp_path / "m").offsets == {"events/0": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "m", checkpoint)
    with pytest.raises(TypeError, match=r"state\.bad is a set"):
        save_checkpoint(tmp_path / "m", msgspec.structs.replace(checkpoint, state={"bad": {1, 2}}))
    assert load_checkpoint(tmp_path / "m").model_version == "v3"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing-here"):
        load_checkpoint(tmp_path / "nothing-here")


def test_another_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match="not a Chronotope checkpoint"):
        load_checkpoint(tmp_path / "plain.pt")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_file_is_refused(tmp_path: Path, checkpoint: Checkpoint, damage: str) -> None:
    save_checkpoint(tmp_path / "m", checkpoint)
    data = bytearray((tmp_path / "m").read_bytes())
    if damage == "cut":
        data = data[:-10]
    else:
        data[len(data) // 2] ^= 1
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_checkpoint(tmp_path / "m")


class _Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("__import__('pathlib').Path('/tmp/chronotope-exploited').touch()",))


def test_a_pickled_object_is_never_built_even_with_a_right_checksum(tmp_path: Path) -> None:
    import hashlib

    for payload in (pickle.dumps(_Exploit()), _torch_bytes({"state": _Exploit()})):
        (tmp_path / "m").write_bytes(MAGIC + hashlib.sha256(payload).digest() + payload)
        with pytest.raises(CheckpointError, match="other than tensors and plain values"):
            load_checkpoint(tmp_path / "m")
    assert not Path("/tmp/chronotope-exploited").exists()


def test_a_right_container_with_wrong_fields_is_refused(tmp_path: Path) -> None:
    import hashlib

    payload = _torch_bytes({"state": {}, "offsets": {"a": "not a number"}, "fingerprint": "x"})
    (tmp_path / "m").write_bytes(MAGIC + hashlib.sha256(payload).digest() + payload)
    with pytest.raises(CheckpointError, match="fields of a checkpoint"):
        load_checkpoint(tmp_path / "m")


def test_other_settings_are_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "m", checkpoint)
    with pytest.raises(CheckpointError, match="other settings"):
        load_checkpoint(tmp_path / "m", fingerprint_of(_Settings(dim=32)))


def test_the_header_is_as_long_as_it_says(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "m", checkpoint)
    assert (tmp_path / "m").read_bytes().startswith(MAGIC) and DIGEST_BYTES == 32


def _torch_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.integration
@pytest.mark.kafka
def test_a_topic_that_was_made_anew_has_another_id(kafka_broker: ApacheKafka) -> None:
    kafka = KafkaSettings(bootstrap=kafka_broker.bootstrap)
    admin = AdminClient(kafka.confluent())
    ids = []
    for _ in range(2):
        admin.create_topics([NewTopic("events", 1, 1)])["events"].result()
        until(lambda: topic_id(kafka, "events") != "", "the broker knows the topic that it has made")
        ids += [topic_id(kafka, "events") for _ in range(3)]
        admin.delete_topics(["events"])["events"].result()
        until(lambda: "events" not in admin.list_topics(timeout=10).topics, "the topic is gone")
    assert len(set(ids[:3])) == 1 and len(set(ids[3:])) == 1
    assert ids[0] != ids[3] and all(ids)
