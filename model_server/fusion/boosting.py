"""Boosted trees that correct a part of the fusion: grown one at a time while events come, on the latest of them.

A network that takes a step or two per event never sees what rare conditions say together; a tree that is grown on the
latest hundred thousand pairs does. Every tree follows the gradient of the log-likelihood, as it is with all trees before
(Friedman 2001). What older trees say fades: they were grown on less.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_server.fusion.linear import grouped_log_softmax
from model_server.fusion.trees import BINS, DEPTH, answers, binned, edges_of, grown

TREES, EVENTS_PER_TREE = 500, 64
RATE, FADING = 0.08, 0.995
HELD, FIRST_GROUPS = 1 << 17, 1000
LIKELY = -8.0
COLUMNS = 0.5

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Asked:
    """What the trees are asked about some pairs: ``features`` float32 [pairs, columns], put together when they are wanted.

    ``bins`` gives the bins of the features by their edges, uint8 [columns, pairs], where there is a shorter way to them.
    """

    features: Callable[[], Array]
    bins: Callable[[Array], Array] | None = None

    def binned(self, edges: Array) -> Array:
        """The bin of each feature, uint8 [columns, pairs]."""
        return binned(self.features(), edges).T if self.bins is None else self.bins(edges)


class Boosting:
    """The trees, and the latest ``HELD`` pairs that they are grown on; bins are drawn when ``first_groups`` groups are known.

    A group is what one event chose from. ``before`` is a pair's log-probability without trees, ``said`` what they said of it.
    """

    def __init__(
        self,
        features: int,
        seed: int = 0,
        first_groups: int = FIRST_GROUPS,
        events_per_tree: int = EVENTS_PER_TREE,
        fading: float = FADING,
    ) -> None:
        self.first_groups, self.events_per_tree, self.fading, self._seed = first_groups, events_per_tree, fading, seed
        self.column, self.bound = np.zeros((TREES, DEPTH), np.int64), np.full((TREES, DEPTH), BINS, np.int64)
        self.value = np.zeros((TREES, 1 << DEPTH), np.float32)
        self.grown = self.groups = self.since = 0
        self.edges: Array | None = None
        self._seen: Array = np.zeros((0, features), np.float32)  # features, and bins as soon as there are edges
        self._before, self._said = np.zeros(0, np.float32), np.zeros(0, np.float32)
        self._group, self._hit = np.zeros(0, np.int64), np.zeros(0, np.bool_)

    def of(self, pairs: int, asked: Asked) -> Array:
        """What the trees say of each pair, float32 [pairs]: to be added to its log-probability."""
        held = min(self.grown, TREES)
        if self.edges is None or not held:
            return np.zeros(pairs, np.float32)
        return answers(asked.binned(self.edges), self.column[:held], self.bound[:held], self.value[:held])

    def learn(self, features: Array, before: Array, said: Array, group: Array, hit: Array) -> None:
        """Remember what was chosen, [pairs] in groups with one ``hit`` each; a tree per ``events_per_tree`` groups is due then.

        Pairs that were hardly possible are left out, and with them the groups that chose one.
        """
        kept = before > LIKELY
        chose = np.zeros(int(group.max()) + 1 if len(group) else 0, np.bool_)
        chose[group[hit & kept]] = True
        kept &= chose[group]
        self._remember(features[kept], before[kept], said[kept], group[kept], hit[kept])
        new = int(chose.sum())
        self.groups, self.since = self.groups + new, self.since + new
        if self.edges is None:
            if self.groups < self.first_groups:
                return
            self.edges = edges_of(self._seen)
            self._seen, self.since = binned(self._seen, self.edges), self.events_per_tree

    def grow(self) -> bool:
        """Grow one of the trees that are due, which takes some 30 ms; whether there was one."""
        due = self.edges is not None and self.since >= self.events_per_tree
        if due:
            self.since -= self.events_per_tree
            self._grow()
        return due

    def _remember(self, features: Array, before: Array, said: Array, group: Array, hit: Array) -> None:
        _, number = np.unique(group, return_inverse=True)
        seen = features if self.edges is None else binned(features, self.edges)
        first = min(max(len(self._before) + len(before) - HELD, 0), len(self._before))
        if first:  # whole groups go
            first = int(np.searchsorted(self._group, self._group[first - 1], side="right"))
        self._seen = np.concatenate((self._seen[first:], seen))
        self._before = np.concatenate((self._before[first:], before), dtype=np.float32)
        self._said = np.concatenate((self._said[first:], said), dtype=np.float32)
        self._group = np.concatenate((self._group[first:], self.groups + number))
        self._hit = np.concatenate((self._hit[first:], hit))

    def _grow(self) -> None:
        random = np.random.default_rng((self._seed, self.grown))
        group = torch.from_numpy(self._group - self._group[0])
        logits = torch.from_numpy(self._before + self._said)
        p = grouped_log_softmax(logits, group, int(group[-1]) + 1).exp().numpy()
        columns = np.sort(random.permutation(self._seen.shape[1])[: max(int(COLUMNS * self._seen.shape[1]), 1)])
        tree = grown(self._seen, self._hit - p, np.maximum(p * (1 - p), 1e-4), columns)
        at = slice(self.grown % TREES, self.grown % TREES + 1)
        bins = np.ascontiguousarray(self._seen.T)
        self._said -= answers(bins, self.column[at], self.bound[at], self.value[at])
        self.column[at], self.bound[at], self.value[at] = tree.column, tree.bound, 0.0
        self._said *= self.fading
        self.value *= self.fading
        self.value[at] = RATE * tree.value
        self._said += answers(bins, self.column[at], self.bound[at], self.value[at])
        self.grown += 1

    def state(self) -> dict[str, Any]:
        """Trees, edges and the pairs, as tensors and plain values."""
        return {
            "grown": self.grown,
            "groups": self.groups,
            "since": self.since,
            "edges": None if self.edges is None else torch.from_numpy(self.edges.copy()),
            **{name: torch.from_numpy(array.copy()) for name, array in self._arrays().items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError for another number of features or trees."""
        for name in ("_seen", "value", "column"):
            there, here = state[name.strip("_")].shape[1:], self._arrays()[name.strip("_")].shape[1:]
            if there != here:
                raise ValueError(f"trees of the state are of another shape: {name} {tuple(there)}, here {here}")
        self.grown, self.groups, self.since = state["grown"], state["groups"], state["since"]
        self.edges = None if state["edges"] is None else state["edges"].numpy().copy()
        self.column, self.bound, self.value = (state[name].numpy().copy() for name in ("column", "bound", "value"))
        self._seen, self._before, self._said = (state[name].numpy().copy() for name in ("seen", "before", "said"))
        self._group, self._hit = state["group"].numpy().copy(), state["hit"].numpy().copy()

    def _arrays(self) -> dict[str, Array]:
        return {
            "column": self.column, "bound": self.bound, "value": self.value, "seen": self._seen, "before": self._before,
            "said": self._said, "group": self._group, "hit": self._hit,
        }  # fmt: skip
