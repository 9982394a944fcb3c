"""Reads a cascade at given sizes into a `MappingProblem`: axes and the ranks that walk them, copies, states, uses.

Refuses texts that no loop nest has: gathered coordinates, operators on whole fibers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from cascadesim.accelerators.mapping.attended import AttendedKeys
from cascadesim.accelerators.mapping.problem import STACKED, AxisWalk, Dimension, MappingProblem, TensorUse, Work
from cascadesim.accelerators.spec import point_operations
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, wholly_bound
from cascadesim.einsum_cascades.analysis.passes import partitions, whole_extent
from cascadesim.einsum_cascades.notation.algebra import factor_polynomial
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum, Factor, Index
from cascadesim.einsum_cascades.notation.operators import fiber_operator, is_copy
from cascadesim.einsum_cascades.sparsity.masks import FULL


def problem(
    cascade: Cascade, given: Mapping[str, int], instances: int = 1, stacked_heads: int = 1,
    attended: AttendedKeys | None = None,
) -> MappingProblem:  # fmt: skip
    """Bind a cascade. `given`: extents by name in upper case, inner extents of its partitions (M0) included.

    `stacked_heads`: query heads that are stacked along the queries; what each head has for itself (a sink) comes so
    many times. Raises CascadeSimError for extents that are missing, and for texts that no loop nest has: gathered
    coordinates, operators on whole fibers.
    """
    sizes = dict(wholly_bound(cascade, given, FULL).extents)
    chains = _chains(cascade)
    walks = _walks(cascade, chains, sizes)
    extents = {walk.axis: max(walk.cap, 1) for walk in walks.values()} | {axis: sizes[axis.upper()] for axis in chains}
    sources = _sources(cascade)
    if stacked_heads > 1:
        extents[STACKED] = stacked_heads
    reader = _Reader(cascade, walks, chains, sources, sizes, stacked_heads)
    work = tuple(reader.work(number, einsum) for number, einsum in enumerate(cascade.einsums)
                 if einsum.inputs and not (is_copy(einsum) and (einsum.name in sources or _is_start(einsum))))
    starts = tuple((einsum.name, reader.operand(einsum.inputs[0], f"{cascade.name}, line {einsum.line}"))
                   for einsum in cascade.einsums if is_copy(einsum) and _is_start(einsum))
    return MappingProblem(cascade, extents, sizes, instances, work, sources, chains, starts, attended)


def _is_start(einsum: Einsum) -> bool:
    """A copy into the first value of a state, `RM[h,0,p] = SINK[h]`: it moves nothing by itself."""
    return any(index.fixed is not None for index in einsum.output.indices)


def _chains(cascade: Cascade) -> dict[str, tuple[str, ...]]:
    """Axes that the text itself splits and no other partition shares a part with: m of (m1, m0)."""
    found = partitions(cascade)
    shared = {part for parts in found for part in parts if sum(part in other for other in found) > 1}
    own = {whole_extent(parts).lower(): parts for parts in found if shared.isdisjoint(parts)}
    return {axis: parts for axis, parts in own.items() if axis.isidentifier() and axis.upper() not in parts}


def _walks(cascade: Cascade, chains: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int]) -> dict[str, AxisWalk]:
    found: dict[str, AxisWalk] = {}
    for axis, parts in chains.items():
        cap = sizes[axis.upper()]
        for position, part in enumerate(parts):
            grain = prod(sizes[inner.upper()] for inner in parts[position + 1 :])
            found[part] = AxisWalk(axis, grain, cap)
            cap = grain
        found.setdefault(axis, AxisWalk(axis, 1, sizes[axis.upper()]))
    return found | {rank: AxisWalk(rank, 1, sizes[rank.upper()]) for rank in cascade.ranks if rank not in found}


def _sources(cascade: Cascade) -> dict[str, str]:
    """Copy -> what it copies, where that is a whole tensor or the last value of a state."""
    found: dict[str, str] = {}
    for einsum in cascade.einsums:
        if is_copy(einsum) and not _is_start(einsum) and set(einsum.output.ranks) <= set(einsum.inputs[0].ranks):
            source = einsum.inputs[0].tensor
            if sum(other.name == einsum.name for other in cascade.einsums) == 1:
                found[einsum.name] = found.get(source, source)
    return found


@dataclass(frozen=True)
class _Reader:
    cascade: Cascade
    ranks: Mapping[str, AxisWalk]
    chains: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, str]
    sizes: Mapping[str, int]
    stacked_heads: int

    def work(self, number: int, einsum: Einsum) -> Work:
        where = f"{self.cascade.name}, line {einsum.line}"
        if fiber_operator(einsum) is not None:
            raise CascadeSimError(f"{where}: {einsum.text}: no loop nest of an array has an operator on whole fibers")
        walks: dict[str, tuple[AxisWalk, ...]] = {}
        for rank in einsum.ranks:
            walk = self.ranks[rank]
            walks[walk.axis] = (*walks.get(walk.axis, ()), walk)
        inputs = tuple(dict.fromkeys(self.operand(access, where) for access in einsum.inputs))
        iterates = frozenset(self.ranks[rank].axis for rank in einsum.iterates)
        output = self.operand(einsum.output, where)
        return Work(number, einsum, walks, output, inputs, dict(point_operations(einsum)), iterates)

    def operand(self, access: Access, where: str) -> TensorUse:
        if any(index.gather is not None for index in access.indices):
            raise CascadeSimError(f"{where}: {access.tensor} is read where another tensor says; no loop nest of an "
                                  f"array has gathered coordinates yet")
        dimensions = tuple(self._dimensions(access))
        final = any(index.final is not None for index in access.indices)
        return TensorUse(access.tensor, self.sources.get(access.tensor, access.tensor), dimensions, final)

    def _dimensions(self, access: Access) -> Iterator[Dimension]:
        """Ranks that split one axis (m1, m0) make one dimension of it, on one coordinate or on several."""
        joint = {axis for axis, parts in self.chains.items() if set(parts) <= set(access.ranks)}
        axes = {self.ranks[rank].axis for rank in access.ranks}
        if self.stacked_heads > 1 and "h" in axes and not axes & {KEY, QUERY}:
            yield Dimension(((AxisWalk(STACKED, 1, self.stacked_heads), 1),))
        for axis in sorted(joint):
            yield Dimension(((AxisWalk(axis, 1, self.sizes[axis.upper()]), 1),))
        for index in access.indices:
            terms = tuple(self._terms(index, joint))
            if terms:
                yield Dimension(terms, self._number(index.divisor), sum(map(self._number, index.offsets)))

    def _terms(self, index: Index, joint: set[str]) -> Iterator[tuple[AxisWalk, int]]:
        for rank, factor in index.terms:
            if self.ranks[rank].axis not in joint:
                yield self.ranks[rank], abs(self._number(factor))

    def _number(self, factor: Factor) -> int:
        return int(factor_polynomial(factor).value(self.sizes))
