"""Element-wise work on rows, free of its notation: what each Einsum asks per point and what the whole moves.

Ranks: r rows of d elements. Knows no hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.notation.ir import Access, Cascade


@dataclass(frozen=True, slots=True)
class RowEinsum:
    """One Einsum: at every element of a row, or once per row."""

    name: str
    spans_row: bool
    reduces_row: bool
    operations: Mapping[str, int]  # per point
    cycles_per_point: int
    row_operands: int  # tensors along d that it reads and writes
    row_reads: int  # of them, those that it reads


@dataclass(frozen=True, slots=True)
class RowWork:
    """All Einsums on `rows` rows of `width` elements. Tensors are counted by the ranks they have."""

    einsums: tuple[RowEinsum, ...]
    rows: int
    width: int
    passes: int  # over a row
    row_tensors: int  # with both ranks, inputs and results, that the buffer may hold at once
    row_inputs: int
    row_outputs: int
    scalar_inputs: int  # one word per row
    scalar_outputs: int
    shared_inputs: int  # the same for every row: scales and offsets
    shared_outputs: int = 0

    @classmethod
    def of(cls, cascade: Cascade, einsums: tuple[RowEinsum, ...], rows: int, width: int) -> RowWork:
        inputs = _by_ranks(cascade, cascade.inputs)
        outputs = _by_ranks(cascade, cascade.outputs)
        everything = _by_ranks(cascade, (*cascade.inputs, *cascade.produced))
        walked = passes(cascade, "d") if "d" in cascade.ranks else 1
        return cls(
            einsums, rows, width, walked, everything["rd"], inputs["rd"], outputs["rd"], inputs["r"], outputs["r"],
            inputs["d"], outputs["d"],
        )  # fmt: skip

    def points(self, einsum: RowEinsum) -> int:
        return self.rows * (self.width if einsum.spans_row else 1)

    @property
    def loaded_words(self) -> int:
        """Every input once."""
        return self.rows * (self.row_inputs * self.width + self.scalar_inputs) + self.shared_inputs * self.width

    @property
    def stored_words(self) -> int:
        return self.rows * (self.row_outputs * self.width + self.scalar_outputs) + self.shared_outputs * self.width


def _by_ranks(cascade: Cascade, tensors: Iterable[str]) -> dict[str, int]:
    """How many tensors have both ranks, rows only, elements only."""
    ranks = {access.tensor: set(access.ranks) for access in _accesses(cascade)}
    wanted = [ranks[tensor] for tensor in tensors]
    return {"rd": wanted.count({"r", "d"}), "r": wanted.count({"r"}), "d": wanted.count({"d"})}


def _accesses(cascade: Cascade) -> Iterable[Access]:
    for einsum in cascade.einsums:
        yield einsum.output
        yield from einsum.inputs
