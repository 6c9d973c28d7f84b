"""User states from cached keys and values on a CPU: of all users one flat list of the tokens that are new, without padding.

The same to the rounding of float32 as the transducer gives. What takes all tokens alike (the linear layers) is torch's; what
depends on whose token it is, a kernel's.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional as F

from model_server.cpu_math import ONE, exp_of
from model_server.sequence_model import relations as rel
from model_server.sequence_model.cpu_arrays import Items, arrays_of, items_of, memory_of
from model_server.sequence_model.cpu_relations import (
    age_bucket,
    distance_bucket,
    hour_of_week_kind,
    local_solar_s,
    shrink_of,
)
from model_server.sequence_model.memory import UserMemory
from model_server.sequence_model.model import SequenceModel
from model_server.sequence_model.one_event import one_event

Array = npt.NDArray[Any]
ZERO = np.float32(0)


class _Tokens(NamedTuple):
    """Tokens [T] in the order of their users: whose, and in which column of the user's window; the buckets of the ages and
    distances of the columns up to theirs, [T, window]; and each user's last token, [B].
    """

    user: Array
    column: Array
    age: Array
    distance: Array
    last: Array


class _Tables(NamedTuple):
    """What a token is the sum of, as arrays: vectors by hour, by gap, by user, and by item."""

    hour: Array
    gap: Array
    user: Array
    items: Items


def encode_on_cpu(
    model: SequenceModel,
    memory: UserMemory,
    users: Tensor,
    lines: tuple[Tensor, Tensor, Tensor],
    cache: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """States [B, d] after the latest event of each user, and which users [B] have a new item without a vector of its own.

    Of items content says nothing. Raises IndexError for an item or a user that the model's tables have no room for.
    ``lines`` are int64 [B]: the number of the first event of each user's window, that of the first that is not cached yet, and
    the line, each another, of the user in the ``cache`` of keys and values [lines, layers, H, window, d / H], which gets the
    new ones.
    """
    anchor, first, line = (each.numpy() for each in lines)
    tokens = _room(memory.count[users].numpy() - first, cache[0].shape[3])
    x, provisional = torch.empty(len(tokens.user), model.settings.dim), torch.zeros(len(users), dtype=torch.bool)
    hour, gap, person = arrays_of(model.transducer.hour.weight, model.transducer.gap.weight, model.users.weight)
    tables = _Tables(hour, gap, person, items_of(model.items))
    _lay_out(users.numpy(), anchor, first, memory_of(memory), tables, tokens, x.numpy(), provisional.numpy())
    layers, last = model.transducer.stack(), torch.from_numpy(tokens.last)
    for number, layer in enumerate(layers):
        projected = F.silu(layer.uvqk(layer.norm(x)))
        highest = number == len(layers) - 1
        seen = torch.empty((len(last) if highest else len(x), x.shape[1]))
        _attend(
            projected.numpy(), tokens, line, cache[0].numpy(), cache[1].numpy(), number, layer.scale,
            arrays_of(layer.time_bias, layer.distance_bias, layer.out_norm.weight, layer.out_norm.bias),
            layer.out_norm.eps, highest, seen.numpy(),
        )  # fmt: skip
        x = (x[last] if highest else x) + layer.out(seen)
    return model.transducer.norm(x), provisional


def _room(new: Array, window: int) -> _Tokens:
    """The tokens of users who have so many ``new`` ones each, not yet filled in."""
    stops = np.cumsum(new)
    total = int(stops[-1]) if len(stops) else 0
    age, distance = np.empty((2, total, window), np.uint8)
    return _Tokens(np.repeat(np.arange(len(new)), new), np.empty(total, np.int64), age, distance, stops - 1)


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    model, memory = one_event()
    nothing, zeros = torch.zeros(1, dtype=torch.long), torch.zeros(1, 2, 2, 32, 32)
    with torch.no_grad():
        encode_on_cpu(model, memory, nothing, (nothing, nothing, nothing), (zeros, zeros.clone()))


@njit(cache=True, nogil=True, error_model="numpy")
def _lay_out(
    users: Array, anchors: Array, firsts: Array, memory: Any, tables: Any, tokens: Any, x: Array, provisional: Array
) -> None:  # fmt: skip
    """Fill in the tokens of each user's events from the ``first`` on, and whether one is of an item without its own vector."""
    length, t = memory.items.shape[1], 0
    for b in range(len(users)):
        user, anchor, count = users[b], anchors[b], memory.events[users[b]]
        if user >= len(tables.user):
            raise IndexError("a user is not in the user table")
        time_s, lat, lon, oldest = memory.time_s[user], memory.lat[user], memory.lon[user], max(count - length, 0)
        for number in range(firsts[b], count):
            at, prev = number % length, (number - 1) % length
            row = memory.items[user, at]
            if row >= len(tables.items.slot_of):
                raise IndexError("an event's item is not in the item table")
            slot, hour = tables.items.slot_of[row], hour_of_week_kind(local_solar_s(time_s[at], lon[at]))
            gap = age_bucket(time_s[at] - time_s[prev]) if number > oldest else rel.AGE_BUCKETS
            tokens.column[t] = number - anchor
            provisional[b] |= slot == 0
            for k in range(x.shape[1]):
                x[t, k] = (
                    tables.items.vectors[slot, k] + tables.hour[hour, k] + tables.gap[gap, k] + tables.user[user, k]
                )
            shrink = shrink_of(lat[at])
            for before in range(anchor, number + 1):
                other, column = before % length, before - anchor
                tokens.age[t, column] = age_bucket(time_s[at] - time_s[other])
                tokens.distance[t, column] = distance_bucket(lat[at], lon[at], shrink, lat[other], lon[other])
            t += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _attend(
    projected: Array, tokens: Any, lines: Array, keys: Array, values: Array, layer: int, scale: int, weights: Any,
    eps: float, highest: bool, out: Array,
) -> None:  # fmt: skip
    """Cache the tokens' keys and values, then write what each token sees, normalised and gated; only each user's last if this is
    the ``highest`` layer. ``projected`` [T, 4 d] are u, v, q and k side by side.
    """
    heads, width, d = keys.shape[2], keys.shape[4], projected.shape[1] // 4
    score, written = np.empty(keys.shape[3], np.float32), 0
    for t in range(len(projected)):
        line, column, of_token = lines[tokens.user[t]], tokens.column[t], projected[t]
        for h in range(heads):
            at = h * width
            values[line, layer, h, column] = of_token[d + at : d + at + width]
            keys[line, layer, h, column] = of_token[3 * d + at : 3 * d + at + width]
        if highest and tokens.last[tokens.user[t]] != t:
            continue
        seen = out[written]
        seen[:] = ZERO
        for h in range(heads):
            at, seen_before = h * width, score[: column + 1]
            _score(of_token[2 * d + at : 2 * d + at + width], keys[line, layer, h], seen_before)
            for n in range(column + 1):
                seen_before[n] += weights[0][tokens.age[t, n], h] + weights[1][tokens.distance[t, n], h]
            _weigh(seen_before, np.float32(scale))
            _add_all(seen_before, values[line, layer, h], seen[at : at + width])
        _gate(seen, of_token[:d], weights[2], weights[3], np.float32(eps))
        written += 1


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _score(query: Array, keys: Array, score: Array) -> None:
    for n in range(len(score)):
        total = ZERO
        for k in range(len(query)):
            total += query[k] * keys[n, k]
        score[n] = total


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _weigh(score: Array, scale: Any) -> None:
    for n in range(len(score)):
        score[n] = score[n] / (ONE + exp_of(-score[n])) / scale


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _add_all(weight: Array, values: Array, out: Array) -> None:
    for n in range(len(weight)):
        for k in range(len(out)):
            out[k] += weight[n] * values[n, k]


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _gate(x: Array, gate: Array, weight: Array, bias: Array, eps: Any) -> None:
    """Normalise ``x`` as a layer norm does, and multiply it by the gate."""
    mean, square = ZERO, ZERO
    for k in range(len(x)):
        mean += x[k]
    mean /= np.float32(len(x))
    for k in range(len(x)):
        square += (x[k] - mean) * (x[k] - mean)
    spread = ONE / np.float32(math.sqrt(square / np.float32(len(x)) + eps))
    for k in range(len(x)):
        x[k] = ((x[k] - mean) * spread * weight[k] + bias[k]) * gate[k]
