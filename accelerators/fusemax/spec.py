"""What a FuseMax design is, and where it puts the Einsums of a 1-pass cascade: units and memories, by structure.

Two arrays carry the cascade: an Einsum over the keys of a tile (m0) runs on the 2D array if that array has its
operations, everything else on the 1D array, so the same spec also describes the 1-pass cascade on the FLAT
architecture (whose 2D array multiplies only). DRAM holds the inputs and outputs of the cascade; the buffer the inputs,
the iterative state and tiles that cross between the arrays; the 1D registers what the 2D array exchanges with the 1D
array. Knows no extents. FuseMax (MICRO'24), sections V and VI; kept tensors as in its artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import Literal, Self, TypeAlias

from pydantic import model_validator

from cascadesim.accelerators.access_counts import Operand
from cascadesim.accelerators.binding import OtherFormError
from cascadesim.accelerators.spec import Operations, SpatialArray, differences_of_exponentials, point_operations
from cascadesim.einsum_cascades.analysis.passes import pass_class
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum
from cascadesim.einsum_cascades.notation.operators import is_copy, repeated_ranks
from cascadesim.einsum_cascades.notation.schema import NonNegative, Positive, Spec

ARRAY_2D, ARRAY_1D, GLOBAL_BUFFER, DRAM = "array_2d", "array_1d", "global_buffer", "dram"
QUERY_RANK = "p"
_INSTANCE_RANKS, _DEPTHS = frozenset({"b", "h", "g"}), frozenset({"e", "f"})
Policy: TypeAlias = Literal["epochs", "serial", "interleave"]


class Distances(Spec):
    """How many epochs after a tile enters each letter of the published binding works on it: a > b > c > d in age.

    a: SPNV, RNV, RD; b: SLNV; c: RM, SLN, SLD, PRM, SPD; d: QK, LM. FuseMax, section V and figure 4.
    """

    a: NonNegative
    b: NonNegative
    c: NonNegative
    d: NonNegative = 0

    @model_validator(mode="after")
    def _older_tiles_are_further(self) -> Self:
        if not self.d <= self.c < self.b <= self.a:
            raise ValueError("expected d <= c < b <= a: a tile passes d, c, b and a in this order")
        return self


class Binding(Spec):
    """When tiles may overlap.

    epochs: the published software pipeline over four tiles. serial: one tile at a time, its drain exposed.
    interleave: up to `in_flight` tiles at once, greedily.
    """

    policy: Policy
    in_flight: Positive | None = None
    distances: Distances | None = None  # None: the smallest that hide the drains

    @model_validator(mode="after")
    def _parameters_fit_the_policy(self) -> Self:
        if self.policy == "interleave" and self.in_flight is None:
            raise ValueError("policy interleave needs in_flight: how many tiles may be open at once")
        if self.policy != "interleave" and self.in_flight is not None:
            raise ValueError(f"in_flight belongs to policy interleave, not to {self.policy}")
        if self.policy != "epochs" and self.distances is not None:
            raise ValueError(f"distances belong to policy epochs, not to {self.policy}")
        return self


class Published(Spec):
    """What the published accounting of this configuration assumes against its own preset (artifact accounting only)."""

    resident_capacity_bytes: Positive | None = None  # buffer that P1 is chosen for; None: the capacity of the buffer
    charges_exponentials: bool = True
    charges_registers_1d_from_2d: bool = True  # the 1D registers where the 2D array reads and writes them


class FuseMaxSpec(SpatialArray):
    """A spatial array, its binding, and the assumptions of its published figures."""

    binding: Binding
    published: Published = Published()


@dataclass(frozen=True)
class Placed:
    """One Einsum on its unit. `*_keeps`: names of its operands that the memory keeps."""

    einsum: Einsum
    unit: str
    operands: tuple[Operand, ...]
    operations: Mapping[str, int]  # per point
    op_cycles: int  # per point on one element
    dram_keeps: frozenset[str]
    buffer_keeps: frozenset[str]
    registers_1d_keeps: frozenset[str]  # of an Einsum on the 2D array: what it exchanges with the 1D array

    @property
    def name(self) -> str:
        return self.einsum.name

    @property
    def ranks(self) -> frozenset[str]:
        return frozenset(self.einsum.ranks)


@dataclass(frozen=True)
class Placement:
    """A whole cascade placed. `key_outer`, `key_inner`: the ranks of key tiles and of keys in a tile (m1, m0)."""

    cascade: Cascade
    key_outer: str
    key_inner: str
    einsums: tuple[Placed, ...]

    def on(self, unit: str) -> tuple[Placed, ...]:
        return tuple(placed for placed in self.einsums if placed.unit == unit)

    @cached_property
    def resident(self) -> Mapping[str, frozenset[str]]:
        """Tensor -> the ranks it has for each query, of what stays in the buffer while its query tile is resident."""
        found: dict[str, frozenset[str]] = {}
        for placed in self.einsums:
            for operand in placed.operands:
                if operand.name in placed.buffer_keeps and QUERY_RANK in operand.ranks:
                    found[operand.name.removesuffix("0")] = operand.ranks - {QUERY_RANK, self.key_outer}
        return found

    def resident_words(self, depths: Mapping[str, int], rows: int) -> int:
        """Words in the buffer for each resident query, beside key tiles of so many rows; `depths`: of e and f."""
        extents = {**depths, self.key_inner: rows}
        return sum(prod(extents.get(rank, 1) for rank in ranks) for ranks in self.resident.values())

    @cached_property
    def results(self) -> tuple[frozenset[str], ...]:
        """The ranks that each output has for each query: what its store moves."""
        operands = (operand for placed in self.einsums for operand in placed.operands if operand.is_output)
        return tuple(operand.ranks & _DEPTHS for operand in operands
                     if operand.name in self.cascade.outputs and QUERY_RANK in operand.ranks)  # fmt: skip


@cache
def place(cascade: Cascade, spec: SpatialArray) -> Placement:
    """Raises CascadeSimError if the cascade does not run over key tiles in one pass, or an array lacks an operation.

    A copy moves nothing by itself, but for one that is an output: the running value that it names goes to DRAM.
    """
    outer, inner = _key_partition(cascade)
    work = tuple(einsum for einsum in cascade.einsums if einsum.inputs and _is_done(einsum, cascade))
    units = {einsum.name: _unit(einsum, inner, spec) for einsum in work}
    structure = _Structure(cascade, work, units, outer, inner)
    for einsum in cascade.einsums:
        if einsum in work or repeated_ranks(einsum):
            structure.check(einsum)
    return Placement(cascade, outer, inner, tuple(structure.placed(einsum, spec) for einsum in work))


def _is_done(einsum: Einsum, cascade: Cascade) -> bool:
    return not is_copy(einsum) or einsum.name in cascade.outputs


def _key_partition(cascade: Cascade) -> tuple[str, str]:
    """The iterative rank over key tiles and the rank of keys in a tile: of `K[m1*M0+m0]`, m1 and m0."""
    found = pass_class(cascade)
    for index in (index for einsum in cascade.einsums for access in einsum.inputs for index in access.indices):
        outer = [rank for rank in index.ranks if rank in cascade.iterative_ranks]
        inner = [rank for rank in index.ranks if rank not in cascade.iterative_ranks]
        if found == "1-pass" and len(outer) == len(inner) == 1:
            return outer[0], inner[0]
    raise OtherFormError(
        "fusemax runs attention cascades that make 1 pass over the keys with running values, such as attention-1pass; "
        f"{cascade.name} is {found} (unfused and flat run 3-pass cascades)"
    )


def _unit(einsum: Einsum, key_inner: str, spec: SpatialArray) -> str:
    operations = point_operations(einsum)
    if key_inner in einsum.ranks and _lacking(operations, spec.pe_array.operations) == ():
        return ARRAY_2D
    lacking = _lacking(operations, spec.vector_array.operations)
    if lacking:
        known = ", ".join(spec.vector_array.operations.cycles)
        raise OtherFormError(f"{einsum.name}: the 1D array has no {', '.join(lacking)}; it has {known}")
    return ARRAY_1D


def _lacking(operations: Mapping[str, int], can: Operations) -> tuple[str, ...]:
    return tuple(name for name in operations if name not in can.cycles)


@dataclass(frozen=True)
class _Structure:
    """The questions whose answers say what is kept where."""

    cascade: Cascade
    work: tuple[Einsum, ...]
    units: Mapping[str, str]
    outer: str
    inner: str

    def placed(self, einsum: Einsum, spec: SpatialArray) -> Placed:
        unit = self.units[einsum.name]
        operations = point_operations(einsum)
        can = spec.pe_array.operations if unit == ARRAY_2D else spec.vector_array.operations
        uses = tuple(self._uses(einsum))
        return Placed(
            einsum, unit, tuple(operand for _, operand in uses), operations,
            can.cycles_of(operations, differences_of_exponentials(einsum.expression)),
            dram_keeps=frozenset(operand.name for access, operand in uses if self._passes_by_dram(einsum, access)),
            buffer_keeps=frozenset(operand.name for access, operand in uses if self._in_buffer(einsum, access)),
            registers_1d_keeps=frozenset(
                operand.name for access, operand in uses if unit == ARRAY_2D and self._in_registers_1d(einsum, access)
            ),
        )  # fmt: skip

    def _uses(self, einsum: Einsum) -> Iterator[tuple[Access, Operand]]:
        for access in einsum.inputs:
            name = f"{access.tensor}0" if self._is_previous(access) else access.tensor
            yield access, Operand(name, frozenset(access.ranks))
        yield einsum.output, Operand(einsum.name, frozenset(einsum.output.ranks), is_output=True)

    def check(self, einsum: Einsum) -> None:
        """Whether the loop nest of one walk over the keys can have this Einsum. Raises CascadeSimError if not."""
        known = _INSTANCE_RANKS | _DEPTHS | {QUERY_RANK, self.outer, self.inner}
        strange = sorted(set(einsum.ranks) - known)
        finished = sorted({access.tensor for access in einsum.inputs if self._is_final(access)})
        if strange:
            reason = f"it walks {', '.join(strange)}; the loop nest has {', '.join(sorted(known))}"
        elif finished and self.outer in einsum.ranks:
            reason = f"it needs {', '.join(finished)} of all keys for each key tile, which is a second walk over them"
        elif repeated_ranks(einsum):
            reason = f"it repeats what it reads along {', '.join(repeated_ranks(einsum))}, which the loop nest does not"
        elif is_copy(einsum) and einsum.inputs[0].tensor not in self.states:
            reason = f"it is {einsum.inputs[0].tensor} by another name; leave that out"
        else:
            return
        raise OtherFormError(f"fusemax does not run {self.cascade.name}: {einsum.name}: {reason}")

    @cached_property
    def states(self) -> frozenset[str]:
        """Running values: tensors that iterate over key tiles."""
        return frozenset(einsum.name for einsum in self.work if self.outer in einsum.iterates)

    @cached_property
    def external(self) -> frozenset[str]:
        """Inputs, copies of inputs, and outputs of the cascade."""
        copies = {einsum.name for einsum in self.cascade.einsums if is_copy(einsum)}  # of results: outputs, as checked
        return frozenset({*self.cascade.inputs, *self.cascade.outputs, *copies})

    def _is_external(self, tensor: str) -> bool:
        return tensor in self.external

    def _passes_by_dram(self, einsum: Einsum, access: Access) -> bool:
        """An output, or an input for its first reader in a tile: others find it in the buffer."""
        readers = (reader.name for reader in self.work for read in reader.inputs if read.tensor == access.tensor)
        first = access == einsum.output or next(readers, None) == einsum.name
        return self._is_external(access.tensor) and first

    def _is_previous(self, access: Access) -> bool:
        """`RM[m1]` where the cascade writes `RM[m1+1]`: the value that the key tile before left."""
        return access.tensor in self.states and (self.outer, 0) in (index.step for index in access.indices)

    def _is_final(self, access: Access) -> bool:
        return access.tensor in self.states and self.outer not in access.ranks

    def _readers(self, access: Access) -> list[str]:
        return [einsum.name for einsum in self.work if access in einsum.inputs]

    def _in_buffer(self, einsum: Einsum, access: Access) -> bool:
        """Inputs; state where it is first read, last written, or finished; whole tiles on their way between arrays.

        What has just been produced reaches its first reader without the buffer.
        """
        output = access == einsum.output
        if self._is_external(access.tensor):
            return not output
        if access.tensor in self.states:
            first = self._is_previous(access) and self._readers(access)[0] == einsum.name
            return output or first or self._is_final(access)
        whole_tile = self.inner in access.ranks and self._crosses(access.tensor)
        return whole_tile and (output or self._readers(access).index(einsum.name) > 0)

    def _in_registers_1d(self, einsum: Einsum, access: Access) -> bool:
        computed = not self._is_external(access.tensor)
        return computed and self._crosses(access.tensor) and (access == einsum.output or self.inner not in access.ranks)

    def _crosses(self, tensor: str) -> bool:
        """Whether it is produced on one array and read on the other."""
        readers = {self.units[einsum.name] for einsum in self.work for read in einsum.inputs if read.tensor == tensor}
        return bool(readers - {self.units[tensor]})
