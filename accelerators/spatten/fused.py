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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from cascadesim.accelerators.binding import Part, part_of
from cascadesim.accelerators.program import After, Program, Queue, Task, TileRun
from cascadesim.accelerators.protocol import EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spatten.mapping import (
    CHOICE,
    LOW_BITS,
    RESULTS,
    SCORES,
    SOFTMAX,
    cut,
    kept_lines,
    piece_sizes,
    stored_bytes,
)
from cascadesim.accelerators.spatten.spec import REQUEST_BYTES, SpattenSpec, lines, padded
from cascadesim.accelerators.spatten.timing import MULTIPLY_CYCLES, TRANSACTIONS, dram_cycles, shared_activities
from cascadesim.accelerators.spatten.topk import selection_mean
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

FUSED = (ATTENTION_1PASS, PRUNED_1PASS)
TILE_LINES = 32  # assumed: a correction of one cycle a unit is then 3 % of a tile's work
TILES_IN_FLIGHT = 4  # assumed: as many as the buffers of the full size hold at least
SECOND_PASS = ("CM", "LS", "S")  # of pruned-1pass
DRAM = "dram"
# the array of the second product scales the results that it keeps
UNITS: Mapping[Part, str] = {"scores": SCORES, "statistics": SOFTMAX, "output": RESULTS, "update": RESULTS}


@dataclass(frozen=True, slots=True)
class KeyTile:
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
    tiles: tuple[tuple[KeyTile, int], ...]
    queries: int
    block: int  # queries whose results in progress fit at a time
    keys: int
    sequences: int

    @property
    def keeps_scores(self) -> bool:
        return self.queries == 1


def plan_fused(operation: Operation, spec: SpattenSpec, schedule: str) -> Plan:
    """Attention, and token importance where the cascade asks for it; all values of the kept keys are used."""
    sizes, tile = dict(operation.extents), tile_keys(spec)
    operation = replace(operation, extents=tuple({**sizes, "k": sizes["m"]}.items()))
    lanes = ceil(max(sizes["e"], sizes["f"]) / spec.head_dim)
    queries, heads = sizes["g"] * sizes["p"], sizes["b"] * sizes["h"] // sizes["g"]
    share = operation.mask.attended_pairs(sizes["p"], sizes["m"]) / (sizes["p"] * sizes["m"])
    block = min(queries, spec.buffer_lines // 2 * spec.vectors_per_line)
    tiles = tuple(
        (KeyTile(keys, together, share), count * blocks)
        for together, blocks in cut(queries, block)
        for keys, count in cut(sizes["m"], tile)
    )
    work = FusedWork(heads * lanes, tiles, queries, block, sizes["m"], sizes["b"])
    phases = [_pass(operation, work, spec, second=False)]
    if operation.cascade == PRUNED_1PASS:
        phases += [_pass(operation, work, spec, second=True), _choice(work, spec)]
    read = sum(phase.traffic.read_bytes for phase in phases)
    joules = spec.dynamic_energy_j(read, sum(phase.analytical_cycles for phase in phases))
    printed = (schedule, *kept_lines(operation), *_lines(operation.cascade, work, spec))
    return Plan(operation, "physical", printed, tuple(phases), joules, {"M0": tile}, stored_bytes(operation, spec))


def tile_keys(spec: SpattenSpec) -> int:
    """Keys of a whole tile: the largest piece of which four fit half of a buffer, so that lines fill in pairs."""
    most = min(TILE_LINES, spec.buffer_lines // 8) * spec.vectors_per_line
    return max((keys for keys in piece_sizes(spec) if keys <= most), default=spec.count_multiple)


def _pass(operation: Operation, work: FusedWork, spec: SpattenSpec, *, second: bool) -> Phase:
    """Attention; or, in the `second` pass, the probabilities of all pairs again.

    The second pass reads no values, and neither keys nor scores of a single query, whose scores are still on chip.
    """
    low = LOW_BITS / 4 if (spec.pruning.low_bit_share or spec.formats.low_bit_share) else 0  # all bits of keys at once
    classes, read = [], 0
    for tile, count in work.tiles:
        vectors, scored = padded(tile.keys, spec), tile.scored(spec)
        keys, values = ceil((TRANSACTIONS[spec.formats.key_bits] + low) * vectors), 0
        products, softmax, results = scored, scored, 0
        if not second:
            values = ceil(TRANSACTIONS[spec.formats.value_bits] * vectors)
            softmax = results = scored + tile.visits
        elif work.keeps_scores:
            keys = products = 0
        classes.append((dram_cycles(keys, spec), products, softmax, dram_cycles(values, spec), results))
        read += REQUEST_BYTES * work.loads * count * (keys + values)
    counts = [count for _, count in work.tiles]
    of_keys, scores, softmax, of_values, results = (
        work.loads * sum(count * cycles for count, cycles in zip(counts, column, strict=True))
        for column in zip(*classes, strict=True)
    )
    busy = {DRAM: of_keys + of_values, SCORES: scores, SOFTMAX: softmax, RESULTS: results}
    longest = float(max(busy.values()))
    einsums = [(einsum.name, UNITS[part_of(einsum)]) for einsum in operation.cascade.einsums
               if (einsum.name in SECOND_PASS) == second and charges(einsum)]  # others: tiles of keys, first states
    spent = shared_activities(einsums, work_of(operation, {"M0": tile_keys(spec)}), busy, spec)
    others = (("QK again", SCORES), ("gather", DRAM))  # scores of the second pass are no Einsum of the text
    spent += [EinsumActivity(name, unit, busy[unit]) for name, unit in others if busy.get(unit)]
    return Phase("importance" if second else operation.name, tuple(spent), Traffic(read), longest,
                 partial(_program, classes, work, spec))  # fmt: skip


def _choice(work: FusedWork, spec: SpattenSpec) -> Phase:
    """The tokens of each sequence after all heads; assumed: half are kept, for which the engine takes longest."""
    cycles = round(selection_mean(work.keys, max(1, work.keys // 2), spec.topk_parallelism))
    program = Program((Task("choice", CHOICE),), ((max(1, cycles),),), (TileRun(0, work.sequences),))
    activity = EinsumActivity("choice", CHOICE, work.sequences * max(1, cycles))  # no Einsum of the text
    return Phase("choice", (activity,), Traffic(), float(activity.cycles), lambda: program)


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


def _lines(cascade: Cascade, work: FusedWork, spec: SpattenSpec) -> tuple[str, ...]:
    """What a report prints."""
    found = [
        f"{cascade.name}: {work.loads} loads of {work.keys} keys in tiles of {tile_keys(spec)}, {work.queries} queries "
        "over each",
        "all values of kept keys, all bits of keys at once: nothing waits for the last score; DRAM at its peak",
        f"softmax {f'takes {spec.softmax_cycles} cycles' if spec.softmax_cycles else 'passes through in no time'}; one "
        "correction for each query and tile, on the softmax lanes and the second product",
    ]
    blocks = ceil(work.queries / work.block)
    if blocks > 1:
        found.append(f"results in progress of {work.block} queries fit: keys come {blocks} times")
    if cascade == PRUNED_1PASS:
        found.append("importance: " + ("scores of the single query stay on chip" if work.keeps_scores else
                                       "a second pass over the keys, scores computed again"))  # fmt: skip
    return tuple(found)
