"""Tokens in two or three dimensions: how a file writes such sizes, and the neighborhood a layer has in its layout.

Knows a layer's tokens and sizes; the pattern itself is `neighborhood`. NAT (CVPR 2023), DiNAT (arXiv 2209.15001), GNA
(arXiv 2504.16922).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Annotated, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.schema import Spec
from cascadesim.einsum_cascades.sparsity.neighborhood import Neighborhood, neighborhood, times

Each = TypeVar("Each")
_LONGEST = 14  # digits: beyond the largest size, and Python refuses to read thousands of them


def _sizes(given: object) -> object:
    """`80x80`, [80, 80], or 80 for every dimension. Raises ValueError on other text."""
    if isinstance(given, str):
        parts = given.lower().split("x")
        if not all(part.isascii() and part.isdigit() and len(part) < _LONGEST for part in parts):
            raise ValueError("should be sizes such as 80x80")
        return tuple(map(int, parts))
    return (given,) if isinstance(given, int) and not isinstance(given, bool) else given


def _flags(given: object) -> object:
    """`1,0,0`, [1, 0, 0], [true, false, false], or one for every dimension."""
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, tuple) else (given,)
    known = {"0": False, "1": True, "false": False, "true": True}
    flags = [known.get(str(part).strip().lower()) for part in parts]
    if None in flags:
        raise ValueError("should be 0 or 1 for each dimension, such as 1,0,0")
    return tuple(flags)


Size = Annotated[int, Field(gt=0, le=2**40)]  # no model comes near; keeps every product an honest number
Sizes: TypeAlias = Annotated[tuple[Size, ...], BeforeValidator(_sizes), Field(min_length=1, max_length=3)]
Flags: TypeAlias = Annotated[tuple[bool, ...], BeforeValidator(_flags), Field(min_length=1, max_length=3)]


class NeighborhoodSizes(Spec):
    """A neighborhood as a workload states it, per dimension of the layout; one size holds for every dimension."""

    window: Sizes
    stride: Sizes = (1,)
    dilation: Sizes = (1,)
    causal: Flags = (False,)


def neighborhood_sizes(given: object) -> object:
    """`neighborhood: 7` is short for `neighborhood: {window: 7}`."""
    return {"window": given} if isinstance(given, int | str) and not isinstance(given, bool) else given


def layout_sizes(text: str) -> tuple[int, ...]:
    """`30x48x80`. Raises CascadeSimError."""
    try:
        sizes = _sizes(text)
    except ValueError:
        sizes = ()
    if not isinstance(sizes, tuple) or min(sizes, default=0) < 1:
        raise CascadeSimError(f"layout: expected sizes such as 30x48x80, got '{text}'")
    return sizes


def neighborhood_of(tokens: int, layout: Sequence[int] | None, sizes: NeighborhoodSizes) -> Neighborhood:
    """The neighborhood of a layer of `tokens` in a model of that layout (None: a square).

    A window given by one size for all dimensions (NAT's) shrinks to the dilation groups of a layout too small for it,
    and its stride with it; sizes given per dimension must fit. Raises CascadeSimError.
    """
    sides = layout_of(tokens, layout)
    dilation = _per_dimension(sizes.dilation, len(sides))
    window, stride = _per_dimension(sizes.window, len(sides)), _per_dimension(sizes.stride, len(sides))
    if len(sizes.window) == 1:
        dilation = tuple(map(min, dilation, sides))
        window = tuple(min(size, side // apart) for size, side, apart in zip(window, sides, dilation, strict=True))
        stride = tuple(map(min, stride, window))
    return neighborhood(sides, window, stride, dilation, _per_dimension(sizes.causal, len(sides)))


def _per_dimension(sizes: tuple[Each, ...], dimensions: int) -> tuple[Each, ...]:
    return sizes * dimensions if len(sizes) == 1 else sizes


def layout_of(tokens: int, layout: Sequence[int] | None) -> tuple[int, ...]:
    """The sides of `tokens` tokens: the model's layout, or one of the same proportions. Raises CascadeSimError."""
    sides = tuple(layout or (1, 1))
    larger, smaller = _root(tokens, prod(sides), len(sides)), _root(prod(sides), tokens, len(sides))
    if larger is not None:
        return tuple(side * larger for side in sides)
    if smaller is not None and all(side % smaller == 0 for side in sides):
        return tuple(side // smaller for side in sides)
    edge = _root(tokens, 1, len(sides))
    if edge is not None and len(set(sides)) == 1:
        return (edge,) * len(sides)
    needed = "a square layout" if set(sides) == {sides[0]} and len(sides) == 2 else (
        f"the {prod(sides):,} tokens of its layout {times(sides)}, or one scaled by a whole number"
    )  # fmt: skip
    raise CascadeSimError(f"sequence length: neighborhood attention needs {needed}, got {tokens} tokens")


def _root(number: int, divisor: int, degree: int) -> int | None:
    """The whole number whose `degree`-th power is number / divisor, if there is one."""
    quotient, rest = divmod(number, divisor)
    if rest:
        return None
    near = round(quotient ** (1 / degree))
    return next((root for root in (near - 1, near, near + 1) if root > 0 and root**degree == quotient), None)
