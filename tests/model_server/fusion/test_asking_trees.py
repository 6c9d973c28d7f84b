"""What a kernel writes for the trees is what is put together from columns on other devices."""

import numpy as np
import pytest
import torch

from model_server.fusion.cpu_asking import LikelyPairs
from model_server.fusion.trees import BINS, binned
from model_server.fusion.trusted_trees import tree_features


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("n", [0, 1, 12])
def test_each_pair_is_asked_about_itself_its_place_and_its_user(n: int, side_by_side: bool) -> None:
    random = torch.Generator().manual_seed(n)
    features = torch.randn(5, 40, 7, generator=random)
    if side_by_side:
        features = features.transpose(1, 2).contiguous().transpose(1, 2)
    best, likely = torch.randn(5, 40, generator=random).topk(n, 1)
    kind = torch.randint(0, 9, (5, n), generator=random)
    moves, of_users = torch.randn(5, n, 2, generator=random), torch.randn(5, 3, generator=random)
    place = torch.log1p(torch.arange(n)).expand(5, n)
    columns = torch.stack((best, best - best[:, :1], place, kind.float()), 2)
    about = features.gather(1, likely[..., None].expand(-1, -1, 7))
    user = torch.arange(5).repeat_interleave(n)
    expected = tree_features([each.flatten(0, 1) for each in (about, columns, moves)], [of_users], user)
    pairs = LikelyPairs.of(features, best, likely, kind, moves, of_users)
    torch.testing.assert_close(torch.from_numpy(pairs.features()), torch.from_numpy(expected))
    edges = np.sort(np.random.default_rng(n).normal(size=(expected.shape[1], BINS - 1)).astype(np.float32), 1)
    assert (pairs.bins(edges) == binned(expected, edges).T).all()
