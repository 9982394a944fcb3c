"""Words that QK, AV and the softmax move, tensor by tensor: tables over stationarity, location and block size.

Each entry is a row of eight counts (`words_of`). The counts come from `nests`; choosing and adding up is `fused`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.access_counts import Accesses, Operand
from cascadesim.accelerators.binding import AttentionBinding
from cascadesim.accelerators.flat.geometry import FlatCase
from cascadesim.accelerators.flat.nests import Moved, alike, contraction, count, elided, moved, row_by_row
from cascadesim.accelerators.flat.spec import AV_LOOPS, QK_LOOPS, STATIONARITIES, TENSORS, LoopOrder
from cascadesim.einsum_cascades.notation.ir import Einsum

Floats = NDArray[np.float64]
Row = tuple[float, ...]
QK_TENSORS, AV_TENSORS = TENSORS[:3], TENSORS[3:]
# Columns of a row of words: DRAM in and out, what spilling would read and write, buffer and registers in and out.
DRAM_READ, DRAM_WRITE, SPILL_READ, SPILL_WRITE = range(4)
_COLUMNS = 8


def contraction_table(case: FlatCase, binding: AttentionBinding, einsum: Einsum, sizes: Sequence[int]) -> Floats:
    """Count words moved, (block sizes, stationarities, tensors, locations off and on chip, columns) float64."""
    scores = einsum is binding.scores
    orders, tensors = (QK_LOOPS, QK_TENSORS) if scores else (AV_LOOPS, AV_TENSORS)
    runs = alike(case, sizes)
    if len(runs) > 1:
        return np.concatenate([contraction_table(case, binding, einsum, run) for run in runs])
    table = np.zeros((len(sizes), len(STATIONARITIES), len(tensors), 2, _COLUMNS))
    for stationarity, name in enumerate(STATIONARITIES):
        for tensor, locations in enumerate(_both_locations(case, binding, einsum, tensors, orders[name], sizes)):
            for location, words in enumerate(locations):
                for column, amount in enumerate(words):
                    table[:, stationarity, tensor, location, column] = amount
    if not case.exact:
        table[:, :, tensors.index("QK" if scores else "A"), :, : SPILL_WRITE + 1] *= case.attended_share
    return table


def _both_locations(
    case: FlatCase, binding: AttentionBinding, einsum: Einsum, tensors: Sequence[str], order: LoopOrder,
    sizes: Sequence[int],
) -> Iterator[tuple[Row, Row]]:  # fmt: skip
    """Count each tensor off and on chip in one nest (counts are independent)."""
    buffered = {tensor for tensor in tensors if accumulates(case, binding, einsum, order, tensor)}
    kept = {f"{name} on chip" for name in tensors} | {f"{name} off chip" for name in buffered}
    in_dram = {f"{name} off chip" for name in tensors}
    in_dram |= {f"{name} on chip" for name in tensors if name not in ("QK", "A")}
    accesses = {access.tensor: access for access in (*einsum.inputs, einsum.output)}
    operands = [
        Operand(f"{tensor} {place} chip", frozenset(access.ranks) | {"b"}, is_output=access == einsum.output)
        for tensor in tensors
        for access in (accesses[binding.tensor(tensor)],)
        for place in ("off", "on")
    ]
    counts = count(case, operands, contraction(case, order, sizes, kept, in_dram))
    for tensor in tensors:
        passes_by = not case.exact and tensor not in buffered
        yield words_of(counts[f"{tensor} off chip"], case.exact, passes_by), words_of(
            counts[f"{tensor} on chip"], case.exact
        )


def accumulates(case: FlatCase, binding: AttentionBinding, einsum: Einsum, order: LoopOrder, tensor: str) -> bool:
    """Tell whether partial sums of an output wait in the buffer, so that only finished ones leave the chip.

    The artifact sends them off chip and back; FLAT's own figures do not (its edge rows show it).
    """
    if case.exact or binding.tensor(tensor) != einsum.name:
        return False
    summed = einsum.reduced_ranks[0]
    side = case.rows_used if summed == order.rows else case.columns_used
    return summed != order.temporal and case.extent(summed) > side


def contraction_cycles(case: FlatCase, binding: AttentionBinding, einsum: Einsum, sizes: Sequence[int]) -> Floats:
    """Count cycles, (block sizes, stationarities) float64."""
    orders = QK_LOOPS if einsum is binding.scores else AV_LOOPS
    table = np.zeros((len(sizes), len(STATIONARITIES)))
    for index, name in enumerate(STATIONARITIES):
        counted = 0
        for run in alike(case, sizes):
            nest = contraction(case, orders[name], run, (), ())
            table[counted : counted + len(run), index] = nest.points(nest.temporal)
            counted += len(run)
    return table


def words_of(accesses: Moved, exact: bool, passes_by: bool = False) -> Row:
    """Make a row of the tables; the artifact drops some reads (`elided`).

    `passes_by`: the tensor is not kept, but its tiles cross the buffer on their way (FLAT's capacity rule has room
    for them), written and read once; the artifact charges nothing for it.
    """
    dram, buffer, registers = accesses.dram, accesses.buffer, accesses.registers
    if passes_by:
        buffer = Accesses(reads=dram.reads + dram.updates, updates=dram.reads + dram.updates)
    outside, spilling = (elided(dram), elided(buffer)) if exact else (dram, buffer)
    return (
        outside.reads, outside.updates, spilling.reads, spilling.updates,
        buffer.reads, buffer.writes, registers.reads, registers.writes,
    )  # fmt: skip


def spilled(words: Floats, share: Floats) -> Floats:
    """Send `share` of the buffer's accesses to DRAM instead; the tensor's own DRAM accesses shrink by it.

    `words`: (dataflows, columns) float64; the result has two columns fewer, those of spilling.
    """
    inside = 1 - share
    read = words[:, DRAM_READ] * inside + words[:, SPILL_READ] * share
    written = words[:, DRAM_WRITE] * inside + words[:, SPILL_WRITE] * share
    return np.stack([read, written, *words[:, SPILL_WRITE + 1 :].T], axis=1)


def vector_cycles(case: FlatCase, einsum: Einsum) -> int:
    """Count the cycles of one Einsum on the 1D array: what an operation costs, once per vector."""
    nest = row_by_row(case, einsum, (), ())
    return nest.points(nest.temporal) * case.point_cycles(einsum)


@lru_cache(maxsize=64)
def softmax_table(case: FlatCase, binding: AttentionBinding) -> Floats:
    """Count words, (staying and spilling, scores off and on chip, weights off and on chip, columns) float64.

    Those of the epilogue are with them: rows of the output pass the 1D array on their way to DRAM (counted with AV),
    their statistics are kept.
    """
    table = np.zeros((2, 2, 2, _COLUMNS))
    for qk in (False, True):
        for a in (False, True):
            for einsum, before in zip(binding.softmax, (None, *binding.softmax), strict=False):
                for spills, words in _softmax_words(case, binding, einsum, before, (qk, a)):
                    table[int(spills), int(qk), int(a)] += words
    for einsum in binding.epilogue:
        statistics = {access.tensor for access in einsum.inputs if "f" not in access.ranks}
        accesses = moved(case, einsum, row_by_row(case, einsum, statistics, ()))
        table[0] += np.sum([words_of(moves, case.exact) for moves in accesses.values()], axis=0)
    return table


def _softmax_words(
    case: FlatCase, binding: AttentionBinding, einsum: Einsum, before: Einsum | None, kept: tuple[bool, bool]
) -> Iterator[tuple[bool, Row]]:
    """Tell whether each tensor spills, and count its words. `kept`: whether scores and weights stay on chip.

    The buffer holds all operands but a row that the Einsum just `before` hands over as it makes it. Scores enter
    through DRAM once (in the first Einsum that reads them), weights leave once, where they are not kept.
    """
    ranks = {access.tensor: access.ranks for access in (*einsum.inputs, einsum.output)}
    scores, weights, home = binding.tensor("QK"), binding.tensor("A"), set(ranks)
    if before is not None and "m" in before.output.ranks and "m" in einsum.reduced_ranks:
        home.discard(before.name)
    if not kept[1]:
        home.discard(weights)
    in_dram = {scores} if not kept[0] and einsum is binding.softmax[0] else set()
    if not kept[1] and einsum.name == weights:
        in_dram.add(weights)
    for name, accesses in moved(case, einsum, row_by_row(case, einsum, home, in_dram)).items():
        passes_by = name == weights and not kept[1] and not case.exact
        yield "m" in ranks[name] and name in home, words_of(accesses, case.exact, passes_by)
