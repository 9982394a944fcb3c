"""A neighborhood written into an attention cascade: conditions that compare coordinates with the bounds of windows.

On a line of tokens query p sees the keys m with `LO[p] <= m and m < HI[p]`; in more dimensions or dilated, the same is
said of PLACE[m] in each dimension, within a dilation group. These tensors of coordinates are inputs. Every Einsum that
runs over pairs gets the condition, so that counts are of attended pairs. `neighborhood_operations` has them in closed
form; small sizes are evaluated and counted one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.counts import Region
from cascadesim.einsum_cascades.notation.affine import index_text
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade, Constant, Einsum, Index, Select, conditions
from cascadesim.einsum_cascades.notation.notation import parse
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.notation.printer import einsum_text, expression_text
from cascadesim.einsum_cascades.sparsity.neighborhood import Axis, Neighborhood
from cascadesim.einsum_cascades.texts.attention import ATTENTION_3PASS

Coordinates = NDArray[np.int64]
BELOW_EVERY_SCORE = -1e30  # assumed; -inf - -inf of a tile before the first window would be NaN


@dataclass(frozen=True)
class _Pairs:
    """How a cascade runs over pairs: the index of the key, such as m1*M0+m0, and the rank of the query."""

    key: Index
    query: str

    @property
    def ranks(self) -> frozenset[str]:
        return frozenset((*self.key.ranks, self.query))


def neighborhood_cascade(
    pattern: Neighborhood, attention: Cascade = ATTENTION_3PASS
) -> tuple[Cascade, dict[str, Coordinates]]:
    """`attention` with the neighborhood in it as text, and the tensors of coordinates that its conditions read.

    Queries and keys are the tokens of the layout, row by row. Raises CascadeSimError for a cascade that has conditions
    of its own or does not read Q[h,p,e] and K[h,m,e].
    """
    pairs = _pairs(attention)
    condition = " and ".join(_conditions(pattern, pairs))
    lines = [_line(einsum, pairs, condition) for einsum in attention.einsums]
    return parse(f"{attention.name}-neighborhood", "\n".join(lines)), bounds(pattern)


def bounds(pattern: Neighborhood) -> dict[str, Coordinates]:
    """Per dimension: LO and HI of each query, PLACE of each key; where dilated, their groups: GROUP and OWN."""
    held: dict[str, Coordinates] = {}
    for axis, suffix, along in zip(pattern.axes, _suffixes(pattern), np.indices(pattern.layout), strict=True):
        coordinate = along.reshape(-1)
        low, high = _windows(axis)
        held |= {f"LO{suffix}": low[coordinate], f"HI{suffix}": high[coordinate]}
        if _has_places(axis, suffix):
            held[f"PLACE{suffix}"] = coordinate // axis.dilation
        if axis.dilation > 1:
            held[f"GROUP{suffix}"] = held[f"OWN{suffix}"] = coordinate % axis.dilation
    return held


def neighborhood_operations(
    pattern: Neighborhood, cascade: Cascade, extents: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Operations of every Einsum of a `neighborhood_cascade`, exact at any size: Einsum -> class -> count."""
    pairs = _pairs(cascade)
    found: dict[str, dict[str, int]] = {}
    for einsum in cascade.einsums:
        total = found.setdefault(einsum.name, {})
        for charge in charges(einsum):
            points = _points(einsum, pairs, pattern, extents) if charge.conditions else (
                Region(einsum.ranks).bound(extents)
            )  # fmt: skip
            for name, count in charge.operations.items():
                total[name] = total.get(name, 0) + count * points
    return found


def _points(einsum: Einsum, pairs: _Pairs, pattern: Neighborhood, extents: Mapping[str, int]) -> int:
    return pattern.pairs * prod(extents[rank.upper()] for rank in einsum.ranks if rank not in pairs.ranks)


def _pairs(attention: Cascade) -> _Pairs:
    read = {access.tensor: access for einsum in attention.einsums for access in einsum.inputs}
    query, key = read.get("Q"), read.get("K")
    rank = query.indices[1].rank if query is not None and len(query.indices) > 1 else None
    if rank is None or key is None or len(key.indices) < 2 or key.indices[1].gather is not None:
        raise CascadeSimError(f"{attention.name}: a neighborhood needs a cascade that reads Q[h,p,e] and K[h,m,e]")
    return _Pairs(key.indices[1], rank)


def _suffixes(pattern: Neighborhood) -> tuple[str, ...]:
    """Nothing for a line of tokens, otherwise the number of the dimension."""
    dimensions = len(pattern.layout)
    return ("",) if dimensions == 1 else tuple(str(number) for number in range(1, dimensions + 1))


def _has_places(axis: Axis, suffix: str) -> bool:
    """Along an undilated line of tokens the place of a key is the key."""
    return bool(suffix) or axis.dilation > 1


def _conditions(pattern: Neighborhood, pairs: _Pairs) -> list[str]:
    key, query = index_text(pairs.key), pairs.query
    found = []
    for axis, suffix in zip(pattern.axes, _suffixes(pattern), strict=True):
        place = f"PLACE{suffix}[{key}]" if _has_places(axis, suffix) else key
        found += [f"LO{suffix}[{query}] <= {place}", f"{place} < HI{suffix}[{query}]"]
        if axis.dilation > 1:
            found.append(f"GROUP{suffix}[{key}] == OWN{suffix}[{query}]")
    return found


def _line(einsum: Einsum, pairs: _Pairs, condition: str) -> str:
    """The Einsum as text: under the condition if it runs over pairs; a first maximum that is a number, not -inf."""
    if any(True for _ in conditions(einsum.expression)):
        raise CascadeSimError(f"{einsum.name}: has a condition already; a neighborhood goes into unmasked attention")
    if einsum.expression == Constant(float("-inf")):
        return einsum_text(replace(einsum, expression=Constant(BELOW_EVERY_SCORE)))
    if not pairs.ranks <= set(einsum.ranks):
        return einsum_text(einsum)
    nothing = "-inf" if einsum.reduction == "max" or any(access.tensor == "Q" for access in einsum.inputs) else "0"
    text = expression_text(einsum.expression)
    inner = f"({text})" if isinstance(einsum.expression, Select) else text
    bare = einsum_text(replace(einsum, comment=""))
    return bare.replace(text, f"{inner} if {condition} else {nothing}", 1)


def _windows(axis: Axis) -> tuple[Coordinates, Coordinates]:
    """First and one-past-last place in its group of each coordinate's window."""
    low = np.empty(axis.length, dtype=np.int64)
    high = np.empty(axis.length, dtype=np.int64)
    for group in range(axis.dilation):
        start, end = axis.spans(-(-(axis.length - group) // axis.dilation))
        low[group :: axis.dilation], high[group :: axis.dilation] = start, end
    return low, high
