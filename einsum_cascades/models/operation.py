"""One piece of work of a model: a cascade with its extents bound, and what it asks of any machine.

A workload is a list of operations; an accelerator plans one operation at a time and knows no model. Here is what a
plan is held against (`accelerators.plan_check`): the useful work by Einsum, the elements that at least pass by memory,
and the mask that the workload and the conditions of the text leave together. Knows no machine and no tiles.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
from math import prod
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, BoundCascade, bound_work, wholly_bound
from cascadesim.einsum_cascades.analysis.passes import all_accesses, partition, partitions
from cascadesim.einsum_cascades.notation.algebra import extents_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Condition, conditions
from cascadesim.einsum_cascades.notation.operators import is_copy
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS, LINEAR

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.sparsity.block_selection import ExpectedTiles
    from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace

OperationKind: TypeAlias = Literal["attention", "linear", "elementwise", "collective"]
Operand: TypeAlias = Literal["weights", "experts", "head", "activations", "kv"]
TRACED = "traced"  # the kind of layer of a pruning trace: all layers of all generated tokens, run as one
_WALKED: Mapping[str, str] = {"Q": QUERY, "K": KEY, "V": KEY}  # inputs of attention -> what their last but one index is
PATTERN = "pattern_"  # begins the names of operations that a sparse pattern adds to its attention


@dataclass(frozen=True)
class Operation:
    """`cascade` run `count` times on ranks of the sizes in `extents`.

    attention: extents b, h (query heads), g (query heads per key/value head; h is a multiple of g), m (keys),
    p (queries), e (query/key depth), f (value depth); k (values that a query uses, m where it is missing).
    A recurrence has the same: h states of e x f, g of which read one head of queries and keys; m = p tokens.
    linear: Z[r,n] = A[r,k] * W[k,n], extents r (rows), k, n, and x (independent copies with weights of their own:
    experts, heads).
    elementwise: extents r (rows), d (elements per row).
    collective: the same extents; a sum over several devices, which only accelerators that have them are asked for.
    attention with a `trace`: one query of one head a row, each with keys of its own; extents are the largest of them.
    """

    name: str
    kind: OperationKind
    cascade: Cascade
    extents: tuple[tuple[str, int], ...]
    count: int = 1
    mask: Mask = FULL
    layer: str = ""  # the kind of layer it belongs to, where a model has several
    trace: PruningTrace | None = None
    operand: Operand = "activations"  # what W of linear is, and K and V of attention: they may have a type of their own
    numbers: Literal["fp32", "int4"] | None = None  # the type of all its operands, where the text asks for one
    fp32: tuple[str, ...] = ()  # tensors of element-wise work that are, beside others
    launched: bool = True  # False: a part of the kernel after it

    def __post_init__(self) -> None:
        small = [f"{rank}={size}" for rank, size in (*self.extents, ("count", self.count)) if size < 1]
        if small:
            raise CascadeSimError(f"{self.name}: every extent must be at least 1, got {', '.join(small)}")

    def extent(self, rank: str) -> int:
        return dict(self.extents)[rank]

    def of_scope(self, scope: str) -> bool:
        """Whether it is `attention`, what a pattern adds to it included, or `linear`, those products left out."""
        added = self.name.startswith(PATTERN)
        return scope == "attention" if added else self.kind == scope

    def with_cascade(self, cascade: Cascade) -> Operation:
        """The same work written as another cascade (attention in 1 pass instead of 3)."""
        return replace(self, cascade=cascade)


def linear(name: str, rows: int, inputs: int, outputs: int, copies: int = 1, operand: Operand = "weights") -> Operation:
    extents = (("r", rows), ("k", inputs), ("n", outputs), ("x", copies))
    return Operation(name, "linear", LINEAR, extents, operand=operand)


def elementwise(name: str, cascade: Cascade, rows: int, width: int, operand: Operand = "activations") -> Operation:
    return Operation(name, "elementwise", cascade, (("r", rows), ("d", width)), operand=operand)


@runtime_checkable
class TiledMask(Mask, Protocol):
    """A mask whose tiles lie anywhere: for machines that have a list of those to visit (`Capabilities.patterns`)."""

    @property
    def causal(self) -> bool:
        """Whether no query attends a later key."""

    @property
    def by_data(self) -> bool:
        """Whether it is chosen when it runs."""

    def visited(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Key tiles that each query tile visits, and those of them that need a mask."""

    def key_tile(self, tile: int) -> int:
        """The keys that a kernel with tiles of so many takes at a time."""


KEPT = "k"  # extent of an attention: values that a query uses of the keys it scores (local value pruning)
_INSTANCES = ("b", "x")  # extents of an operation that repeat its cascade
_REMEMBERED = 4096  # sizes of cascades: those of many steps of many models
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
    prunes = operation.kind == "attention" and sizes.get(KEPT, sizes[KEY]) < sizes[KEY]  # a query leaves values out
    share = {einsum.name: Fraction(sizes[KEPT], sizes[KEY]) for einsum in operation.cascade.einsums
             if prunes and any(map(_is_value, einsum.inputs))}  # of those that read values
    return {name: {kind: int(repeats * count * share.get(name, 1)) for kind, count in counts.items()}
            for name, counts in counted.items()}


def _traced_work(operation: Operation, splits: Mapping[str, int] | None) -> dict[str, dict[str, int]]:
    total: defaultdict[str, Counter[str]] = defaultdict(Counter)
    shapes = Counter(map(_TRACED, operation.trace.rows if operation.trace is not None else ()))
    for (keys, values, queries, depth), heads in shapes.items():
        sizes = {"b": heads, "h": 1, "g": 1, "m": keys, "p": queries, "e": depth, "f": depth, "k": values}
        same = replace(operation, trace=None, extents=tuple(sizes.items()), mask=FULL)
        for name, counts in work_of(same, splits).items():
            total[name].update(counts)
    return {name: dict(counts) for name, counts in total.items()}


def _is_value(access: Access) -> bool:
    return {KEY, "f"} <= set(access.ranks) and QUERY not in access.ranks


def least_elements(operation: Operation, splits: Mapping[str, int] | None = None) -> dict[str, int]:
    """Input or output of the cascade -> elements that at least pass by, batch and copies included.

    Keys that no query attends are left out, and so are keys that a text reads once for each of a group of heads.
    """
    return dict(_least_elements(operation.cascade, operation.extents, operation.mask, tuple((splits or {}).items())))


@lru_cache(maxsize=_REMEMBERED)  # a plan and the checks of it ask for the same
def _least_elements(
    cascade: Cascade, extents: tuple[tuple[str, int], ...], mask: Mask, splits: tuple[tuple[str, int], ...]
) -> Mapping[str, int]:
    sizes = dict(extents)
    given = {rank.upper(): size for rank, size in sizes.items()} | dict(splits)
    sized = wholly_bound(cascade, given, mask)
    repeats = prod(sizes[rank] for rank in _INSTANCES if rank in sizes)
    group = 1 if "G" in extents_of(cascade) or QUERY not in cascade.ranks else sizes.get("g", 1)
    found: dict[str, int] = {}
    outside = {*cascade.inputs, *cascade.outputs}
    for access in dict.fromkeys(access for _, access in all_accesses(cascade) if access.tensor in outside):
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


@cache
def kept_states(text: Cascade) -> frozenset[str]:
    """Inputs with which running values begin, and outputs as which they are left for the next run of the text.

    `S[h,0,e,f] = S0[h,e,f]` and `SM[h,e,f] = S[h,M,e,f]`: S0 and SM. A value that only begins as an input is none.
    """
    running = {einsum.name for einsum in text.einsums if einsum.iterates}
    copies = [(einsum.name, einsum.inputs[0].tensor) for einsum in text.einsums if is_copy(einsum)]
    begins = {name: source for name, source in copies if name in running and source in text.inputs}
    ends = {source: name for name, source in copies if source in running and name in text.outputs}
    return frozenset(name for state in begins.keys() & ends.keys() for name in (begins[state], ends[state]))


@cache
def causal_by_itself(text: Cascade) -> bool:
    """Whether queries see the keys up to their own position and no others, as the text stands.

    It walks queries and keys together, position by position or chunk by chunk; nothing sums over all positions or reads
    what the last one left; and pairs inside a chunk have a condition.
    """
    walks = {parts for _, access in all_accesses(text) if access.tensor in ("Q", "K") and len(access.indices) > 1
             for parts in [partition(access.indices[-2]) or access.indices[-2].ranks]}  # fmt: skip
    outer = {parts[0] for parts in walks if parts}
    if len(outer) != 1:
        return False
    inner = {rank for parts in walks for rank in parts[1:]}
    running = {einsum.name for einsum in text.einsums if outer & set(einsum.iterates)}
    for einsum in text.einsums:
        late = any(access.tensor in running and any(index.final for index in access.indices)
                   and not outer & set(access.ranks) for access in einsum.inputs)  # fmt: skip
        pairs = len(inner) > 1 and inner <= set(einsum.ranks)
        if outer & set(einsum.reduced_ranks) or (late and outer & set(einsum.ranks)):
            return False
        if pairs and not any(conditions(einsum.expression)):
            return False
    return True


def mask_of(operation: Operation) -> Mask:
    """The mask of the workload, narrowed by the text's conditions; the same for every pair-sized Einsum.

    Raises CascadeSimError where conditions are no mask, or where a mask meets a text without pairs to leave out.
    """
    text, found = operation.cascade, _pair_conditions(operation.cascade)
    refuse_what_no_text_masks(operation)
    if found <= {()}:
        return operation.mask
    if len(found) > 1:
        raise CascadeSimError(f"{text.name}: its Einsums have different conditions: no mask of all pairs")
    return _interval(operation, found.pop())


def _pair_conditions(text: Cascade) -> set[tuple[Condition, ...]]:
    """Conditions of each Einsum over whole keys and queries."""
    keys = {KEY, *(parts[-1] for parts in partitions(text) if parts[0].startswith(KEY))}
    return {tuple(dict.fromkeys(conditions(einsum.expression))) for einsum in text.einsums
            if QUERY in einsum.ranks and keys & set(einsum.ranks)}  # fmt: skip


def refuse_what_no_text_masks(operation: Operation) -> None:
    """Raises CascadeSimError where a mask meets a text without pairs to leave out."""
    text, size = operation.cascade, dict(operation.extents)
    if operation.mask != FULL and not _pair_conditions(text) and (
        operation.mask.attended_pairs(size[QUERY], size[KEY]) < size[QUERY] * size[KEY]
    ):
        walks = causal_by_itself(text)
        why = "keeps all that came before a query in one state" if walks else "sums over all keys before a query reads"
        other = "" if walks else ", a causal text such as linear-attention-chunked"
        raise CascadeSimError(f"{text.name} {why}: it has no Einsum over pairs of query and key, so the mask of this "
                              f"workload ({operation.mask}) cannot leave any out; give a workload without one{other}, "
                              f"or a text that masks")


def refuse_unequal_steps(operation: Operation) -> None:
    """Raises CascadeSimError where a text steps along queries and keys together, and they are not as many."""
    text, size = operation.cascade, dict(operation.extents)
    outer: dict[str, int] = {}
    for access in (access for _, access in all_accesses(text) if access.tensor in _WALKED and len(access.indices) > 1):
        index, whole = access.indices[-2], size[_WALKED[access.tensor]]
        for rank in (partition(index) or ((index.rank,) if index.rank else ()))[:1]:
            if outer.setdefault(rank, whole) != whole:
                raise CascadeSimError(f"{text.name}: it steps along queries and keys together ({rank}), so it needs "
                                      f"as many of both, got {size[QUERY]} and {size[KEY]}")


def _interval(operation: Operation, tests: tuple[Condition, ...]) -> Mask:
    """The mask that conditions leave, where machines know it."""
    queries, keys = operation.extent(QUERY), operation.extent(KEY)
    position = np.arange(queries) + keys - queries
    first, last = np.zeros(queries, np.int64), np.full(queries, keys - 1, np.int64)
    if isinstance(operation.mask, KeyInterval):
        first, last = operation.mask.interval(np.arange(queries), queries, keys)
    for low, high in _limits(operation, tests):
        first, last = np.maximum(first, low), np.minimum(last, high)
    width = int((last - first).max()) + 1
    known = (operation.mask, KeyInterval(True), KeyInterval(True, window=max(width, 1)))
    for each in (each for each in known if isinstance(each, KeyInterval) and (last <= position).all()):
        expected = each.interval(np.arange(queries), queries, keys)
        if np.array_equal(first, expected[0]) and np.array_equal(last, expected[1]):
            return each
    raise CascadeSimError(f"{operation.cascade.name}: its conditions leave no causal interval or window of keys; "
                          f"machines take those, or the mask of a workload")


def _limits(operation: Operation, tests: tuple[Condition, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first and the last key of each query under each condition."""
    text = operation.cascade
    inner = {rank.upper(): 1 for parts in partitions(text) for rank in parts[1:]}
    bound = BoundCascade.of(text, {**{rank.upper(): size for rank, size in operation.extents}, **inner})
    keys = next((parts for parts in bound.wholes if parts[0].startswith(KEY)), (KEY,))
    for test in tests:
        found = bound.limits(test, keys, (QUERY,), operation.extent(QUERY))
        if found is None:
            raise CascadeSimError(f"{text.name}: a condition compares more than a query with a key: no mask")
        yield found


def attention_cascade(name: str | None) -> Cascade:
    """Attention by name, in three passes without one. Raises CascadeSimError where a cascade reads no Q, K and V."""
    if name is None:
        return ATTENTION_3PASS
    found = find(name)
    missing = [tensor for tensor in ("Q", "K", "V") if tensor not in found.inputs]
    if missing:
        raise CascadeSimError(f"'{name}' is no attention: it does not read {', '.join(missing)}")
    return found
