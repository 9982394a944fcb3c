"""A text on a device with every extent: what it calls keys and queries, its tiles, its mask, its types.

Tiles are those of plain Triton, one size for all kernels of a text, since the text's own tiles (M0) are these. Elements
of a tensor are counted as they are stored; of what keeps pairs of query and key, those in visited tiles. Knows no
kernel and no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

import numpy as np

from cascadesim.accelerators.binding import DEPTHS
from cascadesim.accelerators.gpu.memory import FLOAT_BYTES
from cascadesim.accelerators.gpu.plans import is_absorbed
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype, OperandTypes
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, BoundCascade, wholly_bound
from cascadesim.einsum_cascades.analysis.passes import all_accesses, partition, partitions, whole_extent
from cascadesim.einsum_cascades.models.operation import Operation, kept_states, least_elements, refuse_unequal_steps
from cascadesim.einsum_cascades.notation.algebra import access_text
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Index
from cascadesim.einsum_cascades.sparsity.masks import FULL, Mask

_ROLES: Mapping[str, str] = {"Q": "hpe", "K": "hme", "V": "hmf"}  # extents of an operation along the last indices


@dataclass(frozen=True)
class Tiles:
    """Coordinates of a rank in one block (`rows`), and in one step of its walk (`steps`)."""

    rows: int
    steps: int


@dataclass(frozen=True)
class Problem:
    """A text with every extent and its mask, on a device, in these tiles.

    `splits`: extents beside those of the operation: what the text calls keys and queries, and inner parts of ranks.
    """

    operation: Operation
    device: Device
    tiles: Tiles
    splits: Mapping[str, int]
    mask: Mask

    @property
    def cascade(self) -> Cascade:
        return self.operation.cascade

    @cached_property
    def bound(self) -> BoundCascade:
        given = {rank.upper(): size for rank, size in self.operation.extents} | dict(self.splits)
        return wholly_bound(self.cascade, given, self.operation.mask)

    @cached_property
    def least(self) -> Mapping[str, int]:
        """Inputs and outputs -> elements."""
        return least_elements(self.operation, self.splits)

    @property
    def latent(self) -> Mapping[str, str]:
        """Values that are part of the keys -> those keys, where all heads share one latent vector."""
        return {"V": "K"} if is_absorbed(self.operation) else {}

    def shares_keys(self, access: Access) -> bool:
        """Whether the heads of a group read the same elements: of keys and values, a key head has one each."""
        found, ranks = self.bound, set(access.ranks)
        return bool(found.parts(KEY, ranks)) and not found.parts(QUERY, ranks)

    def keyed(self, tensor: str) -> bool:
        """Whether a cache holds it, where there is one."""
        return tensor in ("K", "V") or any(self.shares_keys(access) for _, access in all_accesses(self.cascade)
                                           if access.tensor == tensor)  # fmt: skip

    @property
    def cache_type(self) -> Dtype:
        """Of keys and values where they come from a cache; a prompt's are multiplied as they are."""
        return self.device.type_of("kv" if self.operation.operand == "kv" else "attention")

    @property
    def product_type(self) -> Dtype:
        """assumed: a narrower cache is converted on its way to the tensor cores, as weights of products are."""
        if self.operation.numbers is not None:
            return self.operation.numbers
        return OperandTypes(self.device.type_of("attention"), self.cache_type).product

    def element_bytes(self, tensor: str, access: Access | None = None) -> float:
        """Operands are in their types, results of 8-bit products in 16 bits, states and what stays in FP32.

        assumed: scores and weights, which are of the size of pairs, are converted before they are stored.
        """
        width = DTYPE_BYTES[self.operation.numbers or self.device.type_of("attention")]
        if tensor in kept_states(self.cascade):
            return FLOAT_BYTES
        if tensor in self.cascade.inputs:
            cached = self.keyed(tensor) and self.operation.numbers is None
            return DTYPE_BYTES[self.cache_type] if cached else width
        if tensor in self.cascade.outputs or (access is not None and self._paired(access)):
            return max(width, 2)
        return FLOAT_BYTES

    def size_bytes(self, tensor: str, access: Access) -> float:
        """A whole tensor, as far as it is stored."""
        if (tensor, access) not in self._sizes:
            self._sizes[tensor, access] = self.elements(tensor, access) * self.element_bytes(tensor, access)
        return self._sizes[tensor, access]

    @cached_property
    def _sizes(self) -> dict[tuple[str, Access], float]:
        """What `size_bytes` has found: every launch asks for the tensors of those around it."""
        return {}

    def _paired(self, access: Access) -> bool:
        """Whole keys against queries; not tiles of keys."""
        keys = self.bound.parts(KEY, access.ranks)
        return bool(self.bound.parts(QUERY, access.ranks)) and (
            keys == (KEY,) or any(keys == parts for parts in partitions(self.cascade)))  # fmt: skip

    def elements(self, tensor: str, access: Access) -> float:
        """Of all sequences and heads; of scores, those in visited tiles."""
        if tensor in self.least:
            return self.least[tensor]
        found = dict(self.operation.extents)["b"] * prod(map(self.bound.coordinates, access.indices))
        return found * (self.visited.share if self._paired(access) else 1.0)

    @cached_property
    def visited(self) -> Visited:
        """Key tiles that query tiles visit under the mask."""
        size = dict(self.operation.extents)
        if self.mask == FULL:
            return Visited(1.0, 1.0, 1.0)
        queries = max(self.tiles.rows // size["g"], 1)  # query heads of a key head share the rows of a tile
        first, last = self.mask.key_tiles(size[QUERY], size[KEY], queries, self.tiles.steps)
        found = np.maximum(last - first + 1, 0)
        whole, mean = ceil(size[KEY] / self.tiles.steps), max(float(found.mean()), 1e-9)
        return Visited(mean / whole, max(float(found.max()) / mean, 1.0), min(float(found.min()) / mean, 1.0))


@dataclass(frozen=True)
class Visited:
    """`share`: of all tiles of pairs; `longest`, `shortest`: of the blocks, over the mean."""

    share: float
    longest: float
    shortest: float


def extents_of(operation: Operation, tile: int) -> dict[str, int]:
    """Extents that a text has beside the operation's own: its letters for keys, queries and depths; tiles of ranks.

    Raises CascadeSimError where queries and keys are stepped along together, and are not as many, and where queries,
    keys or values have a dimension that no workload gives.
    """
    cascade, size = operation.cascade, dict(operation.extents)
    found: dict[str, int] = {}
    for access in (access for _, access in all_accesses(cascade) if access.tensor in _ROLES):
        named = map(_name, access.indices[: -len(_ROLES[access.tensor]) + 1])  # but the last two
        if len(access.indices) > len(_ROLES[access.tensor]) and (
            unknown := [name for name in named if name and name.lower() not in size]
        ):
            raise CascadeSimError(f"{cascade.name}: {access_text(access)} has {len(access.indices)} dimensions; "
                                  f"nothing says how long {', '.join(unknown)} is")  # fmt: skip
        for index, role in zip(access.indices[::-1], _ROLES[access.tensor][::-1], strict=False):
            found.setdefault(_name(index), size[role])
        depth = _name(access.indices[-1]).lower()
        if depth not in DEPTHS:
            raise CascadeSimError(f"{cascade.name}: the depth of {access.tensor} is called {depth or 'no rank'}; GPUs "
                                  f"know products by depths called {', '.join(sorted(DEPTHS))}")  # fmt: skip
    known = {rank.upper() for rank in size} | {""}
    refuse_unequal_steps(operation)
    inner = {rank.upper(): tile for parts in partitions(cascade) for rank in parts[1:]}
    return {name: number for name, number in found.items() if name not in known} | inner | _alike(cascade, inner)


def _alike(cascade: Cascade, inner: Mapping[str, int]) -> dict[str, int]:
    """Extents of ranks that read what a rank of a tile has written: i0 of `T[h,m1,i0,p0]` is as long as m0."""
    found: dict[str, int] = {}
    for access in (access for _, access in all_accesses(cascade) if access.tensor in cascade.produced):
        for written, read in zip(cascade.einsum(access.tensor).output.indices, access.indices, strict=True):
            size = inner.get((written.rank or "").upper())
            if size is not None and read.rank is not None and read.rank.upper() not in inner:
                found[read.rank.upper()] = size
    return found


def _name(index: Index) -> str:
    parts = partition(index)
    return whole_extent(parts) if parts else (index.rank or "").upper()
