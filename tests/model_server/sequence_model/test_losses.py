"""The cheap losses agree with the full softmax where they must."""

import math

import torch

from model_server.sequence_model.losses import full_softmax, in_batch_softmax, sampled_softmax


def test_sampling_everything_once_is_the_full_softmax() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(5, 40), torch.randint(0, 40, (5,))
    is_target = torch.arange(40)[None] == target[:, None]
    sampled = sampled_softmax(logits.gather(1, target[:, None])[:, 0], logits, torch.zeros(40), is_target)
    assert torch.allclose(sampled, full_softmax(logits, target), atol=1e-5)


def test_a_large_sample_estimates_the_full_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(1, 500, generator=generator), torch.tensor([3])
    draws = torch.randint(500, (50_000,), generator=generator)
    expected = torch.full((50_000,), math.log(50_000 / 500))
    estimate = sampled_softmax(logits[:, 3], logits[:, draws], expected, draws[None] == 3)
    assert abs(estimate.item() - full_softmax(logits, target).item()) < 0.02


def test_the_same_item_in_a_batch_is_not_its_own_negative() -> None:
    queries = torch.eye(3) * 9
    targets = torch.stack([torch.eye(3)[0], torch.eye(3)[0], torch.eye(3)[2]])
    rows = torch.tensor([7, 7, 8])
    loss = in_batch_softmax(queries, targets, rows, torch.zeros(3))
    assert loss[0] < 0.01 and torch.isfinite(loss).all()


def test_popular_targets_are_corrected_for() -> None:
    queries, targets = torch.zeros(2, 3), torch.randn(2, 3)
    loss = in_batch_softmax(queries, targets, torch.tensor([0, 1]), torch.tensor([math.log(3.0), 0.0]))
    assert torch.allclose(loss, -torch.log(torch.tensor([0.25, 0.75])), atol=1e-5)
