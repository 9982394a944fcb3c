"""What the fused schedule costs for one block size: traffic, cycles, buffer and energy of many dataflows at once.

One row per dataflow in every array. The counts behind them come from `nests`; nothing here chooses. FLAT (ASPLOS'23);
composition of traffic and latency as the FuseMax artifact has it (spec 5.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.flat.capacity import RANKS, kept_words, staged_words
from cascadesim.accelerators.flat.dataflow import AV_LOOPS, QK_LOOPS, Dataflow, LoopOrder
from cascadesim.accelerators.flat.nests import Case, Moved, contraction, elided, moved, row_by_row
from cascadesim.accelerators.flat.roles import Roles, reads_of_scores
from cascadesim.accelerators.flat.spec import TENSORS, FlatArray, Stationarity
from cascadesim.einsum_cascades.ir import Einsum

Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]
STATIONARITIES: tuple[Stationarity, ...] = ("output", "weight", "input")
_QK, _AV = TENSORS[:3], TENSORS[3:]
# Columns of a row of words: from DRAM in and out, from the buffer in and out, buffer fills, registers in and out.
_DRAM_READ, _DRAM_WRITE, _BUFFER_READ, _BUFFER_UPDATE, _BUFFER_FILL, _REGISTER_READ, _REGISTER_WRITE = range(7)


@dataclass(frozen=True, slots=True)
class Choices:
    """Dataflows of one block size: locations (rows x TENSORS), indices into STATIONARITIES."""

    on_chip: Bits
    qk: NDArray[np.int64]
    av: NDArray[np.int64]

    @classmethod
    def of(cls, dataflows: Sequence[Dataflow]) -> Choices:
        return cls(
            np.array([[tensor in dataflow.on_chip for tensor in TENSORS] for dataflow in dataflows]),
            np.array([STATIONARITIES.index(dataflow.qk_stationarity) for dataflow in dataflows]),
            np.array([STATIONARITIES.index(dataflow.av_stationarity) for dataflow in dataflows]),
        )

    def kept(self, tensor: str) -> Bits:
        kept: Bits = self.on_chip[:, TENSORS.index(tensor)]
        return kept


@dataclass(frozen=True, slots=True)
class Words:
    """Words of one stretch (QK, softmax or AV), a row per dataflow."""

    dram_read: Floats
    dram_write: Floats
    buffer_read: Floats
    buffer_write: Floats
    register_read: Floats
    register_write: Floats

    @property
    def dram(self) -> Floats:
        return self.dram_read + self.dram_write


@dataclass(frozen=True)
class Costs:
    """Everything the choice needs, a row per dataflow; cycles are those of the arrays, without waiting."""

    footprint_words: Floats
    spilled: Floats
    qk: Words
    softmax: Words
    av: Words
    qk_cycles: NDArray[np.int64]
    av_cycles: NDArray[np.int64]
    softmax_cycles: int

    @property
    def dram_words(self) -> Floats:
        return self.qk.dram + self.softmax.dram + self.av.dram

    def bound_cycles(self, spec: FlatArray) -> Floats:
        """Neither array, nor the DRAM channel, nor the ports of the buffer can do it in less."""
        memory = self.dram_words * spec.word_bytes / spec.dram_bytes_per_cycle
        bounds = [memory, self.qk_cycles + self.av_cycles, self.port_cycles(spec)]
        return np.maximum(np.maximum.reduce(bounds), self.softmax_cycles)

    def port_cycles(self, spec: FlatArray) -> Floats:
        return sum((words.buffer_read + words.buffer_write for words in (self.qk, self.softmax, self.av)), 0.0) / (
            spec.global_buffer.row_bytes // spec.word_bytes * spec.global_buffer.ports
        )

    def movement_energy_j(self, spec: FlatArray) -> Floats:
        """Energy of moving words; what the arrays compute is the same in every dataflow."""
        price = _prices(spec)
        total = self.dram_words * price["dram"]
        for words, unit in ((self.qk, "2d"), (self.softmax, "1d"), (self.av, "2d")):
            total = total + words.buffer_read * price["read"] + words.buffer_write * price["write"]
            total = total + words.register_read * price[f"read_{unit}"] + words.register_write * price[f"write_{unit}"]
        return total


def _prices(spec: FlatArray) -> dict[str, float]:
    units = {
        "dram": Actions(dram_words=1),
        "read": Actions(global_buffer_read_words=1), "write": Actions(global_buffer_write_words=1),
        "read_2d": Actions(register_reads_2d=1), "write_2d": Actions(register_writes_2d=1),
        "read_1d": Actions(register_reads_1d=1), "write_1d": Actions(register_writes_1d=1),
    }  # fmt: skip
    return {name: sum(dynamic_energy_j(actions, spec).values()) for name, actions in units.items()}


@dataclass(frozen=True)
class Block:
    """Blocks of `tiles` query tiles of one case: costs of any dataflow with that block size."""

    case: Case
    roles: Roles
    tiles: int

    @property
    def whole_head(self) -> bool:
        return self.tiles >= self.case.query_tiles

    @property
    def rows(self) -> int:
        return self.case.queries if self.whole_head else self.tiles * self.case.tile_rows

    @cached_property
    def score_words(self) -> int:
        """Scores of the largest block."""
        return int(self.case.blocks(self.tiles, self.case.spec.pe_array.columns).points.max())

    def costs(self, choices: Choices, spilled: Floats | None = None) -> Costs:
        """`spilled`: the published share instead of the one that the capacity implies."""
        footprint = self.footprint_words(choices)
        capacity = self.case.spec.buffer_words
        share = 1 - np.minimum(1.0, capacity / footprint) if spilled is None else spilled
        return Costs(
            footprint, share,
            self._contraction(self.roles.scores, _QK, choices, choices.qk, share),
            self._softmax(choices, share),
            self._contraction(self.roles.output, _AV, choices, choices.av, share),
            self._cycles(self.roles.scores)[choices.qk],
            self._cycles(self.roles.output)[choices.av],
            softmax_cycles(self.case, self.roles),
        )  # fmt: skip

    def footprint_words(self, choices: Choices) -> Floats:
        total = np.where(choices.kept("QK") | choices.kept("A"), float(self.score_words), 0.0)
        for tensor in TENSORS:
            stationarity = choices.qk if tensor in _QK else choices.av
            staged = np.array([staged_words(self.case, tensor, name, self.rows) for name in STATIONARITIES])
            kept = 0 if tensor in ("QK", "A") else kept_words(self.case, tensor, self.rows, self.whole_head)
            total = total + np.where(choices.kept(tensor), kept, staged[stationarity])
        return total

    def _contraction(
        self, einsum: Einsum, tensors: Sequence[str], choices: Choices, stationarity: NDArray[np.int64], share: Floats
    ) -> Words:
        table = self._table(einsum, tuple(tensors))
        total = np.zeros((len(share), 6))
        for position, tensor in enumerate(tensors):
            kept = choices.kept(tensor)
            total += _spilled(table[stationarity, position, kept.astype(int)], share * kept)
        return Words(*total.T)

    def _softmax(self, choices: Choices, share: Floats) -> Words:
        """Scores spill in proportion where they are kept; where they are not, they pass through DRAM whole."""
        table = softmax_table(self.case, self.roles)
        qk, a = choices.kept("QK").astype(int), choices.kept("A").astype(int)
        share = share * choices.kept("QK")
        spilling, staying = table[0, qk, a], table[1, qk, a]
        return Words(*(_spilled(spilling, share) + _spilled(staying, np.zeros_like(share))).T)

    def _table(self, einsum: Einsum, tensors: tuple[str, ...]) -> Floats:
        """Words by stationarity, tensor and location."""
        orders = QK_LOOPS if einsum is self.roles.scores else AV_LOOPS
        rows = [
            [[self._row(einsum, tensors, orders[stationarity], tensor, kept) for kept in (False, True)]
             for tensor in tensors]
            for stationarity in STATIONARITIES
        ]  # fmt: skip
        return np.array(rows, dtype=np.float64)

    def _row(
        self, einsum: Einsum, tensors: tuple[str, ...], order: LoopOrder, tensor: str, kept: bool
    ) -> tuple[float, ...]:
        name = self.roles.tensor(tensor)
        at_home = tensor in ("QK", "A")
        buffered = {name} if kept or self._accumulates(einsum, order, tensor) else set()
        off_chip = set() if kept and at_home else {name}
        nest = contraction(self.case, order, self.tiles, buffered, off_chip)
        return words_of(moved(self.case, einsum, nest, {name})[name], self.case.exact)

    def _accumulates(self, einsum: Einsum, order: LoopOrder, tensor: str) -> bool:
        """Whether partial sums of an output wait in the buffer, so that only finished ones leave the chip."""
        if self.case.exact or self.roles.tensor(tensor) != einsum.name:
            return False
        summed = einsum.reduced_ranks[0]
        side = self.case.spec.pe_array.rows if summed == order.rows else self.case.spec.pe_array.columns
        return summed != order.temporal and self.case.extent(summed) > side

    def _cycles(self, einsum: Einsum) -> NDArray[np.int64]:
        orders = QK_LOOPS if einsum is self.roles.scores else AV_LOOPS
        nests = (contraction(self.case, orders[name], self.tiles, (), ()) for name in STATIONARITIES)
        return np.array([nest.points(nest.temporal) for nest in nests], dtype=np.int64)


def words_of(accesses: Moved, exact: bool) -> tuple[float, ...]:
    """A row of the tables; the artifact drops some reads (`elided`)."""
    dram, buffer = (elided(accesses.dram), elided(accesses.buffer)) if exact else (accesses.dram, accesses.buffer)
    return (
        dram.reads, dram.updates, buffer.reads, buffer.updates, accesses.buffer.fills,
        accesses.registers.reads, accesses.registers.writes,
    )  # fmt: skip


def _spilled(words: Floats, share: Floats) -> Floats:
    """`share` of the buffer's accesses go to DRAM instead, and the tensor's own DRAM accesses shrink by it."""
    inside = 1 - share
    return np.stack(
        [
            words[:, _DRAM_READ] * inside + words[:, _BUFFER_READ] * share,
            words[:, _DRAM_WRITE] * inside + words[:, _BUFFER_UPDATE] * share,
            words[:, _BUFFER_READ],
            words[:, _BUFFER_UPDATE] + words[:, _BUFFER_FILL],
            words[:, _REGISTER_READ],
            words[:, _REGISTER_WRITE],
        ],
        axis=1,
    )  # fmt: skip


def softmax_cycles(case: Case, roles: Roles) -> int:
    return sum(einsum_cycles(case, einsum) for einsum in roles.softmax)


def einsum_cycles(case: Case, einsum: Einsum) -> int:
    """One softmax Einsum on the 1D array: what an operation costs, once per vector of scores."""
    nest = row_by_row(case, einsum, (), ())
    return nest.points(nest.temporal) * case.point_cycles(einsum)


@cache
def softmax_table(case: Case, roles: Roles) -> Floats:
    """Words by (spilling, staying), location of the scores, location of the weights."""
    table = np.zeros((2, 2, 2, 7))
    score, weights = roles.tensor("QK"), roles.tensor("A")
    for qk in (False, True):
        for a in (False, True):
            before = None
            for einsum in roles.softmax:
                home = reads_of_scores(einsum, before)
                off_chip = _softmax_in_dram(einsum, score, weights, qk, a, roles)
                kept = home - ({weights} if not a else set())
                for name, accesses in moved(case, einsum, row_by_row(case, einsum, kept, off_chip)).items():
                    ranks = next(x.ranks for x in (*einsum.inputs, einsum.output) if x.tensor == name)
                    spills = "m" in ranks and (name != weights or a) and name in home
                    table[int(not spills), int(qk), int(a)] += words_of(accesses, case.exact)
                before = einsum
    return table


def _softmax_in_dram(einsum: Einsum, score: str, weights: str, qk: bool, a: bool, roles: Roles) -> frozenset[str]:
    """Scores enter through DRAM once (in the first Einsum that reads them), weights leave once, where not kept."""
    enters = {score} if not qk and einsum is roles.softmax[0] else set()
    leaves = {weights} if not a and einsum.name == weights else set()
    return frozenset(enters | leaves)


__all__ = ["RANKS", "STATIONARITIES", "Block", "Choices", "Costs", "Words"]
