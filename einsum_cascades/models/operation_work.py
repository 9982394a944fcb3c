"""What an operation asks of any machine: its useful work by Einsum, and the elements that at least pass by memory.

A plan is held against both (`accelerators.protocol`). With a trace, each head has keys of its own; where values are
pruned, an Einsum that reads them counts those that a query uses. Knows no machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import prod
from operator import attrgetter

from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, bound_work, wholly_bound
from cascadesim.einsum_cascades.analysis.extents import names
from cascadesim.einsum_cascades.analysis.rank_groups import all_accesses
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.ir import Access
from cascadesim.einsum_cascades.sparsity.masks import FULL

KEPT = "k"  # extent of an attention: values that a query uses of the keys it scores (local value pruning)
_INSTANCES = ("b", "x")  # extents of an operation that repeat its cascade
_TRACED = attrgetter("keys", "values", "queries", "head_dim")


def work_of(operation: Operation, splits: Mapping[str, int] | None = None) -> dict[str, dict[str, int]]:
    """Einsum -> operation class -> count, of one run of the operation: batch and copies included, `count` not.

    `splits`: inner extents as a plan chose them, such as M0. With a trace, the sum over its heads, each with keys of
    its own. Raises CascadeSimError where an extent is missing.
    """
    if operation.trace is not None:
        return _traced_work(operation, splits)
    sizes = dict(operation.extents)
    repeats = prod(sizes[rank] for rank in _INSTANCES if rank in sizes)
    given = {rank.upper(): size for rank, size in sizes.items()} | dict(splits or {})
    counted = bound_work(operation.cascade, given, operation.mask)
    share = _share_of_values(operation)
    return {
        name: {kind: int(repeats * count * share.get(name, 1)) for kind, count in counts.items()}
        for name, counts in counted.items()
    }


def _traced_work(operation: Operation, splits: Mapping[str, int] | None) -> dict[str, dict[str, int]]:
    total: defaultdict[str, Counter[str]] = defaultdict(Counter)
    shapes = Counter(map(_TRACED, operation.trace.rows if operation.trace is not None else ()))
    for (keys, values, queries, depth), heads in shapes.items():
        sizes = {"b": heads, "h": 1, "g": 1, "m": keys, "p": queries, "e": depth, "f": depth, "k": values}
        same = replace(operation, trace=None, extents=tuple(sizes.items()), mask=FULL)
        for name, counts in work_of(same, splits).items():
            total[name].update(counts)
    return {name: dict(counts) for name, counts in total.items()}


def _share_of_values(operation: Operation) -> dict[str, Fraction]:
    """Einsums that read values -> the share of keys whose values a query uses, where it leaves some out."""
    sizes = dict(operation.extents)
    if operation.kind != "attention" or sizes.get(KEPT, sizes[KEY]) >= sizes[KEY]:
        return {}
    values = [einsum for einsum in operation.cascade.einsums if any(map(_is_value, einsum.inputs))]
    return {einsum.name: Fraction(sizes[KEPT], sizes[KEY]) for einsum in values}


def _is_value(access: Access) -> bool:
    return {KEY, "f"} <= set(access.ranks) and QUERY not in access.ranks


def least_elements(operation: Operation, splits: Mapping[str, int] | None = None) -> dict[str, int]:
    """Input or output of the cascade -> elements that at least pass by, batch and copies included.

    Keys that no query attends are left out, and so are keys that a text reads once for each of a group of heads.
    """
    sizes = dict(operation.extents)
    given = {rank.upper(): size for rank, size in sizes.items()} | dict(splits or {})
    sized = wholly_bound(operation.cascade, given, operation.mask)
    repeats = prod(sizes[rank] for rank in _INSTANCES if rank in sizes)
    group = 1 if "G" in names(operation.cascade) else sizes.get("g", 1)
    found: dict[str, int] = {}
    outside = {*operation.cascade.inputs, *operation.cascade.outputs}
    for access in dict.fromkeys(access for _, access in all_accesses(operation.cascade) if access.tensor in outside):
        ranks = {rank for index in access.indices for rank in index.ranks}
        shared = group if sized.parts(KEY, ranks) and not sized.parts(QUERY, ranks) else 1
        elements = repeats * prod(sized.coordinates(index) for index in access.indices) // shared
        apart = {index.rank for index in access.indices}
        for parts, whole in sized.wholes.items():
            if apart.issuperset(parts):  # S[m1,m0]: a partial last tile has what it holds
                elements = elements * whole // prod(sized.extents[rank.upper()] for rank in parts)
        if _is_value(access):
            elements = elements * sizes.get(KEPT, sizes[KEY]) // sizes[KEY]
        found[access.tensor] = max(found.get(access.tensor, 0), elements)
    return found
