"""What the fused schedule costs: traffic, cycles, buffer and energy of many dataflows at once.

One row per dataflow in every array. The words behind them come from `traffic`; nothing here chooses. FLAT
(ASPLOS'23); composition of traffic and latency as the FuseMax artifact has it (spec 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.binding import AttentionBinding
from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.flat.geometry import FlatCase
from cascadesim.accelerators.flat.spec import AV_LOOPS, QK_LOOPS, STATIONARITIES, TENSORS, Dataflow, FlatArray
from cascadesim.accelerators.flat.traffic import (
    AV_TENSORS,
    DRAM_READ,
    DRAM_WRITE,
    QK_TENSORS,
    Floats,
    accumulates,
    contraction_cycles,
    contraction_table,
    softmax_table,
    spilled,
    vector_cycles,
)
from cascadesim.accelerators.spatial.attention_tiles import Counts
from cascadesim.einsum_cascades.notation.ir import Einsum

Bits: TypeAlias = NDArray[np.bool_]
_RANKS = {"Q": "pe", "K": "me", "QK": "mp", "A": "mp", "V": "mf", "AV": "pf"}
_COPIES = 2  # of what the buffer holds: one at work, one on its way from or to DRAM


@dataclass(frozen=True, slots=True)
class Choices:
    """Many dataflows: index of the block size, locations (dataflows, TENSORS) bool, indices into STATIONARITIES."""

    size: Counts
    on_chip: Bits
    qk: Counts
    av: Counts

    @classmethod
    def of(cls, dataflow: Dataflow) -> Choices:
        """Wrap one dataflow, of the only block size."""
        return cls(
            np.array([0]),
            np.array([[tensor in dataflow.on_chip for tensor in TENSORS]]),
            np.array([STATIONARITIES.index(dataflow.qk_stationarity)]),
            np.array([STATIONARITIES.index(dataflow.av_stationarity)]),
        )

    def take(self, which: Counts) -> Choices:
        """Select some of them by index."""
        return Choices(self.size[which], self.on_chip[which], self.qk[which], self.av[which])

    def stationarity(self, tensor: str) -> Counts:
        return self.qk if tensor in QK_TENSORS else self.av

    def kept(self, tensor: str) -> Bits:
        kept: Bits = self.on_chip[:, TENSORS.index(tensor)]
        return kept


@dataclass(frozen=True, slots=True)
class Words:
    """Words of one stretch (QK, softmax with epilogue, or AV), (dataflows,) float64."""

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
    """Everything the choice needs, (dataflows,) float64; cycles are those of the arrays, without waiting."""

    footprint_words: Floats
    spilled: Floats
    qk: Words
    softmax: Words
    av: Words
    qk_cycles: Floats
    av_cycles: Floats
    vector_cycles: int

    @property
    def dram_words(self) -> Floats:
        return self.qk.dram + self.softmax.dram + self.av.dram

    def unported_cycles(self, spec: FlatArray) -> Floats:
        """The published latency: the arrays work at the same time, ports of the buffer are no limit."""
        memory = self.dram_words * spec.word_bytes / spec.dram_bytes_per_cycle
        return np.maximum(memory, np.maximum(self.qk_cycles + self.av_cycles, self.vector_cycles))

    def bound_cycles(self, spec: FlatArray) -> Floats:
        """Neither array, nor the DRAM channel, nor the ports of the buffer can do it in less."""
        words = [part.buffer_read + part.buffer_write for part in (self.qk, self.softmax, self.av)]
        port_cycles: Floats = np.sum(words, axis=0) / spec.port_words_per_cycle
        return np.maximum(self.unported_cycles(spec), port_cycles)

    def movement_energy_j(self, spec: FlatArray) -> Floats:
        """Price the words that move; what the arrays compute is the same in every dataflow."""

        def price(actions: Actions) -> float:
            return sum(dynamic_energy_j(actions, spec).values())

        total = self.dram_words * price(Actions(dram_words=1))
        read, write = price(Actions(global_buffer_read_words=1)), price(Actions(global_buffer_write_words=1))
        of_2d = price(Actions(register_reads_2d=1)), price(Actions(register_writes_2d=1))
        of_1d = price(Actions(register_reads_1d=1)), price(Actions(register_writes_1d=1))
        for words, (register_read, register_write) in ((self.qk, of_2d), (self.softmax, of_1d), (self.av, of_2d)):
            total = total + words.buffer_read * read + words.buffer_write * write
            total = total + words.register_read * register_read + words.register_write * register_write
        return total


@dataclass(frozen=True)
class Blockings:
    """One case is cut into blocks of `sizes` query tiles; knows the costs of any dataflow with one of these sizes.

    `room`: whose tiles take room in the buffer, where they are not those that move (a bound over many sizes).
    """

    case: FlatCase
    binding: AttentionBinding
    sizes: tuple[int, ...]
    room: FlatCase | None = None

    def costs(self, choices: Choices, share: Floats | None = None) -> Costs:
        """Add up the costs; `share` is the published share that spills instead of the one that the capacity implies."""
        case, binding, capacity = self.case, self.binding, self.case.spec.buffer_words
        footprint = self.footprint_words(choices)
        if share is None:
            share = 1 - np.minimum(1.0, capacity / footprint)
        # where scores are not kept, one row of them is, between the passes: what does not fit beside the footprint
        row_share = 1 - np.clip((capacity - footprint) / case.shape.keys, 0.0, 1.0)
        qk, av = (
            Words(*np.sum(list(self._by_tensor(einsum, tensors, choices, share)), axis=0).T)
            for einsum, tensors in ((binding.scores, QK_TENSORS), (binding.output, AV_TENSORS))
        )
        # scores spill in proportion where they are kept; where they are not, they pass through DRAM whole
        places = choices.kept("QK").astype(int), choices.kept("A").astype(int)
        staying, spilling = (table[places] for table in softmax_table(case.whole, binding))
        spilling = spilled(spilling, np.where(choices.kept("QK"), share, row_share))
        softmax = Words(*(spilling + spilled(staying, np.zeros_like(share))).T)
        return Costs(
            footprint, share, qk, softmax, av,
            contraction_cycles(case, binding, binding.scores, self.sizes)[choices.size, choices.qk],
            contraction_cycles(case, binding, binding.output, self.sizes)[choices.size, choices.av],
            sum(vector_cycles(case.whole, einsum) for einsum in binding.on_1d),
        )  # fmt: skip

    def _by_tensor(
        self, einsum: Einsum, tensors: tuple[str, ...], choices: Choices, share: Floats
    ) -> Iterator[Floats]:
        """Yield the words of each tensor, (dataflows, columns). All that is in the buffer spills, partial sums too."""
        case, binding = self.case, self.binding
        orders = QK_LOOPS if einsum is binding.scores else AV_LOOPS
        table = contraction_table(case, binding, einsum, self.sizes)
        for position, tensor in enumerate(tensors):
            kept, stationarity = choices.kept(tensor), choices.stationarity(tensor)
            words = table[choices.size, stationarity, position, kept.astype(int)]
            waits = np.array([accumulates(case, binding, einsum, orders[name], tensor) for name in STATIONARITIES])
            yield spilled(words, share * (kept | waits[stationarity]))

    def dram_words(self, choices: Choices, costs: Costs) -> dict[str, tuple[float, float]]:
        """Split the words that contractions read and write by tensor, for the first of `choices`."""
        found = {}
        for einsum, tensors in ((self.binding.scores, QK_TENSORS), (self.binding.output, AV_TENSORS)):
            by_tensor = self._by_tensor(einsum, tensors, choices, costs.spilled)
            for tensor, words in zip(tensors, by_tensor, strict=True):
                found[tensor] = (float(words[0, DRAM_READ]), float(words[0, DRAM_WRITE]))
        return found

    def footprint_words(self, choices: Choices) -> Floats:
        """Add up what a dataflow asks of the buffer: the block of scores (or weights), what stays, what passes.

        Inferred: the rule reproduces every `proportion_spilled` that FLAT's own search published (FuseMax artifact,
        flat_validation.csv, 13 rows that spill and 83 that do not). Scores and weights share one block in place.
        """
        total = np.where(choices.kept("QK") | choices.kept("A"), self._kept["QK"][choices.size], 0.0)
        for tensor in TENSORS:
            kept = 0.0 if tensor in ("QK", "A") else self._kept[tensor][choices.size]
            staged = self._staged[tensor][choices.size, choices.stationarity(tensor)]
            total = total + np.where(choices.kept(tensor), kept, staged)
        return total

    def least_words(self, choices: Choices) -> Floats:
        """Add up what must fit however much spills: tiles on their way, or the whole tensor where that is less."""
        total = np.zeros(len(choices.qk))
        for tensor in TENSORS:
            staged = self._staged[tensor][choices.size, choices.stationarity(tensor)]
            least = np.minimum(staged, self._kept[tensor][choices.size])
            total = total + np.where(choices.kept(tensor), least, staged)
        return total

    @cached_property
    def _kept(self) -> Mapping[str, Floats]:
        return {tensor: self._kept_words(tensor) for tensor in TENSORS}

    @cached_property
    def _staged(self) -> Mapping[str, Floats]:
        return {tensor: self._staged_words(tensor) for tensor in TENSORS}

    def _kept_words(self, tensor: str) -> Floats:
        """Count the words, (block sizes,), of a tensor that stays for a block or a head, with those of the next one.

        The scores of the largest block stand for all; their weights take their place, so there is one copy.
        """
        case = self.room or self.case
        if tensor in ("QK", "A"):
            tiles = case.counted(case.columns_used)
            return np.array([float(tiles.blocks(size).largest_points) for size in self.sizes])
        first, second = (
            np.array([case.rows(size) if rank == "p" else case.extent(rank) for size in self.sizes], np.float64)
            for rank in _RANKS[tensor]
        )
        return _COPIES * first * second

    def _staged_words(self, tensor: str) -> Floats:
        """Count the words, (block sizes, stationarities), of a tensor that passes by: two tiles of it are on their way.

        A rank that runs in time and is not summed over is there in full, because a tile of results is; FLAT itself
        counts one tile of AV rows for a whole head.
        """
        case, summed = self.room or self.case, "e" if tensor in QK_TENSORS else "m"
        words = np.full((len(self.sizes), len(STATIONARITIES)), float(_COPIES))
        for index, size in enumerate(self.sizes):
            block_rows = case.rows(size)
            one_tile = case.exact and tensor == "AV" and block_rows == case.queries
            for order_index, name in enumerate(STATIONARITIES):
                order = (QK_LOOPS if tensor in QK_TENSORS else AV_LOOPS)[name]
                for rank in _RANKS[tensor]:
                    whole = block_rows if rank == "p" else case.extent(rank)
                    side = case.rows_used if rank == order.rows else case.columns_used
                    in_full = rank == order.temporal != summed and not one_tile
                    words[index, order_index] *= whole if in_full else min(side, whole)
        return words
