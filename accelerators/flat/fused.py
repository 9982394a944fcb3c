"""What the fused schedule costs for one block size: traffic, cycles, buffer and energy of many dataflows at once.

One row per dataflow in every array. The counts behind them come from `nests`; nothing here chooses. FLAT (ASPLOS'23);
composition of traffic and latency as the FuseMax artifact has it (spec 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.counting import Accesses, Operand
from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.flat.capacity import kept_words, staged_words
from cascadesim.accelerators.flat.dataflow import AV_LOOPS, QK_LOOPS, Dataflow, LoopOrder
from cascadesim.accelerators.flat.nests import Case, Moved, contraction, count, elided, moved, row_by_row
from cascadesim.accelerators.flat.roles import Roles, reads_of_scores
from cascadesim.accelerators.flat.spec import TENSORS, FlatArray, Stationarity
from cascadesim.einsum_cascades.ir import Einsum

Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]
STATIONARITIES: tuple[Stationarity, ...] = ("output", "weight", "input")
_QK, _AV = TENSORS[:3], TENSORS[3:]
# Columns of a row of words: DRAM in and out, what spilling would read and write, buffer and registers in and out.
_DRAM_READ, _DRAM_WRITE, _SPILL_READ, _SPILL_WRITE = range(4)
_COLUMNS = 8


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
        return np.maximum(self.unported_cycles(spec), self.port_cycles(spec))

    @property
    def array_cycles(self) -> Floats:
        """The arrays work at the same time."""
        return np.maximum(self.qk_cycles + self.av_cycles, self.softmax_cycles).astype(np.float64)

    def unported_cycles(self, spec: FlatArray) -> Floats:
        """The published latency: ports of the buffer are no limit there."""
        return np.maximum(self.memory_cycles(spec), self.array_cycles)

    def memory_cycles(self, spec: FlatArray) -> Floats:
        return self.dram_words * spec.word_bytes / spec.dram_bytes_per_cycle

    def port_cycles(self, spec: FlatArray) -> Floats:
        words = [part.buffer_read + part.buffer_write for part in (self.qk, self.softmax, self.av)]
        return np.sum(words, axis=0) / spec.port_words_per_cycle

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
            self._softmax(choices, np.where(choices.kept("QK"), share, self._row_share(footprint))),
            self._contraction(self.roles.output, _AV, choices, choices.av, share),
            self._cycles(self.roles.scores)[choices.qk],
            self._cycles(self.roles.output)[choices.av],
            softmax_cycles(self.case, self.roles),
        )  # fmt: skip

    def _row_share(self, footprint: Floats) -> Floats:
        """Where scores are not kept, one row of them is, between the passes: what does not fit beside the rest."""
        left = (self.case.spec.buffer_words - footprint) / self.case.shape.keys
        return 1 - np.clip(left, 0.0, 1.0)

    def dram_words(self, choices: Choices, costs: Costs) -> dict[str, tuple[float, float]]:
        """Tensor -> words read and written by the contractions, of the first of `choices`."""
        found = {}
        for einsum, tensors, stationarity in (
            (self.roles.scores, _QK, choices.qk), (self.roles.output, _AV, choices.av),
        ):  # fmt: skip
            table = self._table(einsum, tensors)[stationarity[0]]
            for position, tensor in enumerate(tensors):
                kept = choices.kept(tensor)
                words = _spilled(table[position, kept.astype(int)], costs.spilled * kept)[0]
                found[tensor] = (float(words[_DRAM_READ]), float(words[_DRAM_WRITE]))
        return found

    def footprint_words(self, choices: Choices) -> Floats:
        total = np.where(choices.kept("QK") | choices.kept("A"), float(self.score_words), 0.0)
        for tensor in ("Q", "K", "V", "AV"):
            total = total + choices.kept(tensor) * kept_words(self.case, tensor, self.rows)
        return total + self.staged_words(choices)

    def staged_words(self, choices: Choices) -> Floats:
        """Room for tensors on their way: what no dataflow can do without."""
        total = np.zeros(len(choices.qk))
        for tensor in TENSORS:
            stationarity = choices.qk if tensor in _QK else choices.av
            words = np.array([staged_words(self.case, tensor, name, self.rows) for name in STATIONARITIES])
            total = total + np.where(choices.kept(tensor), 0, words[stationarity])
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
        staying, spilling = table[0, qk, a], table[1, qk, a]
        return Words(*(_spilled(spilling, share) + _spilled(staying, np.zeros_like(share))).T)

    def _table(self, einsum: Einsum, tensors: tuple[str, ...]) -> Floats:
        """Words by stationarity, tensor and location."""
        orders = QK_LOOPS if einsum is self.roles.scores else AV_LOOPS
        rows = [self._both_locations(einsum, tensors, orders[stationarity]) for stationarity in STATIONARITIES]
        return np.array(rows, dtype=np.float64)

    def _both_locations(
        self, einsum: Einsum, tensors: tuple[str, ...], order: LoopOrder
    ) -> list[list[tuple[float, ...]]]:
        """Words by tensor and location: each tensor counted off and on chip in one nest (counts are independent)."""
        buffered = {tensor for tensor in tensors if self._accumulates(einsum, order, tensor)}
        kept = {on_chip(name) for name in tensors} | {off_chip(name) for name in buffered}
        in_dram = {off_chip(name) for name in tensors} | {on_chip(name) for name in tensors if name not in ("QK", "A")}
        nest = contraction(self.case, order, self.tiles, kept, in_dram)
        accesses = {access.tensor: access for access in (*einsum.inputs, einsum.output)}
        operands = [
            Operand(label(tensor), frozenset(access.ranks) | {"b"}, is_output=access == einsum.output)
            for tensor in tensors
            for access in (accesses[self.roles.tensor(tensor)],)
            for label in (off_chip, on_chip)
        ]
        counts, exact = count(self.case, operands, nest), self.case.exact
        return [
            [words_of(counts[off_chip(tensor)], exact, passes_by=not exact and tensor not in buffered),
             words_of(counts[on_chip(tensor)], exact)]
            for tensor in tensors
        ]  # fmt: skip

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


def off_chip(tensor: str) -> str:
    return f"{tensor} off chip"


def on_chip(tensor: str) -> str:
    return f"{tensor} on chip"


def words_of(accesses: Moved, exact: bool, passes_by: bool = False) -> tuple[float, ...]:
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


def _spilled(words: Floats, share: Floats) -> Floats:
    """`share` of the buffer's accesses go to DRAM instead, and the tensor's own DRAM accesses shrink by it."""
    inside = 1 - share
    return np.stack(
        [
            words[:, _DRAM_READ] * inside + words[:, _SPILL_READ] * share,
            words[:, _DRAM_WRITE] * inside + words[:, _SPILL_WRITE] * share,
            *words[:, _SPILL_WRITE + 1 :].T,
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
    """Words by (staying, spilling), location of the scores, location of the weights."""
    table = np.zeros((2, 2, 2, _COLUMNS))
    for qk in (False, True):
        for a in (False, True):
            for einsum, before in zip(roles.softmax, (None, *roles.softmax), strict=False):
                for spills, words in _softmax_words(case, roles, einsum, before, (qk, a)):
                    table[int(spills), int(qk), int(a)] += words
    return table


def _softmax_words(
    case: Case, roles: Roles, einsum: Einsum, before: Einsum | None, kept: tuple[bool, bool]
) -> Iterator[tuple[bool, tuple[float, ...]]]:
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
