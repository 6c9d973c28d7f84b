"""The return part of the fusion: which of the own items, if one of them."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model_server.catalogue import Catalogue
from model_server.fusion import exploring, returning
from model_server.fusion.batch import CONTEXT, UserBatch
from model_server.fusion.boosting import Asked, Boosting
from model_server.fusion.cpu_returning import return_features_on_cpu
from model_server.fusion.cpu_voting import Weights, voted_on_cpu, weights_of
from model_server.fusion.linear import UserWeights, grouped_log_softmax
from model_server.fusion.network import KERNELS, ReturnNetwork, vote
from model_server.fusion.newton import NewtonWeights
from model_server.fusion.returning import ReturnFeatures, return_features
from model_server.fusion.trusted_trees import TrustedTrees, tree_features
from model_server.sequence_model.item_table import RowTable

PUBLIC = tuple(column for column, name in enumerate(exploring.NAMES) if name not in ("distance", "sequence"))
MIXED = ("network", "sequence", "period", *(exploring.NAMES[column] for column in PUBLIC))
FLOOR = -15.0
RATE, TABLE_RATE = 3e-3, 0.05
TREE_FEATURES = returning.FEATURES + len(MIXED) + 2 + returning.USER_FEATURES + CONTEXT


@dataclass(frozen=True)
class ReturnScore:
    """``log_p`` [pairs] within the own items: ``mixture`` [pairs], corrected by trees.

    ``mixed`` [pairs, len(MIXED)] is what the mixture is of; ``asked`` [pairs, ...] is what the trees were asked about, and
    ``said`` [pairs] their answer.
    """

    known: ReturnFeatures
    mixed: Tensor
    mixture: Tensor
    asked: Asked
    said: Tensor
    log_p: Tensor


class ReturnPart:
    """A few networks that vote, the users' own weights, the mixture with the sequence model and public features, and trees.

    The networks differ in their first weights alone and learn from the same events; the mean of their probabilities is
    clearly better than any of them, for the noise of single gradient steps is averaged out. Boosted trees correct the mixture;
    how far they are trusted is learned.
    """

    def __init__(
        self, timed: bool, deep: bool, without: tuple[str, ...], device: torch.device, members: int = 3, seed: int = 0
    ) -> None:
        def kept(names: tuple[str, ...]) -> Tensor:
            return torch.tensor([float(name not in without) for name in names], device=device)

        self.kept_public = kept(MIXED[3:])
        self._all_kept = not set(without) & {*returning.NAMES, *returning.circumstances(timed)}
        self.kept, self.kept_circumstances = kept(returning.NAMES), kept(returning.circumstances(timed))
        self.networks = nn.ModuleList(ReturnNetwork(timed, deep) for _ in range(members)).to(device)
        dense = [parameter for network in self._members() for parameter in network.dense_parameters()]
        self._weights: Weights | None = None  # of the networks side by side, until they learn
        self.optimizer = torch.optim.Adam(dense, lr=RATE, betas=(0.9, 0.99))
        self.user_weights = UserWeights(members * (returning.FEATURES + KERNELS), device)
        self.mix = NewtonWeights(torch.tensor([0.8, 0.2] + [0.0] * (len(MIXED) - 2), device=device), precision=10.0)
        self.trees = None if "trees" in without else TrustedTrees(Boosting(TREE_FEATURES, seed), device)

    def features(self, batch: UserBatch, catalogue: Catalogue) -> ReturnFeatures:
        """The return features of a batch, those of experts that are left out set to zero."""
        on_cpu = batch.slots.device.type == "cpu"
        known = return_features_on_cpu(batch, catalogue) if on_cpu else return_features(batch, catalogue)
        if self._all_kept:
            return known
        values, compared = known.values * self.kept, known.circumstances * self.kept_circumstances
        return ReturnFeatures(values, known.base, compared, known.of_user)

    def score(
        self, batch: UserBatch, catalogue: Catalogue, sequence: Tensor | None, due: Tensor, public: Tensor
    ) -> ReturnScore:
        """The own items of a batch.

        ``sequence`` [pairs] are the sequence model's log-probabilities, ``due`` [pairs] is how due each own item is, and
        ``public`` [pairs, ...] are the explore features of the own items: what everybody's behaviour says of them.
        """
        known, own = self.features(batch, catalogue), batch.own
        network = self._voted(batch, known, catalogue).clamp(min=FLOOR)
        if sequence is None:
            listened = torch.zeros_like(network)
        else:
            listened = grouped_log_softmax(sequence, own.user, batch.users).clamp(min=FLOOR)
        mixed = torch.cat((torch.stack((network, listened, due), 1), public[:, PUBLIC] * self.kept_public), 1)
        mixture = grouped_log_softmax(mixed @ self.mix.weights, own.user, batch.users)
        asked = Asked(partial(_asked, batch, catalogue, known, mixed, mixture))
        if self.trees is None:
            return ReturnScore(known, mixed, mixture, asked, torch.zeros_like(mixture), mixture)
        said = self.trees.said(len(mixture), asked)
        log_p = grouped_log_softmax(mixture + self.trees.trust.weights * said, own.user, batch.users)
        return ReturnScore(known, mixed, mixture, asked, said, log_p)

    def learn(
        self, batch: UserBatch, score: ReturnScore, catalogue: Catalogue, target: Tensor, returned: Tensor
    ) -> None:
        """Learn the mixture, then take a step of the network, from the users that came back (bool [users]); ``grow`` follows."""
        own = batch.own
        at = returned[own.user]
        user, hit, mixture = own.user[at], (own.row == target[own.user])[at], score.mixture[at]
        _mixture_step(self.mix, score.mixed[at], mixture.exp(), hit, user, returned)
        if self.trees is not None:
            said = score.said[at]
            _mixture_step(self.trees.trust, said[:, None], score.log_p[at].exp(), hit, user, returned)
            self.trees.learn(score.asked.features()[at.cpu().numpy()], mixture, said, user, hit)
        self.learn_network(batch, score.known, catalogue, target)

    def grow(self) -> bool:
        """Grow one of the trees that are due: apart from ``learn``, so that nobody waits for both; whether there was one."""
        return self.trees is not None and self.trees.boosting.grow()

    @torch.enable_grad()
    def learn_network(self, batch: UserBatch, known: ReturnFeatures, catalogue: Catalogue, target: Tensor) -> None:
        """A gradient step of the network on a batch, fresh or replayed; one that is not finite is left out."""
        own = batch.own
        hit = own.row == target[own.user]
        user_weights = self.user_weights.weights[batch.slots].requires_grad_()
        votes = self._log_p(batch, known, catalogue, user_weights)
        loss = -votes[:, hit].sum() / batch.users
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if not bool(torch.isfinite(loss)) or user_weights.grad is None:
            for table in self._tables():
                table.weight.grad = None
            return
        for network in self._members():
            nn.utils.clip_grad_norm_(network.dense_parameters(), 5.0)
        self.optimizer.step()
        self._weights = None
        for table in self._tables():
            table.step(TABLE_RATE)
        self.user_weights.step(batch.slots, user_weights.grad * batch.users)

    def linear_weights(self, slots: Tensor) -> Tensor:
        """The mean linear weights of the fixed features for these users, [users, features]: shared plus their own."""
        shared = torch.stack([network.weights.detach() for network in self._members()])
        own = self.user_weights.weights[slots].view(-1, *shared.shape)
        return (shared + own).mean(1)[:, : returning.FEATURES]

    def _voted(self, batch: UserBatch, known: ReturnFeatures, catalogue: Catalogue) -> Tensor:
        """The logarithm of the mean of the networks' probabilities, [pairs]."""
        members, user_weights = self._members(), self.user_weights.weights[batch.slots]
        if user_weights.device.type == "cpu":
            if self._weights is None:
                self._weights = weights_of(members)
            return voted_on_cpu(members, self._weights, batch, known, catalogue, user_weights)
        return torch.logsumexp(self._log_p(batch, known, catalogue, user_weights), 0) - math.log(len(members))

    def _log_p(self, batch: UserBatch, known: ReturnFeatures, catalogue: Catalogue, user_weights: Tensor) -> Tensor:
        """Each network's log-probabilities [members, pairs] within the own items."""
        logits = vote(self._members(), batch, known, catalogue, user_weights)
        first = torch.arange(len(logits), device=logits.device)[:, None] * batch.users
        group = (first + batch.own.user).flatten()
        return grouped_log_softmax(logits.flatten(), group, len(logits) * batch.users).view_as(logits)

    def _members(self) -> list[ReturnNetwork]:
        return [network for network in self.networks if isinstance(network, ReturnNetwork)]

    def _tables(self) -> list[RowTable]:
        return [table for network in self._members() for table in network.tables()]

    def reserve(self, rows: int, categories: int, users: int) -> None:
        """Make room."""
        for network in self._members():
            network.item.ensure(rows)
            network.category.ensure(categories)
            network.user.ensure(users)
        self.user_weights.reserve(users)

    def forget(self, users: Tensor) -> None:
        """These user rows belong to somebody else now."""
        for network in self._members():
            network.user.reset(users)
        self.user_weights.forget(users)

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {
            "networks": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "user_weights": self.user_weights.state(),
            "mix": self.mix.state(),
            **({} if self.trees is None else self.trees.state()),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        for number, network in enumerate(self._members()):
            for name in ("category", "item", "user"):
                getattr(network, name).ensure(len(state["networks"][f"{number}.{name}.weight"]))
        self.networks.load_state_dict(state["networks"])
        self._weights = None
        self.optimizer.load_state_dict(state["optimizer"])
        self.user_weights.load_state(state["user_weights"])
        self.mix.load_state(state["mix"])
        if self.trees is not None:
            self.trees.load_state(state)


def _asked(
    batch: UserBatch, catalogue: Catalogue, known: ReturnFeatures, mixed: Tensor, mixture: Tensor
) -> npt.NDArray[np.float32]:
    """What the trees are asked about each pair, [pairs, ``TREE_FEATURES``]."""
    own = batch.own
    surest = mixture.new_full((batch.users,), -torch.inf).scatter_reduce(0, own.user, mixture, "amax")
    behind, kind = (mixture - surest[own.user])[:, None], catalogue.category[own.row][:, None]
    return tree_features([known.values, mixed, behind, kind], [known.of_user, batch.time_context], own.user)


def _mixture_step(
    weights: NewtonWeights, mixed: Tensor, p: Tensor, hit: Tensor, user: Tensor, returned: Tensor
) -> None:
    """A Newton step of a softmax over each user's pairs, of their features [pairs, ...] and probabilities [pairs]."""
    mean = torch.zeros((len(returned), mixed.shape[1]), device=p.device).index_add_(0, user, p[:, None] * mixed)
    apart = mixed - mean[user]
    weights.step((hit.float() - p) @ mixed, (apart * p[:, None]).T @ apart, int(returned.sum()))
