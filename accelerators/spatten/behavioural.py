"""The public behavioural simulator of SpAtten, formula by formula: fetch, fill, drain and top-k, nothing overlapping.

spatten_hardware/simulator/src/bert.cpp of mit-han-lab/spatten. Its quick-select has its sides swapped and may read one
element past its list; it is copied literally, so that cycles agree, and layers it leaves undefined are None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cascadesim.accelerators.spatten.randomness import mersenne_twister, uniform_int
from cascadesim.accelerators.spatten.spec import SOFTMAX_STAGES

DRAM_BYTES = 32  # a transaction, one per channel and cycle
DRAIN_CYCLES = 11 + sum(SOFTMAX_STAGES) + 1 + 1 + 3  # dot product, softmax pipeline, score times value, output
ROUND_CYCLES = 4  # of a top-k round besides its elements: the same simulator
LARGEST_SCORE = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class BehaviouralDesign:
    """What the behavioural simulator takes on its command line, and the size of a head."""

    dram_channels: int = 16
    multipliers: int = 512
    topk_parallelism: int = 4
    head_dim: int = 64


@dataclass(frozen=True, slots=True)
class Head:
    """One head of a layer: `queries` rows over `keys` fetched vectors; `topk` survivors where it selects."""

    queries: int
    keys: int
    key_bits: int
    value_bits: int
    topk: int | None = None


@dataclass(frozen=True, slots=True)
class LayerCycles:
    """None in `topk`: the reference reads past the end of its list there, and has no defined value."""

    dram: int
    fill: int
    drain: int
    topk: int | None

    @property
    def total(self) -> int | None:
        return None if self.topk is None else self.dram + self.fill + self.drain + self.topk


def layer_cycles(heads: Sequence[Head], design: BehaviouralDesign) -> LayerCycles:
    rows = [-(-head.keys // _vectors(design)) for head in heads]
    dram = sum(
        _fetch(row, head.key_bits, design) + _fetch(row, head.value_bits, design)
        for head, row in zip(heads, rows, strict=True)
    )
    fill = sum(head.queries * row for head, row in zip(heads, rows, strict=True))
    return LayerCycles(dram, fill, DRAIN_CYCLES + rows[-1], _topk(heads, rows, design))


def _vectors(design: BehaviouralDesign) -> int:
    """Vectors multiplied in a cycle."""
    return design.multipliers // design.head_dim


def _fetch(rows: int, bits: int, design: BehaviouralDesign) -> int:
    """Cycles to fetch whole rows of vectors over all channels; 6 bits and more than 8 are stored as 8."""
    stored = bits if 0 <= bits <= 8 and bits != 6 else 8
    size_bytes = rows * _vectors(design) * design.head_dim * stored // 8
    return -(-(size_bytes // DRAM_BYTES) // design.dram_channels)


def _topk(heads: Sequence[Head], rows: Sequence[int], design: BehaviouralDesign) -> int | None:
    """Of all selecting heads of the layer, each with the next seed."""
    total, seed = 0, 0
    for head, row in zip(heads, rows, strict=True):
        if head.topk is None:
            continue
        lengths = selection_lengths(head.keys, head.topk, seed)
        if lengths is None:
            return None
        rounds = sum(length // design.topk_parallelism + ROUND_CYCLES for length in lengths)
        total += row + rounds + -(-head.topk // _vectors(design))
        seed += 1
    return total


def selection_lengths(keys: int, target: int, seed: int) -> list[int] | None:
    """Lengths of the list in every round of the reference's selection; None where it reads past the list's end."""
    draws = mersenne_twister(seed)
    scores = [uniform_int(draws, 0, LARGEST_SCORE) for _ in range(keys)]
    lengths: list[int] = []
    while scores:
        lengths.append(len(scores))
        place = uniform_int(draws, 0, len(scores))
        if place == len(scores):
            return None
        scores, target = _split(scores, scores[place], target)
    return lengths


def _split(scores: Sequence[int], pivot: int, target: int) -> tuple[list[int], int]:
    """The side the reference goes on with (swapped: it keeps the less where they are too few), and its target."""
    less = [score for score in scores if score < pivot]
    equal = sum(score == pivot for score in scores)
    if len(less) < target:
        return ([] if len(less) + equal >= target else less), target
    return [score for score in scores if score > pivot], (target - len(less) - equal) % (1 << 64)


def total_cycles(layers: Iterable[LayerCycles]) -> int | None:
    totals = [layer.total for layer in layers]
    return None if None in totals else sum(total for total in totals if total is not None)
