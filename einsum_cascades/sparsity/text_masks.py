"""The mask that an operation really has: what its workload attends, and what the conditions of its text leave of it.

A machine that walks intervals of keys asks here instead of reading conditions itself: a text that masks is either
one of the masks it knows, or refused with one line. Knows no tiles.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, BoundCascade
from cascadesim.einsum_cascades.analysis.rank_groups import partitions
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Condition, Einsum, conditions
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask


def mask_of(operation: Operation) -> Mask:
    """The mask of the workload, narrowed by the text's conditions; the same for every pair-sized Einsum.

    Raises CascadeSimError where conditions are no mask, or where a mask meets a text without pairs to leave out.
    """
    texts = list(_texts(operation))
    if operation.mask != FULL and not texts and _narrows(operation):
        raise CascadeSimError(
            f"{operation.cascade.name} has no Einsum over pairs of query and key, so the mask of this workload "
            f"({operation.mask}) cannot leave any out; give a workload without one, or a text that masks"
        )
    found = {tests for _, tests in texts}
    if found <= {()}:
        return operation.mask
    if len(found) > 1:
        raise CascadeSimError(f"{operation.cascade.name}: its Einsums have different conditions: no mask of all pairs")
    return _interval(operation, found.pop())


def _texts(operation: Operation) -> Iterator[tuple[Einsum, tuple[Condition, ...]]]:
    """Every Einsum over whole keys and queries, with its conditions."""
    splits = [parts for parts in partitions(operation.cascade) if parts[0].startswith(KEY)]
    keys = {KEY, *(parts[-1] for parts in splits)}
    for einsum in operation.cascade.einsums:
        if QUERY in einsum.ranks and keys & set(einsum.ranks):
            yield einsum, tuple(dict.fromkeys(conditions(einsum.expression)))


def _narrows(operation: Operation) -> bool:
    size = dict(operation.extents)
    return operation.mask.attended_pairs(size[QUERY], size[KEY]) < size[QUERY] * size[KEY]


def _interval(operation: Operation, tests: tuple[Condition, ...]) -> Mask:
    size = dict(operation.extents)
    queries, keys = size[QUERY], size[KEY]
    position = np.arange(queries) + keys - queries
    first, last = np.zeros(queries, np.int64), np.full(queries, keys - 1, np.int64)
    if isinstance(operation.mask, KeyInterval):
        first, last = operation.mask.interval(np.arange(queries), queries, keys)
    for low, high in _limits(operation, tests):
        first, last = np.maximum(first, low), np.minimum(last, high)
    width = int((last - first).max()) + 1
    for known in (operation.mask, KeyInterval(True), KeyInterval(True, window=max(width, 1))):
        if isinstance(known, KeyInterval):
            expected = known.interval(np.arange(queries), queries, keys)
            if np.array_equal(first, expected[0]) and np.array_equal(last, expected[1]) and (last <= position).all():
                return known
    raise CascadeSimError(
        f"{operation.cascade.name}: its conditions leave no causal interval or window of keys; machines take those, "
        "or the mask of a workload"
    )


def _limits(operation: Operation, tests: tuple[Condition, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    text = operation.cascade
    inner = {rank.upper(): 1 for parts in partitions(text) for rank in parts[1:]}
    bound = BoundCascade.of(text, {**{rank.upper(): size for rank, size in operation.extents}, **inner})
    keys = next((parts for parts in bound.wholes if parts[0].startswith(KEY)), (KEY,))
    for test in tests:
        found = bound.limits(test, keys, (QUERY,), dict(operation.extents)[QUERY])
        if found is None:
            raise CascadeSimError(f"{text.name}: a condition compares more than a query with a key: no mask")
        yield found
