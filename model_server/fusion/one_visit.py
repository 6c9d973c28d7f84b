"""What kernels are compiled with ahead of the first user."""

import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.histories import Histories


def one_visit() -> tuple[Catalogue, Histories, Tensor]:
    """A catalogue of one item, the histories of one user who had it once, and the user's slot int64[1], on the CPU."""
    device = torch.device("cpu")
    catalogue, histories = Catalogue(device), Histories(device)
    catalogue.rows_of(["anything"])
    slots = histories.slots_of(["anybody"])
    histories.append(slots, torch.tensor([0]), torch.zeros(1).double(), torch.zeros(1))
    return catalogue, histories, slots
