"""Words that QK, AV and the softmax move, tensor by tensor: tables over stationarity, location and block size.

Each entry is a row of eight counts (`words_of`). The counts come from `nests`; choosing and adding up is `fused`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.access_counts import Accesses, Operand
from cascadesim.accelerators.flat.dataflow import AV_LOOPS, QK_LOOPS, LoopOrder
from cascadesim.accelerators.flat.nests import Case, Moved, alike, contraction, count, elided, moved, row_by_row
from cascadesim.accelerators.flat.roles import Roles, reads_of_scores
from cascadesim.accelerators.flat.spec import TENSORS, Stationarity
from cascadesim.einsum_cascades.notation.ir import Einsum

Floats = NDArray[np.float64]
Row = tuple[float, ...]
STATIONARITIES: tuple[Stationarity, ...] = ("output", "weight", "input")
QK_TENSORS, AV_TENSORS = TENSORS[:3], TENSORS[3:]
# Columns of a row of words: DRAM in and out, what spilling would read and write, buffer and registers in and out.
DRAM_READ, DRAM_WRITE, SPILL_READ, SPILL_WRITE = range(4)
_COLUMNS = 8


def contraction_table(case: Case, roles: Roles, einsum: Einsum, sizes: Sequence[int]) -> Floats:
    """Words by block size, stationarity, tensor, location and column."""
    scores = einsum is roles.scores
    orders, tensors = (QK_LOOPS, QK_TENSORS) if scores else (AV_LOOPS, AV_TENSORS)
    runs = alike(case, sizes)
    if len(runs) > 1:
        return np.concatenate([contraction_table(case, roles, einsum, run) for run in runs])
    rows = [_both_locations(case, roles, einsum, tensors, orders[name], sizes) for name in STATIONARITIES]
    table = np.zeros((len(sizes), len(STATIONARITIES), len(tensors), 2, _COLUMNS))
    for stationarity, by_tensor in enumerate(rows):
        for tensor, by_location in enumerate(by_tensor):
            for location, words in enumerate(by_location):
                for column, amount in enumerate(words):
                    table[:, stationarity, tensor, location, column] = amount
    if not case.exact:
        table[:, :, tensors.index("QK" if scores else "A"), :, : SPILL_WRITE + 1] *= case.attended_share
    return table


def _both_locations(
    case: Case, roles: Roles, einsum: Einsum, tensors: Sequence[str], order: LoopOrder, sizes: Sequence[int]
) -> list[tuple[Row, Row]]:
    """Words by tensor and location: each tensor counted off and on chip in one nest (counts are independent)."""
    buffered = {tensor for tensor in tensors if _accumulates(case, roles, einsum, order, tensor)}
    kept = {_on_chip(name) for name in tensors} | {_off_chip(name) for name in buffered}
    in_dram = {_off_chip(name) for name in tensors} | {_on_chip(name) for name in tensors if name not in ("QK", "A")}
    nest = contraction(case, order, sizes, kept, in_dram)
    counts = count(case, list(_operands(roles, einsum, tensors)), nest)
    return [
        (
            words_of(counts[_off_chip(tensor)], case.exact, passes_by=not case.exact and tensor not in buffered),
            words_of(counts[_on_chip(tensor)], case.exact),
        )
        for tensor in tensors
    ]


def _operands(roles: Roles, einsum: Einsum, tensors: Sequence[str]) -> Iterator[Operand]:
    accesses = {access.tensor: access for access in (*einsum.inputs, einsum.output)}
    for tensor in tensors:
        access = accesses[roles.tensor(tensor)]
        for name in (_off_chip(tensor), _on_chip(tensor)):
            yield Operand(name, frozenset(access.ranks) | {"b"}, is_output=access == einsum.output)


def _off_chip(tensor: str) -> str:
    return f"{tensor} off chip"


def _on_chip(tensor: str) -> str:
    return f"{tensor} on chip"


def accumulates_by_stationarity(case: Case, roles: Roles, einsum: Einsum, tensor: str) -> NDArray[np.bool_]:
    orders = QK_LOOPS if einsum is roles.scores else AV_LOOPS
    return np.array([_accumulates(case, roles, einsum, orders[name], tensor) for name in STATIONARITIES])


def _accumulates(case: Case, roles: Roles, einsum: Einsum, order: LoopOrder, tensor: str) -> bool:
    """Whether partial sums of an output wait in the buffer, so that only finished ones leave the chip.

    The artifact sends them off chip and back; FLAT's own figures do not (its edge rows show it).
    """
    if case.exact or roles.tensor(tensor) != einsum.name:
        return False
    summed = einsum.reduced_ranks[0]
    side = case.rows_used if summed == order.rows else case.columns_used
    return summed != order.temporal and case.extent(summed) > side


def contraction_cycles(case: Case, roles: Roles, einsum: Einsum, sizes: Sequence[int]) -> Floats:
    """Cycles by block size and stationarity."""
    orders = QK_LOOPS if einsum is roles.scores else AV_LOOPS
    table = np.zeros((len(sizes), len(STATIONARITIES)))
    for index, name in enumerate(STATIONARITIES):
        counted = 0
        for run in alike(case, sizes):
            nest = contraction(case, orders[name], run, (), ())
            table[counted : counted + len(run), index] = nest.points(nest.temporal)
            counted += len(run)
    return table


def contraction_least(case: Case, roles: Roles) -> float:
    """Cycles of the 2D array with the best stationarities."""
    return sum(float(contraction_cycles(case, roles, einsum, (1,)).min()) for einsum in (roles.scores, roles.output))


def words_of(accesses: Moved, exact: bool, passes_by: bool = False) -> Row:
    """A row of the tables; the artifact drops some reads (`elided`).

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
    """`share` of the buffer's accesses go to DRAM instead, and the tensor's own DRAM accesses shrink by it."""
    inside = 1 - share
    return np.stack(
        [
            words[:, DRAM_READ] * inside + words[:, SPILL_READ] * share,
            words[:, DRAM_WRITE] * inside + words[:, SPILL_WRITE] * share,
            *words[:, SPILL_WRITE + 1 :].T,
        ],
        axis=1,
    )  # fmt: skip


def vector_cycles(case: Case, roles: Roles) -> int:
    """Everything on the 1D array."""
    return sum(einsum_cycles(case, einsum) for einsum in roles.on_1d)


def einsum_cycles(case: Case, einsum: Einsum) -> int:
    """One Einsum on the 1D array: what an operation costs, once per vector."""
    nest = row_by_row(case, einsum, (), ())
    return nest.points(nest.temporal) * case.point_cycles(einsum)


@lru_cache(maxsize=64)
def softmax_table(case: Case, roles: Roles) -> Floats:
    """Words by (staying, spilling), location of the scores, location of the weights; the epilogue's with them."""
    table = np.zeros((2, 2, 2, _COLUMNS))
    for qk in (False, True):
        for a in (False, True):
            for einsum, before in zip(roles.softmax, (None, *roles.softmax), strict=False):
                for spills, words in _softmax_words(case, roles, einsum, before, (qk, a)):
                    table[int(spills), int(qk), int(a)] += words
    for einsum in roles.epilogue:
        table[0] += _epilogue_words(case, einsum)
    return table


def _epilogue_words(case: Case, einsum: Einsum) -> Floats:
    """Rows of the output pass the 1D array on their way to DRAM (counted with AV); their statistics are kept."""
    statistics = {access.tensor for access in einsum.inputs if "f" not in access.ranks}
    accesses = moved(case, einsum, row_by_row(case, einsum, statistics, ()))
    words: Floats = np.sum([words_of(moves, case.exact) for moves in accesses.values()], axis=0)
    return words


def _softmax_words(
    case: Case, roles: Roles, einsum: Einsum, before: Einsum | None, kept: tuple[bool, bool]
) -> Iterator[tuple[bool, Row]]:
    """Whether a tensor of the Einsum spills, and its words. `kept`: whether the scores, the weights stay on chip."""
    weights = roles.tensor("A")
    home = reads_of_scores(einsum, before) - (set() if kept[1] else {weights})
    nest = row_by_row(case, einsum, home, _softmax_in_dram(roles, einsum, kept))
    for name, accesses in moved(case, einsum, nest).items():
        ranks = next(access.ranks for access in (*einsum.inputs, einsum.output) if access.tensor == name)
        passes_by = name == weights and not kept[1] and not case.exact
        yield "m" in ranks and name in home, words_of(accesses, case.exact, passes_by)


def _softmax_in_dram(roles: Roles, einsum: Einsum, kept: tuple[bool, bool]) -> frozenset[str]:
    """Scores enter through DRAM once (in the first Einsum that reads them), weights leave once, where not kept."""
    enters = {roles.tensor("QK")} if not kept[0] and einsum is roles.softmax[0] else set()
    leaves = {roles.tensor("A")} if not kept[1] and einsum.name == roles.tensor("A") else set()
    return frozenset(enters | leaves)
