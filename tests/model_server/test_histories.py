"""Histories hold each user's latest events, whichever way they are entered."""

import pytest
import torch

from model_server.histories import Histories, turns

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_enters_events_as_the_chain_of_operations_does(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    by_kernel, by_chain = Histories(CPU, length=6), Histories(CPU, length=6)
    for n in (0, 1, 40, 100, 7):
        users = [f"u{number}" for number in torch.randint(0, 30, (n,), generator=random).tolist()]
        slots, again = by_kernel.slots_of(users), by_chain.slots_of(users)
        assert slots.tolist() == again.tolist()
        rows, time_s = torch.randint(0, 9, (n,), generator=random), torch.rand(n, generator=random).double()
        week_s = torch.rand(n, generator=random)
        by_kernel.append(slots, rows, time_s, week_s)
        for part in turns(slots):
            by_chain._append_distinct(slots[part], rows[part], time_s[part], week_s[part])
    for name in Histories._TENSORS:
        assert torch.equal(getattr(by_kernel, name), getattr(by_chain, name))
