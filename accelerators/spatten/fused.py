"""FuseMax-style fusion on SpAtten: keys and values walk in tiles, every query keeps a maximum, a sum and a result.

What the mapping assumes, none of it published. A tile is TILE_LINES buffer lines of keys and as many of values; its
values are fetched while its scores are taken, because no choice has to wait for all scores. The softmax lanes take
the scores of a tile as they take those of a row, and one correction more for each query; the second product scales
what a query has so far by that correction, one line of multipliers. Results in progress take a line for the queries
whose vectors a line holds; up to half of the value buffer is theirs, and more queries come in blocks, each with its
own fetch. What is given up: values cannot be chosen before all scores are there, and low bits not by the largest
probability, so all values of kept keys are used and all bits of keys come at once.

Token importance (`pruned-1pass`) needs the last maximum and sum: scores are computed again in a second pass over the
keys, unless the load serves a single query, whose scores stay on chip; then tokens are chosen by the top-k engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from cascadesim.accelerators.program import After, Program, Queue, Task, TileRun
from cascadesim.accelerators.protocol import EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spatten import energy
from cascadesim.accelerators.spatten.mapping import LOW_BITS, kept_lines, padded, stored_bytes
from cascadesim.accelerators.spatten.roles import CHOICE, RESULTS, SCORES, SOFTMAX
from cascadesim.accelerators.spatten.spec import READ_GAP, REQUEST_BYTES, SpattenSpec
from cascadesim.accelerators.spatten.timing import MULTIPLY_CYCLES, TRANSACTIONS, lines, selection_mean
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.ir import Cascade, Einsum
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.texts.attention import ATTENTION_1PASS
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS

FUSED = (ATTENTION_1PASS, PRUNED_1PASS)
TILE_LINES = 32  # assumed: a correction of one cycle a unit is then 3 % of a tile's work
TILES_IN_FLIGHT = 4  # assumed: as many as the buffers of the full size hold at least
SECOND_PASS = ("CM", "LS", "S")  # of pruned-1pass
DRAM = "dram"


@dataclass(frozen=True, slots=True)
class Tile:
    """`keys` keys of a load and a block of `queries` queries; `share` of their pairs is attended."""

    keys: int
    queries: int
    share: float

    def scored(self, spec: SpattenSpec) -> int:
        """Lines that a product takes for all queries."""
        return max(1, ceil(self.share * self.queries * lines(padded(self.keys, spec), spec)))

    @property
    def visits(self) -> int:
        """Queries that meet the tile, each with one correction."""
        return max(1, ceil(self.share * self.queries))


@dataclass(frozen=True, slots=True)
class FusedWork:
    """One attention operation: `loads` heads of keys (and lanes of them), over each of which all tiles run."""

    loads: int
    lanes: int
    tiles: tuple[tuple[Tile, int], ...]
    rows: int
    queries: int
    keys: int
    sequences: int

    @property
    def keeps_scores(self) -> bool:
        return self.queries == 1


def plan_fused(operation: Operation, spec: SpattenSpec, schedule: str) -> Plan:
    """Attention, and token importance where the cascade asks for it; all values of the kept keys are used."""
    sizes = dict(operation.extents)
    operation = replace(operation, extents=tuple({**sizes, "k": sizes["m"]}.items()))
    work = fused_work(operation, spec)
    phases = [_attention(operation, work, spec)]
    if operation.cascade == PRUNED_1PASS:
        phases += [_importance(operation, work, spec), _choice(work, spec)]
    read = sum(phase.traffic.read_bytes for phase in phases)
    joules = energy.dynamic_energy_j(read, sum(phase.analytical_cycles for phase in phases), spec)
    lines = (schedule, *kept_lines(operation), *_lines(operation.cascade, work, spec))
    return Plan(operation, "physical", lines, tuple(phases), joules, splits(spec),
                stored_bytes(operation, spec))  # fmt: skip


def fused_work(operation: Operation, spec: SpattenSpec) -> FusedWork:
    size = dict(operation.extents)
    lanes = ceil(max(size["e"], size["f"]) / spec.head_dim)
    queries, heads = size["g"] * size["p"], size["b"] * size["h"] // size["g"]
    share = operation.mask.attended_pairs(size["p"], size["m"]) / (size["p"] * size["m"])
    tiles = tuple(
        (Tile(keys, block, share), count * blocks)
        for block, blocks in _cut(queries, _block(queries, spec))
        for keys, count in _cut(size["m"], tile_keys(spec))
    )
    rows = size["b"] * size["h"] * size["p"]
    return FusedWork(heads * lanes, lanes, tiles, rows, queries, size["m"], size["b"])


def tile_keys(spec: SpattenSpec) -> int:
    """Keys of a whole tile: four of them fit half of a buffer."""
    keys = min(TILE_LINES, spec.buffer_lines // 8) * spec.vectors_per_line
    return max(spec.count_multiple, keys // spec.count_multiple * spec.count_multiple)


def splits(spec: SpattenSpec) -> dict[str, int]:
    """Keys are cut into tiles of so many."""
    return {"M0": tile_keys(spec)}


def _block(queries: int, spec: SpattenSpec) -> int:
    return min(queries, spec.buffer_lines // 2 * spec.vectors_per_line)


def _cut(whole: int, part: int) -> list[tuple[int, int]]:
    """(size, how many of it)."""
    count, rest = divmod(whole, part)
    return [(part, count)] * (count > 0) + [(rest, 1)] * (rest > 0)


def _transactions(tile: Tile, spec: SpattenSpec) -> tuple[int, int]:
    """Of the keys of a tile, all their bits at once, and of its values."""
    low = LOW_BITS / 4 if (spec.pruning.low_bit_share or spec.formats.low_bit_share) else 0
    keys = padded(tile.keys, spec)
    return ceil((TRANSACTIONS[spec.formats.key_bits] + low) * keys), ceil(TRANSACTIONS[spec.formats.value_bits] * keys)


def _dram_cycles(transactions: int, spec: SpattenSpec) -> int:
    return ceil(transactions * READ_GAP[spec.dram.mode] / spec.dram.channels)


def _attention(operation: Operation, work: FusedWork, spec: SpattenSpec) -> Phase:
    classes = [_first_pass(tile, spec) for tile, _ in work.tiles]
    busy = _busy(classes, work, ("K", SCORES, SOFTMAX, "V", RESULTS))
    read = REQUEST_BYTES * work.loads * sum(count * sum(_transactions(tile, spec)) for tile, count in work.tiles)
    einsums = [einsum for einsum in operation.cascade.einsums if einsum.name not in SECOND_PASS]
    activities = _activities(einsums, busy, operation, spec)
    program = partial(_program, classes, work, spec)
    return Phase(operation.name, activities, Traffic(read), float(max(busy.values())), program)


def _first_pass(tile: Tile, spec: SpattenSpec) -> tuple[int, ...]:
    keys, values = _transactions(tile, spec)
    scored = tile.scored(spec)
    corrected = scored + tile.visits
    return (_dram_cycles(keys, spec), scored, corrected, _dram_cycles(values, spec), corrected)


def _importance(operation: Operation, work: FusedWork, spec: SpattenSpec) -> Phase:
    """Probabilities of all pairs again, without values; a single query's scores are still there."""
    kept = work.keeps_scores
    classes: list[tuple[int, ...]] = []
    read = 0
    for tile, count in work.tiles:
        keys, _ = _transactions(tile, spec)
        scored = tile.scored(spec)
        classes.append((0, 0, scored, 0, 0) if kept else (_dram_cycles(keys, spec), scored, scored, 0, 0))
        read += 0 if kept else REQUEST_BYTES * work.loads * count * keys
    busy = _busy(classes, work, ("K", SCORES, SOFTMAX, "V", RESULTS))
    einsums = [einsum for einsum in operation.cascade.einsums if einsum.name in SECOND_PASS]
    activities = _activities(einsums, busy, operation, spec)
    program = partial(_program, classes, work, spec)
    return Phase("importance", activities, Traffic(read), float(max(busy.values())), program)


def _choice(work: FusedWork, spec: SpattenSpec) -> Phase:
    """The tokens of each sequence after all heads; assumed: half are kept, for which the engine takes longest."""
    cycles = round(selection_mean(work.keys, max(1, work.keys // 2), spec.topk_parallelism))
    program = Program((Task("choice", CHOICE),), ((max(1, cycles),),), (TileRun(0, work.sequences),))
    activity = EinsumActivity("choice", CHOICE, work.sequences * max(1, cycles))  # no Einsum of the text
    return Phase("choice", (activity,), Traffic(), float(activity.cycles), lambda: program)


def _busy(classes: Sequence[tuple[int, ...]], work: FusedWork, names: tuple[str, ...]) -> dict[str, int]:
    counts = [count for _, count in work.tiles]
    found = {
        name: work.loads * sum(count * cycles[place] for count, cycles in zip(counts, classes, strict=True))
        for place, name in enumerate(names)
    }
    return {DRAM: found.pop("K") + found.pop("V"), **found}


def _program(classes: Sequence[tuple[int, ...]], work: FusedWork, spec: SpattenSpec) -> Program:
    """Tiles of a load in order, each with the block's queries; the buffers hold some tiles at a time."""
    slots = max(2, spec.buffer_lines // 2 // lines(tile_keys(spec), spec))
    softmax = spec.softmax_cycles
    tasks = (
        Task("K", DRAM, takes=("key tiles",)),
        Task("QK", SCORES, (After("K"),), gives_back=("key tiles",)),
        Task("SN", SOFTMAX, (After("QK", MULTIPLY_CYCLES, streaming=True),)),
        Task("V", DRAM, takes=("value tiles",)),
        Task("AV", RESULTS, (After("SN", softmax, streaming=True), After("V")), gives_back=("value tiles",)),
    )
    runs = tuple(TileRun(number, count * work.loads) for number, (_, count) in enumerate(work.tiles))
    queues = (Queue("key tiles", slots), Queue("value tiles", slots))
    return Program(tasks, tuple(classes), runs, queues, in_flight=TILES_IN_FLIGHT)


def _activities(
    einsums: Sequence[Einsum], busy: dict[str, int], operation: Operation, spec: SpattenSpec
) -> tuple[EinsumActivity, ...]:
    """Cycles of a unit stand with its first Einsum: a unit is one pipeline, whose Einsums share their beats."""
    left, found, counted = dict(busy), [], work_of(operation, splits(spec))
    lanes = {SCORES: spec.multipliers, RESULTS: spec.multipliers, SOFTMAX: spec.softmax_lanes}
    for einsum in einsums:
        if not charges(einsum):  # a tile of keys, or a state before the first one
            continue
        operations, unit = counted[einsum.name], _unit(einsum)
        cycles = left.pop(unit, 0)
        share = min(1.0, max(operations.values()) / (cycles * lanes[unit])) if cycles else 1.0
        found.append(EinsumActivity(einsum.name, unit, cycles, operations, share))
    rest = (("QK again", SCORES), ("gather", DRAM))  # scores of the second pass are no Einsum of the text
    return (*found, *(EinsumActivity(name, unit, left[unit]) for name, unit in rest if left.get(unit)))


def _unit(einsum: Einsum) -> str:
    """Products over the depth of keys, all that has the depth of values, and the rest."""
    read = {rank for access in einsum.inputs for rank in access.ranks}
    if "e" in read:
        return SCORES
    return RESULTS if "f" in read else SOFTMAX


def _lines(cascade: Cascade, work: FusedWork, spec: SpattenSpec) -> tuple[str, ...]:
    """What a report prints."""
    found = [
        f"{cascade.name}: {work.loads} loads of {work.keys} keys in tiles of {tile_keys(spec)}, {work.queries} queries "
        f"over each",
        "all values of kept keys, all bits of keys at once: nothing waits for the last score; DRAM at its peak",
        f"softmax {f'takes {spec.softmax_cycles} cycles' if spec.softmax_cycles else 'passes through in no time'}; one "
        "correction for each query and tile, on the softmax lanes and the second product",
    ]
    blocks = -(-work.queries // _block(work.queries, spec))
    if blocks > 1:
        found.append(f"results in progress of {_block(work.queries, spec)} queries fit: keys come {blocks} times")
    if cascade == PRUNED_1PASS:
        found.append("importance: " + ("scores of the single query stay on chip" if work.keeps_scores else
                                       "a second pass over the keys, scores computed again"))  # fmt: skip
    return tuple(found)
