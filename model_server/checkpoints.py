"""Checkpoints: tensors and plain values with the offsets they have absorbed; nothing executable is ever read from disk.

Layout: 8 bytes of magic, the SHA-256 of the rest, then what ``torch.save`` wrote; it is read back with
``weights_only=True``, which builds tensors and plain containers and refuses every other pickled object.
"""

import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

MAGIC = b"CHRONCK1"
DIGEST_BYTES = 32
_ARRAY = "__array__"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says which file and why."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds.

    ``state`` nests dicts, lists, tensors, numpy arrays and plain values; ``offsets`` maps "topic/partition" to the next
    offset to consume; ``fingerprint`` identifies the settings that the state belongs to (see ``fingerprint_of``).
    """

    state: dict[str, Any]
    offsets: dict[str, int]
    fingerprint: str
    model_version: str = ""
    created_at_ms: int = 0


def fingerprint_of(*settings: msgspec.Struct) -> str:
    """A short hash of settings structs: two states are interchangeable only if it is the same.

    >>> class S(msgspec.Struct):
    ...     dim: int = 64
    >>> fingerprint_of(S()) == fingerprint_of(S(dim=64)) != fingerprint_of(S(dim=32))
    True
    """
    described = [(type(each).__name__, msgspec.to_builtins(each)) for each in settings]
    return hashlib.sha256(msgspec.json.encode(described, order="sorted")).hexdigest()[:16]


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> int:
    """Write atomically (a crash leaves the old file or the new one); the number of bytes. Raises TypeError for other values."""
    path = Path(path)
    buffer = io.BytesIO()
    torch.save({**msgspec.structs.asdict(checkpoint), "state": _pack(checkpoint.state, "state")}, buffer)
    payload = buffer.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC)
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return len(MAGIC) + DIGEST_BYTES + len(payload)


def load_checkpoint(path: str | Path, fingerprint: str | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint, its tensors placed on ``device``.

    Raises CheckpointError if there is no such file, if it is not a checkpoint, is cut short or damaged, holds anything but
    tensors and plain values, or if ``fingerprint`` is given and differs.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    head = len(MAGIC) + DIGEST_BYTES
    if len(data) < head or data[: len(MAGIC)] != MAGIC:
        raise CheckpointError(f"{path} is not a Chronotope checkpoint")
    payload = memoryview(data)[head:]
    if hashlib.sha256(payload).digest() != data[len(MAGIC) : head]:
        raise CheckpointError(f"{path} is damaged or cut short: its checksum does not match")
    try:
        content = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path} holds something other than tensors and plain values: {reason}") from None
    try:
        checkpoint = msgspec.convert({**content, "state": {}}, Checkpoint)
    except (msgspec.ValidationError, TypeError) as error:
        raise CheckpointError(f"{path} does not have the fields of a checkpoint: {error}") from None
    if fingerprint is not None and checkpoint.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} was written with other settings (fingerprint {checkpoint.fingerprint}, this model has {fingerprint})"
        )
    return msgspec.structs.replace(checkpoint, state=_unpack(content["state"]))


def _pack(value: Any, where: str) -> Any:
    """Numpy arrays as marked tensors, everything else as it is, recursively."""
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _pack(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_pack(each, where) for each in value)
    if value is None or isinstance(value, (torch.Tensor, str, bytes, bool, int, float)):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors, arrays and plain values only")


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].cpu().numpy()
        return {key: _unpack(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_unpack(each) for each in value)
    return value
