"""What the fused schedule costs: traffic, cycles, buffer and energy of many dataflows at once.

One row per dataflow in every array. The words behind them come from `words`; nothing here chooses. FLAT (ASPLOS'23);
composition of traffic and latency as the FuseMax artifact has it (spec 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.flat.capacity import kept_words, staged_words
from cascadesim.accelerators.flat.dataflow import Dataflow
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.roles import Roles
from cascadesim.accelerators.flat.spec import TENSORS, FlatArray
from cascadesim.accelerators.flat.words import (
    AV_TENSORS,
    DRAM_READ,
    DRAM_WRITE,
    QK_TENSORS,
    STATIONARITIES,
    Floats,
    accumulates_by_stationarity,
    contraction_cycles,
    contraction_table,
    softmax_table,
    spilled,
    vector_cycles,
)
from cascadesim.einsum_cascades.notation.ir import Einsum

Bits = NDArray[np.bool_]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choices:
    """Dataflows: index of the block size, locations (rows x TENSORS), indices into STATIONARITIES."""

    size: Index
    on_chip: Bits
    qk: Index
    av: Index

    @classmethod
    def of(cls, dataflow: Dataflow) -> Choices:
        """One dataflow, of the only block size."""
        return cls(
            np.array([0]),
            np.array([[tensor in dataflow.on_chip for tensor in TENSORS]]),
            np.array([STATIONARITIES.index(dataflow.qk_stationarity)]),
            np.array([STATIONARITIES.index(dataflow.av_stationarity)]),
        )

    def stationarity(self, tensor: str) -> Index:
        return self.qk if tensor in QK_TENSORS else self.av

    def kept(self, tensor: str) -> Bits:
        kept: Bits = self.on_chip[:, TENSORS.index(tensor)]
        return kept


@dataclass(frozen=True, slots=True)
class Words:
    """Words of one stretch (QK, softmax with epilogue, or AV), a row per dataflow."""

    dram_read: Floats
    dram_write: Floats
    buffer_read: Floats
    buffer_write: Floats
    register_read: Floats
    register_write: Floats

    def of(self, rows: slice) -> Words:
        return Words(*(getattr(self, field.name)[rows] for field in fields(self)))

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
    qk_cycles: Floats
    av_cycles: Floats
    vector_cycles: int

    def of(self, row: int) -> Costs:
        """Those of one dataflow."""
        one = slice(row, row + 1)
        return Costs(
            self.footprint_words[one], self.spilled[one], self.qk.of(one), self.softmax.of(one), self.av.of(one),
            self.qk_cycles[one], self.av_cycles[one], self.vector_cycles,
        )  # fmt: skip

    @property
    def dram_words(self) -> Floats:
        return self.qk.dram + self.softmax.dram + self.av.dram

    def bound_cycles(self, spec: FlatArray) -> Floats:
        """Neither array, nor the DRAM channel, nor the ports of the buffer can do it in less."""
        return np.maximum(self.unported_cycles(spec), self.port_cycles(spec))

    @property
    def array_cycles(self) -> Floats:
        """The arrays work at the same time."""
        longest: Floats = np.maximum(self.qk_cycles + self.av_cycles, self.vector_cycles)
        return longest

    def unported_cycles(self, spec: FlatArray) -> Floats:
        """The published latency: ports of the buffer are no limit there."""
        return np.maximum(self.memory_cycles(spec), self.array_cycles)

    def memory_cycles(self, spec: FlatArray) -> Floats:
        return self.dram_words * spec.word_bytes / spec.dram_bytes_per_cycle

    def port_cycles(self, spec: FlatArray) -> Floats:
        words = [part.buffer_read + part.buffer_write for part in (self.qk, self.softmax, self.av)]
        cycles: Floats = np.sum(words, axis=0) / spec.port_words_per_cycle
        return cycles

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
class Blockings:
    """One case cut into blocks of `sizes` query tiles: costs of any dataflow with one of these sizes."""

    case: Case
    roles: Roles
    sizes: tuple[int, ...]

    def rows(self, size: int) -> int:
        return self.case.rows(self.sizes[size])

    def costs(self, choices: Choices, share: Floats | None = None) -> Costs:
        """`share`: the published share that spills instead of the one that the capacity implies."""
        footprint = self.footprint_words(choices)
        if share is None:
            share = 1 - np.minimum(1.0, self.case.spec.buffer_words / footprint)
        scores, output = self.roles.scores, self.roles.output
        return Costs(
            footprint, share,
            self._contraction(scores, QK_TENSORS, choices, share),
            self._softmax(choices, np.where(choices.kept("QK"), share, self._row_share(footprint))),
            self._contraction(output, AV_TENSORS, choices, share),
            contraction_cycles(self.case, self.roles, scores, self.sizes)[choices.size, choices.qk],
            contraction_cycles(self.case, self.roles, output, self.sizes)[choices.size, choices.av],
            vector_cycles(self.case, self.roles),
        )  # fmt: skip

    def _row_share(self, footprint: Floats) -> Floats:
        """Where scores are not kept, one row of them is, between the passes: what does not fit beside the rest."""
        left = (self.case.spec.buffer_words - footprint) / self.case.shape.keys
        share: Floats = 1 - np.clip(left, 0.0, 1.0)
        return share

    def _contraction(self, einsum: Einsum, tensors: tuple[str, ...], choices: Choices, share: Floats) -> Words:
        return Words(*np.sum(list(self._by_tensor(einsum, tensors, choices, share)), axis=0).T)

    def _by_tensor(
        self, einsum: Einsum, tensors: tuple[str, ...], choices: Choices, share: Floats
    ) -> Iterator[Floats]:
        """Words of each tensor, a row per dataflow. What is in the buffer spills, waiting partial sums included."""
        table = contraction_table(self.case, self.roles, einsum, self.sizes)
        for position, tensor in enumerate(tensors):
            kept, stationarity = choices.kept(tensor), choices.stationarity(tensor)
            words = table[choices.size, stationarity, position, kept.astype(int)]
            waits = accumulates_by_stationarity(self.case, self.roles, einsum, tensor)[stationarity]
            yield spilled(words, share * (kept | waits))

    def _softmax(self, choices: Choices, share: Floats) -> Words:
        """Scores spill in proportion where they are kept; where they are not, they pass through DRAM whole."""
        table = softmax_table(self.case, self.roles)
        qk, a = choices.kept("QK").astype(int), choices.kept("A").astype(int)
        staying, spilling = table[0, qk, a], table[1, qk, a]
        return Words(*(spilled(spilling, share) + spilled(staying, np.zeros_like(share))).T)

    def dram_words(self, choices: Choices, costs: Costs) -> dict[str, tuple[float, float]]:
        """Tensor -> words read and written by the contractions, of the first of `choices`."""
        found = {}
        for einsum, tensors in ((self.roles.scores, QK_TENSORS), (self.roles.output, AV_TENSORS)):
            by_tensor = self._by_tensor(einsum, tensors, choices, costs.spilled)
            for tensor, words in zip(tensors, by_tensor, strict=True):
                found[tensor] = (float(words[0, DRAM_READ]), float(words[0, DRAM_WRITE]))
        return found

    def footprint_words(self, choices: Choices) -> Floats:
        """What a dataflow asks of the buffer: the block of scores (weights take its place), what stays, what passes."""
        total = np.where(choices.kept("QK") | choices.kept("A"), self._kept("QK")[choices.size], 0.0)
        for tensor in TENSORS:
            kept = 0.0 if tensor in ("QK", "A") else self._kept(tensor)[choices.size]
            total = total + np.where(choices.kept(tensor), kept, self._staged(tensor, choices))
        return total

    def least_words(self, choices: Choices) -> Floats:
        """What it cannot do without, however much spills: tiles on their way, or less where all of it is less."""
        total = np.zeros(len(choices.qk))
        for tensor in TENSORS:
            staged = self._staged(tensor, choices)
            least = np.minimum(staged, self._kept(tensor)[choices.size])
            total = total + np.where(choices.kept(tensor), least, staged)
        return total

    def _kept(self, tensor: str) -> Floats:
        """Words of a tensor that stays, by block size; of the largest block where blocks differ."""
        if tensor in ("QK", "A"):
            blocks = [self.case.blocks(size, self.case.columns_used) for size in self.sizes]
            return np.array([float(block.largest_points) for block in blocks])
        return np.array([float(kept_words(self.case, tensor, self.rows(i))) for i in range(len(self.sizes))])

    def _staged(self, tensor: str, choices: Choices) -> Floats:
        """Words of a tensor on its way, a row per dataflow."""
        words = np.array([
            [float(staged_words(self.case, tensor, name, self.rows(i))) for name in STATIONARITIES]
            for i in range(len(self.sizes))
        ])  # fmt: skip
        found: Floats = words[choices.size, choices.stationarity(tensor)]
        return found
