"""What the kernels of the sequence model are compiled with ahead of the first user."""

import torch

from model_server.sequence_model.memory import UserMemory
from model_server.sequence_model.model import ModelSettings, SequenceModel


def one_event() -> tuple[SequenceModel, UserMemory]:
    """A model in evaluation, and the memory of a user with one event, for one item; torch's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        model, memory = SequenceModel(ModelSettings()), UserMemory(1)
    model.items.ensure(1)
    memory.ensure(1)
    memory.count += 1
    return model.eval(), memory
