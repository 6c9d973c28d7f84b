"""What the networks of returning think of the own items, on a CPU: one pass over the events and one over the pairs.

The same to the rounding of float32 as ``model_server.fusion.network.vote``, which is what is learned: of a few users with short
histories its some 80 operations spend little but the cost of calling them.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.cpu_math import ONE, exp_of
from model_server.fusion.batch import UserBatch, gather_users
from model_server.fusion.network import KERNELS, ReturnNetwork
from model_server.fusion.one_visit import one_visit
from model_server.fusion.returning import ReturnFeatures, return_features

Array = npt.NDArray[Any]
F = np.float32
ZERO, HALF, TINY, WIDEST = F(0), F(0.5), F(1e-9), F(8)


class Weights(NamedTuple):
    """The weights of all networks side by side, [members, out, in], and their biases, [members, out]; copies."""

    linear: Array
    compare: Array
    compare_bias: Array
    weigh: Array
    weigh_bias: Array
    query: Array
    query_bias: Array
    query_out: Array
    query_out_bias: Array
    from_features: Array
    from_context: Array
    hidden_bias: Array
    middle: Array
    middle_bias: Array
    out: Array
    out_bias: Array


class _Pairs(NamedTuple):
    """The own pairs, as arrays: whose, which row of which kind, the fixed features, the usual share."""

    user: Array
    row: Array
    kind: Array
    values: Array
    base: Array


class _Users(NamedTuple):
    """The users, as arrays: which, their last row and its kind, the kind of the one before (-1: none), what else is known of
    them, and their own weights [users, members, features].
    """

    slot: Array
    last_row: Array
    last_kind: Array
    before_kind: Array
    known: Array
    weights: Array


def weights_of(networks: Sequence[ReturnNetwork]) -> Weights:
    """The present weights of the networks."""

    def side_by_side(layers: Sequence[Any]) -> tuple[Array, Array]:
        weight = torch.stack([layer.weight.detach() for layer in layers])
        return weight.numpy(), torch.stack([layer.bias.detach() for layer in layers]).numpy()

    features, features_bias = side_by_side([network.from_features for network in networks])
    context, context_bias = side_by_side([network.from_context for network in networks])
    return Weights(
        torch.stack([network.weights.detach() for network in networks]).numpy(),
        *side_by_side([network.kernel[0] for network in networks]),
        *side_by_side([network.kernel[2] for network in networks]),
        *side_by_side([network.query[0] for network in networks]),
        *side_by_side([network.query[2] for network in networks]),
        features,
        context,
        features_bias + context_bias,
        *side_by_side([network.middle for network in networks]),
        *side_by_side([network.out for network in networks]),
    )


def voted_on_cpu(
    networks: Sequence[ReturnNetwork],
    weights: Weights,
    batch: UserBatch,
    known: ReturnFeatures,
    catalogue: Catalogue,
    user_weights: Tensor,
) -> Tensor:
    """The logarithm of the mean of the networks' probabilities of each own pair, float32 [pairs].

    ``weights`` are those of the ``networks``, ``user_weights`` [users, members x features] are added to their linear ones.
    O(events + pairs). Raises IndexError for a row, a category or a user that a table has no room for.
    """
    own, before, members = batch.own, batch.before_row, len(networks)
    tables = tuple(
        tuple(table.weight.detach().numpy() for table in (network.item, network.category, network.user))
        for network in networks
    )
    kinds = catalogue.category.numpy()
    last_row, before_row = batch.last_row.numpy(), before.numpy()
    users = _Users(
        batch.slots.numpy(),
        last_row,
        kinds[last_row],
        np.where(before_row >= 0, kinds[np.maximum(before_row, 0)], -1),
        torch.cat((batch.time_context, known.of_user), 1).numpy(),
        user_weights.view(batch.users, members, -1).numpy(),
    )
    row = own.row.numpy()
    pairs = _Pairs(own.user.numpy(), row, kinds[row], known.values.contiguous().numpy(), known.base.numpy())
    _check(users, pairs, tables)
    lifts, log_p = np.zeros((len(row), members, KERNELS), F), torch.empty(len(row))
    _lift(batch.events.user.numpy(), batch.events.pair.numpy(), known.circumstances.numpy(), pairs, weights, lifts)
    logits = np.empty((members, len(row)), F)
    for member, (item, category, user) in enumerate(tables):
        _score(member, users, pairs, lifts, weights, item, category, user, networks[0].deep, logits[member])
    _mean(pairs.user, batch.users, logits, log_p.numpy())
    return log_p


def _check(users: _Users, pairs: _Pairs, tables: tuple[tuple[Array, ...], ...]) -> None:
    most = max(pairs.row.max(), users.last_row.max()), max(pairs.kind.max(), users.last_kind.max()), users.slot.max()
    if any(number >= len(table) for of_member in tables for number, table in zip(most, of_member)):
        raise IndexError("a table of the networks has no room for a row, a category or a user")


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    catalogue, histories, slots = one_visit()
    batch = gather_users(histories, 1, slots)
    with torch.random.fork_rng(devices=[]):
        networks = [ReturnNetwork(False)]
    known, weights = return_features(batch, catalogue), weights_of(networks)
    voted_on_cpu(networks, weights, batch, known, catalogue, torch.zeros(1, weights.linear.shape[1]))


@njit(cache=True, nogil=True, error_model="numpy")
def _lift(user: Array, pair: Array, compared: Array, pairs: Any, weights: Any, lifts: Array) -> None:
    """Write the log-lifts of the learned kernels, [pairs, members, kernels]; ``lifts`` begin at 0."""
    members = lifts.shape[1]
    total = np.zeros((pairs.user[-1] + 1, members, lifts.shape[2]), np.float32)
    hidden, weight = np.empty(weights.compare.shape[1], np.float32), np.empty(lifts.shape[2], np.float32)
    for e in range(len(user)):
        for m in range(members):
            _apply(compared[e], weights.compare[m], weights.compare_bias[m], hidden)
            _take_silu(hidden)
            _apply(hidden, weights.weigh[m], weights.weigh_bias[m], weight)
            for k in range(len(weight)):
                of_event = exp_of(min(max(weight[k], -WIDEST), WIDEST))
                lifts[pair[e], m, k] += of_event
                total[user[e], m, k] += of_event
    for p in range(len(pairs.user)):
        base = pairs.base[p]
        for m in range(members):
            for k in range(lifts.shape[2]):
                share = (lifts[p, m, k] + HALF * base) / (total[pairs.user[p], m, k] + HALF) / base
                lifts[p, m, k] = math.log(share + TINY)


@njit(cache=True, nogil=True, error_model="numpy")
def _score(
    member: int, users: Any, pairs: Any, lifts: Array, weights: Any, items: Array, kinds: Array, people: Array, deep: bool,
    logits: Array,
) -> None:  # fmt: skip
    """Write what one network thinks of each pair."""
    fixed, learned, width = pairs.values.shape[1], lifts.shape[2], items.shape[1]
    features = np.empty(fixed + learned + width, np.float32)
    context, nothing = np.empty(weights.query.shape[2], np.float32), np.zeros(weights.middle.shape[1], np.float32)
    asking, query = np.empty(weights.query.shape[1], np.float32), np.empty(width, np.float32)
    of_user, hidden, middle = np.empty_like(nothing), np.empty_like(nothing), np.empty_like(nothing)
    linear, before = weights.linear[member], -1
    for p in range(len(logits)):
        u = pairs.user[p]
        if deep and u != before:
            before = u
            _know(u, users, items, kinds, people, context)
            _apply(context, weights.query[member], weights.query_bias[member], asking)
            _take_silu(asking)
            _apply(asking, weights.query_out[member], weights.query_out_bias[member], query)
            _apply(context, weights.from_context[member], weights.hidden_bias[member], of_user)
        total, own = ZERO, users.weights[u, member]
        features[:fixed], features[fixed : fixed + learned] = pairs.values[p], lifts[p, member]
        for f in range(fixed + learned):
            total += features[f] * (linear[f] + own[f])
        if deep:
            for k in range(width):
                features[fixed + learned + k] = items[pairs.row[p], k] + kinds[pairs.kind[p], k]
                total += query[k] * features[fixed + learned + k]
            _apply(features, weights.from_features[member], of_user, hidden)
            _take_silu(hidden)
            _apply(hidden, weights.middle[member], weights.middle_bias[member], middle)
            _take_silu(middle)
            for k in range(len(middle)):
                total += middle[k] * weights.out[member, 0, k]
            total += weights.out_bias[member, 0]
        logits[p] = total


@njit(cache=True, error_model="numpy")
def _know(u: int, users: Any, items: Array, kinds: Array, people: Array, context: Array) -> None:
    """Write what is known of a user: the time and the habits, the last item, the kind of the one before, and who it is."""
    known, width, before = users.known.shape[1], items.shape[1], users.before_kind[u]
    context[:known] = users.known[u]
    for k in range(width):
        context[known + k] = items[users.last_row[u], k] + kinds[users.last_kind[u], k]
        context[known + width + k] = kinds[before, k] if before >= 0 else ZERO
        context[known + 2 * width + k] = people[users.slot[u], k]


@njit(cache=True, error_model="numpy")
def _mean(user: Array, users: int, logits: Array, log_p: Array) -> None:
    """Write the logarithm of the mean of the members' probabilities, each a softmax of ``logits`` over the pairs of a user."""
    members, pairs = logits.shape
    for m in range(members):
        most, total = np.full(users, -np.inf, np.float32), np.zeros(users, np.float32)
        for p in range(pairs):
            most[user[p]] = max(most[user[p]], logits[m, p])
        for p in range(pairs):
            total[user[p]] += math.exp(logits[m, p] - most[user[p]])
        for p in range(pairs):
            logits[m, p] = logits[m, p] - most[user[p]] - math.log(total[user[p]])
    for p in range(pairs):
        most_p, total_p = logits[0, p], ZERO
        for m in range(1, members):
            most_p = max(most_p, logits[m, p])
        for m in range(members):
            total_p += math.exp(logits[m, p] - most_p)
        log_p[p] = most_p + math.log(total_p / F(members))


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _apply(x: Array, weight: Array, bias: Array, out: Array) -> None:
    """A linear layer, of ``weight`` [out, in]."""
    for k in range(len(out)):
        total, line = bias[k], weight[k]
        for n in range(len(x)):
            total += x[n] * line[n]
        out[k] = total


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _take_silu(x: Array) -> None:
    for k in range(len(x)):
        x[k] = x[k] / (ONE + exp_of(-x[k]))
