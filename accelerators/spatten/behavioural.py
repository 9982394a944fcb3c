"""The public behavioural simulator of SpAtten, formula by formula: fetch, fill, drain and top-k, nothing overlapping.

spatten_hardware/simulator/src/bert.cpp of mit-han-lab/spatten. Its quick-select has its sides swapped and may read one
element past its list; it is copied literally, draws included, so that cycles agree, and layers it leaves undefined are
None. It takes whole layers of heads with their own keys; what it does not know (shared keys, masks, low bits) is
counted as its heads would. Top-k over tokens follows a layer only in its own files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cascadesim.accelerators.protocol import EinsumActivity, Plan, Traffic
from cascadesim.accelerators.spatten.mapping import KEPT
from cascadesim.accelerators.spatten.spec import SOFTMAX_STAGES, SpattenSpec
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL

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

    @property
    def vectors(self) -> int:
        """Vectors multiplied in a cycle."""
        return self.multipliers // self.head_dim


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
    """Cycles of one layer. None in `topk`: the reference reads past its list's end there, and has no defined value."""

    dram: int
    fill: int
    drain: int
    topk: int | None

    @property
    def total(self) -> int | None:
        return None if self.topk is None else self.dram + self.fill + self.drain + self.topk


def behavioural_plan(plan: Plan, spec: SpattenSpec) -> Plan:
    """The same attention in the simulator's cycles. Raises CascadeSimError for a trace: it takes layers."""
    operation = plan.operation
    if operation.trace is not None:
        raise CascadeSimError(f"{operation.name}: the behavioural simulator takes layers of equal heads, no trace")
    design = BehaviouralDesign(spec.dram.channels, spec.multipliers, spec.topk_parallelism, spec.head_dim)
    size, bits = dict(operation.extents), spec.formats
    lanes = -(-max(size["e"], size["f"]) // spec.head_dim)  # heads of 64 elements for one of the operation
    heads = [Head(size["p"], size["m"], bits.key_bits, bits.value_bits)] * (size["b"] * size["h"] * lanes)
    found = layer_cycles(heads, design)
    (phase,) = plan.phases
    activities = tuple(
        replace(one, cycles=found.fill + found.drain if one.unit == "multiply_qk" else 0, occupancy=1.0)
        for one in phase.activities if one.unit not in ("dram", "top_k")
    )  # fmt: skip
    timed = replace(
        phase, activities=(*activities, EinsumActivity("fetch", "dram", found.dram)),
        traffic=Traffic(found.dram * spec.dram.channels * DRAM_BYTES),
        analytical_cycles=float(found.total or 0), program=None, model=None,
    )  # fmt: skip
    lines: tuple[str, ...] = (
        f"behavioural simulator: fetch {found.dram}, fill {found.fill}, drain {found.drain} cycles, nothing overlaps",
        f"{len(heads)} heads of {spec.head_dim} elements, each with keys of its own; no softmax, no selection",
    )
    if operation.mask != FULL:
        lines += ("it knows no masks: pairs that are masked are computed all the same",)
    lines = (*(line for line in plan.mapping if line.startswith(KEPT)), *lines)
    return replace(plan, mapping=lines, phases=(timed,), dynamic_energy_j=None)


def total_cycles(layers: Iterable[LayerCycles]) -> int | None:
    """Layers run one after another; None where one of them has no defined value."""
    totals = [layer.total for layer in layers]
    return None if None in totals else sum(total for total in totals if total is not None)


def layer_cycles(heads: Sequence[Head], design: BehaviouralDesign) -> LayerCycles:
    """The heads of one layer: all are fetched and filled, and the last one drains."""
    rows = [-(-head.keys // design.vectors) for head in heads]  # of vectors
    dram = fill = topk = seed = 0
    undefined = False
    for head, row in zip(heads, rows, strict=True):
        fill += head.queries * row
        for bits in (head.key_bits, head.value_bits):
            stored = bits if 0 <= bits <= 8 and bits != 6 else 8  # 6 bits and more than 8 are stored as 8
            size_bytes = row * design.vectors * design.head_dim * stored // 8
            dram += -(-(size_bytes // DRAM_BYTES) // design.dram_channels)
        if head.topk is None or undefined:
            continue
        lengths = selection_lengths(head.keys, head.topk, seed)
        undefined = lengths is None
        rounds = sum(length // design.topk_parallelism + ROUND_CYCLES for length in lengths or ())
        topk += row + rounds + -(-head.topk // design.vectors)
        seed += 1
    return LayerCycles(dram, fill, DRAIN_CYCLES + rows[-1], None if undefined else topk)


def selection_lengths(keys: int, target: int, seed: int) -> list[int] | None:
    """Lengths of the list in every round of the reference's selection; None where it reads past the list's end.

    The reference's sides are swapped: it keeps the less where they are too few.
    """
    draws = mersenne_twister(seed)
    scores = [uniform_int(draws, 0, LARGEST_SCORE) for _ in range(keys)]
    lengths: list[int] = []
    while scores:
        lengths.append(len(scores))
        place = uniform_int(draws, 0, len(scores))
        if place == len(scores):
            return None
        pivot = scores[place]
        less = [score for score in scores if score < pivot]
        up_to = len(less) + scores.count(pivot)
        if len(less) < target:
            scores = [] if up_to >= target else less
        else:
            scores, target = [score for score in scores if score > pivot], (target - up_to) % (1 << 64)
    return lengths


def mersenne_twister(seed: int) -> Iterator[int]:
    """std::mt19937: 32-bit outputs."""
    state = [seed & 0xFFFFFFFF]
    for index in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + index) & 0xFFFFFFFF)
    while True:
        for index in range(624):
            mixed = state[index] & 0x80000000 | state[(index + 1) % 624] & 0x7FFFFFFF
            state[index] = state[(index + 397) % 624] ^ mixed >> 1 ^ (0x9908B0DF if mixed & 1 else 0)
        for value in state:
            value ^= value >> 11
            value ^= value << 7 & 0x9D2C5680
            value ^= value << 15 & 0xEFC60000
            yield value ^ value >> 18


def uniform_int(draws: Iterator[int], low: int, high: int) -> int:
    """libstdc++'s uniform_int_distribution over low .. high, both included (Lemire's multiplication)."""
    size = high - low + 1
    if size >= 1 << 32:
        raise ValueError(f"range of {size} values needs more than 32 bits")
    product = next(draws) * size
    if product & 0xFFFFFFFF < size:
        threshold = ((1 << 32) - size) % size
        while product & 0xFFFFFFFF < threshold:
            product = next(draws) * size
    return low + (product >> 32)
