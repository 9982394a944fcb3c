"""How long one Einsum takes over arrays of sizes of tiles, as `BoundGroup` and `costs` count it for one mapping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np

from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.mapping.legality import Draft, Kept
from cascadesim.accelerators.mapping.mapper.costs import priced
from cascadesim.accelerators.mapping.mapper.many_sizes import (
    Bits,
    Counts,
    Floats,
    ManyTiles,
    any_of,
    product_of,
    words_of,
)
from cascadesim.accelerators.mapping.problem import TensorUse
from cascadesim.accelerators.mapping.runs import ACCUMULATORS, ARRAY_2D, executed, operations_of
from cascadesim.accelerators.mapping.schedule.pipeline import MOST_LEAD
from cascadesim.accelerators.mapping.tiling import named_loops


@dataclass(frozen=True)
class Way(ManyTiles):
    """Cycles of each size, (ways,) float64."""

    def fewest(self, depth: int) -> Counts:
        """Iterations of the loops inside the first ones taken together, at least: `pipeline.fewest`."""
        found = np.array(1)
        for number in range(depth, len(self.order)):
            outer = np.broadcast_to(self.tiles[number][self.order[number]], np.shape(self.steps[number]))
            rest = self.problem.extents[self.order[number]] % outer
            found = found * -(-np.where(rest > 0, rest, outer) // self.steps[number])
        return found

    @cached_property
    def epoch_left(self) -> Sequence[Floats]:
        """Cycles of the channel that other transfers leave, in an epoch, to each input."""
        per_word = self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        number = product_of(map(self.number, self.work.axes))
        return [self.epoch - (self.dram_words - own) * per_word / number for own in self.from_dram]

    @cached_property
    def epoch(self) -> Floats:
        """Cycles of an epoch of a pipeline: `pipeline._begins`."""
        number = product_of(map(self.number, self.work.axes))
        return np.maximum(np.maximum(self.tile_cycles, self.bound_cycles // number), 1.0)

    @cached_property
    def per_word(self) -> Sequence[Floats]:
        """Cycles in which a word of each input comes into the buffer, from DRAM or from a memory that keeps it."""
        direct = np.array(self.spec.word_bytes / self.spec.dram_bytes_per_cycle)
        if not self.spec.memories:
            return [direct] * len(self.work.inputs)
        near = self.spec.word_bytes / self.behind.bytes_per_cycle
        return [np.where(own < self.filled(use), near, direct)
                for own, use in zip(self.from_dram, self.work.inputs, strict=True)]  # fmt: skip

    @cached_property
    def memory_cycles(self) -> Floats:
        """Cycles of the memory behind the buffer: what comes there and leaves it, (ways,)."""
        if not self.spec.memories:
            return np.array(0.0)
        pairs = [(own, self.filled(use)) for own, use in zip(self.from_dram, self.work.inputs, strict=True)]
        words = sum((np.where(own < filled, own + filled, 0) for own, filled in pairs), np.array(0))
        cycles: Floats = words * (self.spec.word_bytes / self.behind.bytes_per_cycle)
        return cycles

    @cached_property
    def periods(self) -> Sequence[Counts]:
        """Of each input: tiles that use what comes at once, those of the loops inside the last that moves it."""
        found = []
        for use in self.work.inputs:
            inner = np.where(self.in_pieces(use), self.innermost(use), self.kept[use.tensor])
            period = self.fewest(0)
            for number, axis in enumerate(self.order):
                if axis in use.axes:
                    period = np.where((self.most[number] > 1) & (number < inner), self.fewest(number + 1), period)
            found.append(period)
        return found

    @cached_property
    def times(self) -> Sequence[Counts]:
        """How often each input comes; 0 of a single time, which is waited for in any case."""
        found = [self.filled(use) // words for use, words in zip(self.work.inputs, self.arriving, strict=True)]
        return [times * ((times > 1) | (self.problem.instances > 1)) for times in found]

    @cached_property
    def load_wait_cycles(self) -> Floats:
        """Cycles that loads of a tile that is used for several are waited for (`pipeline.load_wait_cycles`): they run
        ahead by as many epochs as they take, where that has room, else by one."""
        longest, loads = np.array(1), []
        for period, words, per_word, left, times in zip(
            self.periods, self.arriving, self.per_word, self.epoch_left, self.times, strict=True):  # fmt: skip
            taken = words * per_word
            epochs = np.where(left > 0, np.ceil(taken / np.maximum(left, 1e-9)), period)
            longest = np.where(times > 0, np.maximum(longest, np.minimum(period, epochs)), longest)
            loads.append((period, taken, left, times))
        longest = np.minimum(longest, MOST_LEAD)
        ahead = np.where(self.room_ahead(longest) <= self.spec.buffer_words, longest, 1)
        total = np.array(0.0)
        for period, taken, left, times in loads:
            total = total + np.where(period > ahead, np.maximum(taken - ahead * left, 0.0) * times, 0.0)
        return total

    def room_ahead(self, lead: Counts) -> Counts:
        """Room that tiles take where loads run so many epochs ahead: `placing.input_copies`."""
        left = np.maximum(1, np.ceil((self.tile_cycles + self.drained) / self.epoch))  # epochs: `pipeline.stores_at`
        total = self.footprint_words + (self.sums(np.maximum(2, left + 1)) - self.sum_words) * (not self.accumulates)
        for use in self.work.inputs:
            depth, inner = self.kept[use.tensor], self.innermost(use)
            moves = any_of(self.most[number] > 1 for number in range(depth)) | (self.problem.instances > 1)
            copies = np.where(moves, 1 + -(-(1 + lead) // self.fewest(depth)), 1)
            pieces = product_of([self.most[number] for number in range(depth, inner)
                               if self.order[number] in use.axes])  # fmt: skip
            more = np.maximum(1, 1 + -(-(1 + lead) // self.fewest(inner)) - pieces)
            words, piece = (words_of(use.axes, self.tiles[each]) for each in (depth, max(depth, inner)))
            total = total + np.where(self.in_pieces(use), words + more * piece, copies * words) - self.room(use)
        return total

    @cached_property
    def busy_cycles(self) -> Counts:
        """Cycles of the unit, all tiles together."""
        return self.run.op_cycles * product_of(map(self.waves, self.work.axes))

    @cached_property
    def tile_cycles(self) -> Counts:
        """Cycles of the unit, of one whole tile."""
        leaf, sides = self.tiles[-1], {each.axis: each.size for each in self.run.space}
        return self.run.op_cycles * product_of(
            -(-leaf[axis] // sides[axis]) if axis in sides else leaf[axis] for axis in self.work.axes)

    @cached_property
    def bound_cycles(self) -> Floats:
        """Cycles of the busiest of the array, the DRAM channel and the ports, (ways,)."""
        word, spec = self.spec.word_bytes, self.spec
        moving = np.maximum(self.dram_words * (word / spec.dram_bytes_per_cycle),
                            self.port_words * (word / spec.global_buffer.bytes_per_cycle))  # fmt: skip
        if self.accumulates and spec.accumulators is not None:
            moving = np.maximum(moving, self.summed_words * (word / spec.accumulators.bytes_per_cycle))
        cycles: Floats = np.maximum(np.maximum(self.busy_cycles, np.maximum(moving, self.memory_cycles)), 1.0)
        return cycles

    @cached_property
    def arriving(self) -> Sequence[Counts]:
        """Words of each input that come at once: a tile, or a piece of one."""
        return [words_of(use.axes, self.tiles[max(self.kept[use.tensor], self.overlapped * self.innermost(use))])
                for use in self.work.inputs]  # fmt: skip

    @cached_property
    def channel_cycles(self) -> Floats:
        """Cycles of the DRAM channel, each transfer of a tile in whole ones."""
        return sum(self.load_cycles, self.store_cycles)

    @cached_property
    def store_cycles(self) -> Floats:
        """Those of what leaves."""
        words = words_of(self.work.output.axes, self.tiles[-1])
        cycles: Floats = np.ceil(words * (self.spec.word_bytes / self.spec.dram_bytes_per_cycle)) * (
            self.stored_words // words)  # fmt: skip
        return cycles

    @cached_property
    def load_cycles(self) -> Sequence[Floats]:
        """Those of each input."""
        per_word = self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        return [np.ceil(words * per_word) * (own // words)
                for words, own in zip(self.arriving, self.from_dram, strict=True)]  # fmt: skip

    @cached_property
    def paced_cycles(self) -> Floats:
        """Cycles where loads, steps and stores overlap round by round (`costs.paced_cycles`).

        Pieces of an input that stays come in the first round of the loops that it lacks, results leave in the last one
        of the loops that are summed over: the channel may take longer than those rounds.
        """
        moves = list(self.in_rounds)
        sums = frozenset(number for number, axis in enumerate(self.order) if axis in self.work.reduced)
        total, loops = np.array(0.0), sorted(sums.union(*(own for _, own, _ in moves)))
        for states in product(*(("first", "middle", "last") if (self.most[loop] > 1).any() else ("first",)
                                for loop in loops)):  # fmt: skip
            stands = dict(zip(loops, states, strict=True))
            share = product_of([_share(self.most[loop], state) for loop, state in stands.items()])
            moved = np.array(0.0)
            for cycles, own, always in moves:
                alone = cycles * product_of([self.most[loop] for loop in own])
                moved = moved + np.where(always, cycles, alone * all(stands[loop] == "first" for loop in own))
            stored = self.store_cycles * product_of([self.most[loop] for loop in sums])
            moved = moved + stored * product_of([(self.most[loop] == 1) | (stands[loop] == "last") for loop in sums])
            total = total + share * np.maximum(self.bound_cycles, moved)
        return total

    @property
    def in_rounds(self) -> Iterator[tuple[Floats, frozenset[int], Bits]]:
        """Cycles of the channel for each input, the loops in whose first round its pieces come, and where it comes all
        the time; of one that a memory keeps further out by the loops outside of it there."""
        for use, cycles, depths in zip(self.work.inputs, self.load_cycles, self.depths_behind, strict=True):
            inner, kept = self.innermost(use), self.kept[use.tensor]
            for depth in range(kept + 1) if self.spec.memories else (kept,):
                here = cycles * (depths == depth)
                own = frozenset(number for number in range(self.settled(use, depth), inner)
                                if self.order[number] not in use.axes)  # fmt: skip
                yield here, own, ~self.in_pieces(use) & (depths == kept)

    @cached_property
    def first_cycles(self) -> Floats:
        """Cycles of the first tile by itself: its loads, its steps, its drain and its store."""
        leaf, per_word = self.tiles[-1], self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        loads = sum((np.ceil(words * per_word) for words in self.arriving), np.array(0.0))
        stores = words_of(self.work.output.axes, leaf) * per_word * bool(self.stored_words)
        cycles: Floats = loads + self.tile_cycles + self.drained + stores
        return cycles

    @cached_property
    def least_cycles(self) -> Floats:
        """The bound, with transfers in whole cycles and the first tile by itself."""
        return self._with_first(np.maximum(self.bound_cycles, self.channel_cycles))

    @cached_property
    def cycles(self) -> Floats:
        """That, where loads, steps and stores overlap round by round, and loads are waited for: `costs.cost`."""
        bound = np.maximum(self.channel_cycles, self.paced_cycles)
        if not self.overlapped:
            return self._with_first(bound)
        pairs = product_of(map(self.number, self.work.axes)) * self.alone_cycles / 2
        pipelined = self.room_ahead(np.array(1)) <= self.spec.buffer_words
        return self._with_first(np.maximum(bound + self.load_wait_cycles, np.where(pipelined, 0.0, pairs)))

    @cached_property
    def alone_cycles(self) -> Floats:
        """Cycles of a tile with the loads that no other one shares, its drain and its store: `costs.alone_cycles`."""
        per_word = self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        loads = zip(self.arriving, self.periods, self.times, strict=True)
        shared = [np.ceil(words * per_word) * ((period > 1) | (times == 0)) for words, period, times in loads]
        cycles: Floats = self.first_cycles - sum(shared, np.array(0.0))
        return cycles

    @cached_property
    def joules(self) -> Floats:
        """What one instance takes, (ways,), as `costs.actions` counts it; operations without a price are left out."""
        points = prod(self.problem.extents[axis] for axis in self.work.axes)
        again = sum((np.round(points * self.new_words(use)) for use in self.work.inputs), np.array(0.0))
        registers = points * (len(self.work.inputs) + bool(self.work.einsum.reduced_ranks)), points + again
        stored = self.stored_words * (self.summed_words > 0)
        summed = (self.summed_words - stored) / 2
        through: tuple[Any, Any] = summed + stored, summed
        own, beside = (through, (0, 0)) if self.accumulates else ((0, 0), through)
        loads = [self.filled(use) for use in self.work.inputs]
        behind = [words * (far < words) for words, far in zip(loads, self.from_dram, strict=True)]
        fetched = [far * (far < words) for words, far in zip(loads, self.from_dram, strict=True)]
        memory = self.behind.name if self.spec.memories else ""
        can = operations_of(self.spec, self.run.unit)
        operations = {kind: points * count for kind, count in (executed(can, self.work) or {}).items()}
        in_2d = self.run.unit == ARRAY_2D
        done: Any = (  # arrays, which prices are linear in
            self.dram_words, sum(map(self.read_words, self.work.inputs), beside[0]), sum(loads, beside[1]),
            *(registers if in_2d else (0, 0)), *((0, 0) if in_2d else registers),
            operations if in_2d else {}, {} if in_2d else operations,
            {memory: sum(behind), ACCUMULATORS: own[0]}, {memory: sum(fetched), ACCUMULATORS: own[1]},
        )  # fmt: skip
        joules: Any = sum(dynamic_energy_j(priced(Actions(*done)), self.spec).values())
        return np.asarray(joules, np.float64)

    def new_words(self, use: TensorUse) -> Floats:
        """Share of the points at which an element gets another value of an operand: `costs._new`."""
        spatial, share = {each.axis for each in self.run.space}, np.array(1.0)
        for axis in reversed([axis for axis in self.run.time if axis not in spatial]):
            if axis in use.axes:
                break
            share = share * self.number(axis) / self.problem.extents[axis]
        return share

    def _with_first(self, bound: Floats) -> Floats:
        tiles = self.problem.instances * product_of(self.most)
        cycles: Floats = np.maximum(bound, self.first_cycles / self.problem.instances + bound * (tiles - 1) / tiles)
        return cycles

    def draft(self) -> Draft:
        """The way, of one size, as any other mapping; loops of one iteration are none."""
        looped = [number for number, most in enumerate(self.most) if most.item() > 1]
        loops = named_loops(self.problem, [(self.order[number], self.steps[number].item()) for number in looped])

        def depth(outside: int) -> int:
            return sum(number < outside for number in looped)

        kept = {}
        for use in self.work.inputs:
            own, inner = depth(self.kept[use.tensor]), depth(self.innermost(use))
            pieces = self.overlapped and any(loop.axis in use.axes for loop in loops[own:inner])
            kept[use.tensor] = Kept(own, self.overlapped and own > 0, inner if pieces else 0)
        tile = {axis: size.item() for axis, size in self.tiles[-1].items()}
        space = tuple(each._replace(block=self.work.block(each.axis, tile[each.axis])) for each in self.run.space)
        spaces = {self.run.place: (self.run.unit, space, self.run.time)}
        return Draft(self.problem, self.spec, (self.run.place,), loops, spaces, {}, kept,
                     None if self.overlapped else 1)  # fmt: skip


def _share(most: Counts, state: str) -> Floats:
    """Share of the iterations of a loop that are the first one, the last one, or others; a single one is the first."""
    rounds: Floats = (np.maximum(most - 2, 0) if state == "middle" else (most > 1) | (state == "first")) / most
    return rounds
