"""How well any model could rank the rows of a stratum, given how much the rows themselves scatter.

Twins are rows that a kernel can hardly tell apart: as many key heads over the whole batch, each with the same queries,
keys in reach, group, types and mask; products of the same sizes. How far their times lie apart is what a run, a clock,
a choice by batch or a version leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np

from cascadesim.validation.columns import Value
from cascadesim.validation.gpu.work import Floats
from cascadesim.validation.table import Row

FEWEST_PAIRS = 10  # of twins, to say anything of a stratum
ALIKE = ("dtype", "kv_dtype", "head_dim", "causal", "seqlen_q", "m", "n", "k")
SIZES = ("batch", "heads_q", "heads_kv", "kv_len", "window")
_normal = np.vectorize(lambda deviations: (1 + math.erf(deviations / math.sqrt(2))) / 2, otypes=[np.float64])


def twin_key(row: Row) -> Hashable:
    """Equal for rows that are twins."""
    batch, heads, key_heads, keys, window = (row.number(name) or 0 for name in SIZES)
    same: tuple[Value, ...] = tuple(row.get(name) for name in ALIKE)
    if not key_heads:
        return (batch, *same)
    return (batch * key_heads, heads / key_heads, min(keys, window or keys), bool(window), *same)


def scatter(keys: Sequence[Hashable], measured: Floats) -> float | None:
    """Standard deviation of the logarithm of one row, from the pairs of twins; None where there are too few."""
    groups: dict[Hashable, list[float]] = {}
    for key, time in zip(keys, np.log(measured).tolist(), strict=True):
        groups.setdefault(key, []).append(time)
    apart = [first - second for times in groups.values() for first, second in combinations(times, 2)]
    if len(apart) < FEWEST_PAIRS:
        return None
    return math.sqrt(float(np.mean(np.square(apart))) / 2)


def tau_ceiling(measured: Floats, deviation: float) -> float:
    """Kendall's tau that the true times would reach against measured ones that scatter by `deviation`, on average.

    Two rows whose logarithms differ by d stay in order with the probability that a normal error of sqrt(2) deviation
    is smaller than d; measured differences stand for the true ones.
    """
    first, second = np.triu_indices(len(measured), 1)
    apart = np.abs(np.log(measured[first] / measured[second]))
    if deviation <= 0:
        return 1.0
    return float(np.mean(2 * _normal(apart / (math.sqrt(2) * deviation)) - 1))
