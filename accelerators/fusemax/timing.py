"""How long the Einsums of an attention operation keep the two arrays busy, how stages add up, and the program of it.

A tile costs its full cycles, however many of its queries and keys are real; occupancy says how many are. Knows sizes
and operation costs; knows no dependences beyond the stages of the published formulas. FuseMax (MICRO'24), section V
(`epochs`), section VI (`serial`); formulas of its artifact.

The program is what the cycle-level engine runs: tasks, classes of tiles, stream, queues. It chooses how far loads run
ahead, splits the buffer between query slots and key slots, and leaves epochs empty where a value or a slot would
be due before it can be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, prod

from cascadesim.accelerators.fusemax.actions import TileRows
from cascadesim.accelerators.fusemax.pipeline import (
    KEYS,
    LOAD_KEYS,
    LOAD_QUERIES,
    LONGEST_LEAD,
    PORTS,
    QUERIES,
    STORE,
    TilePipeline,
    distances,
    pipeline,
    published_epoch,
)
from cascadesim.accelerators.fusemax.spec import ARRAY_1D, ARRAY_2D, FuseMaxSpec, Placed, Placement, Policy
from cascadesim.accelerators.mapping.nest import turns_text
from cascadesim.accelerators.program import Program, Queue, Repeat, TileRun
from cascadesim.accelerators.protocol import EinsumActivity
from cascadesim.accelerators.spatial.attention_tiles import AttentionTiles
from cascadesim.accelerators.spatial.tile_order import KeyRow, Kind, Slots, TileStream, bubbles, flow_of
from cascadesim.accelerators.spec import differences_of_exponentials, on_arrays
from cascadesim.einsum_cascades.models.operation import TiledMask
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL

# Stages of a tile: what the 2D array and the 1D array do meanwhile (artifact; spec of the two published schedules).
STAGES: Mapping[Policy, tuple[tuple[frozenset[str], frozenset[str]], ...]] = {
    "epochs": (
        (frozenset({"QK", "LM"}), frozenset({"RD", "RNV", "AV"})),  # of this tile | of the tile before
        (frozenset(), frozenset({"RM"})),
        (frozenset({"SLN", "SLD"}), frozenset({"PRM", "SPD"})),
        (frozenset({"SLNV"}), frozenset({"SPNV"})),
    ),
    "serial": (
        (frozenset({"QK", "LM"}), frozenset({"RD", "AV"})),
        (frozenset(), frozenset({"RM"})),
        (frozenset({"SLN", "SLD"}), frozenset({"PRM", "SPD"})),
        (frozenset({"SLNV"}), frozenset({"SPNV", "RNV"})),
    ),
}


@dataclass(frozen=True)
class ArrayTiming:
    """Cycles and useful work of each Einsum. `spec`: with the rows and columns of the tile, of `elements` there are."""

    spec: FuseMaxSpec
    elements: int
    placement: Placement
    tiles: AttentionTiles
    depths: Mapping[str, int]

    def tile_cycles(self, placed: Placed) -> int:
        """Cycles of one tile: every point of it that the unit does one after another."""
        depth = prod(self.depths[rank] for rank in placed.ranks & set(self.depths))
        if placed.unit == ARRAY_2D:
            return depth * placed.op_cycles
        serial_keys = self.tiles.rows if self.placement.key_inner in placed.ranks else 1
        return depth * placed.op_cycles * serial_keys * -(-self.tiles.columns // self.spec.vector_array.lanes)

    def times(self, placed: Placed) -> int:
        """How many tiles do it: every score tile, or every query tile once its last key tile has passed."""
        if self.placement.key_outer in placed.ranks:
            return self.tiles.tiles
        return self.tiles.shape.instances * int((self.tiles.visits > 0).sum())

    def cycles(self) -> dict[str, int]:
        """Busy cycles of each Einsum."""
        return {placed.name: self.tile_cycles(placed) * self.times(placed) for placed in self.placement.einsums}

    def activity(self, placed: Placed, operations: Mapping[str, int]) -> EinsumActivity:
        """`operations`: those of the cascade, which a part of the tiles' cycles is useful for."""
        on_2d = placed.unit == ARRAY_2D
        lanes = self.elements if on_2d else self.spec.vector_array.lanes
        can = self.spec.pe_array.operations if on_2d else self.spec.vector_array.operations
        differences = operations.get("exp", 0) * (differences_of_exponentials(placed.einsum.expression) > 0)
        useful = can.cycles_of(on_arrays(operations), differences)
        cycles = self.tile_cycles(placed) * self.times(placed)
        return EinsumActivity(placed.name, placed.unit, cycles, operations, useful / (cycles * lanes))

    def activities(self, work: Mapping[str, Mapping[str, int]]) -> tuple[EinsumActivity, ...]:
        """`work`: operations of each Einsum. A copy keeps no array busy."""
        computed = (placed for placed in self.placement.einsums if placed.op_cycles)
        return tuple(self.activity(placed, work[placed.name]) for placed in computed)


def timing_of(spec: FuseMaxSpec, placement: Placement, tiles: AttentionTiles, depths: Mapping[str, int]) -> ArrayTiming:
    """The timing of the part of the array that the tiles use."""
    sizes = {"rows": tiles.rows, "columns": tiles.columns}
    used = spec.model_copy(update={"pe_array": spec.pe_array.model_copy(update=sizes)})
    return ArrayTiming(used, spec.pe_array.elements, placement, tiles, depths)


def busy_cycles(placement: Placement, cycles: Mapping[str, int], unit: str) -> int:
    return sum(cycles[placed.name] for placed in placement.on(unit))


def staged_cycles(policy: Policy, placement: Placement, cycles: Mapping[str, int], stall_cycles: int) -> int:
    """Compute cycles of the published schedules from the busy cycles of each Einsum over all tiles.

    epochs: four stages, each as long as the slower array. serial: the same with the drain exposed in each tile.
    interleave: both arrays overlap freely.
    """
    if policy == "interleave":
        return max(busy_cycles(placement, cycles, unit) for unit in (ARRAY_2D, ARRAY_1D))
    stages = STAGES[policy]
    total = sum(max(sum(cycles[name] for name in side) for side in stage) for stage in stages)
    return total + (stall_cycles if policy == "serial" else 0)


def check_policy(policy: Policy, placement: Placement) -> None:
    """The published schedules are for the Einsums of the published cascade."""
    known = frozenset().union(*(side for stage in STAGES["epochs"] for side in stage))
    odd = {placed.name for placed in placement.einsums} ^ known
    if policy != "interleave" and odd:
        raise CascadeSimError(
            f"binding.policy {policy} is for the Einsums of attention-1pass; {placement.cascade.name} differs in "
            f"{', '.join(sorted(odd))}: use binding.policy=interleave with binding.in_flight"
        )


def mapping_lines(timing: ArrayTiming, resident_words: int) -> tuple[str, ...]:
    return (
        *_loop_nest(timing.placement, timing.tiles, timing.elements),
        *(_array(timing, unit) for unit in (ARRAY_2D, ARRAY_1D)),
        _buffer(timing, resident_words),
        *_binding(timing),
    )


def _loop_nest(placement: Placement, tiles: AttentionTiles, elements: int) -> Iterator[str]:
    shape = tiles.shape
    heads = f", {shape.group} query heads each" if shape.group > 1 else ""
    packed = f", {shape.group} heads side by side" if tiles.packed and shape.group > 1 else ""
    yield f"{placement.cascade.name}: {tiles.tiles:,} score tiles, mask {shape.mask}"
    if shape.mask != FULL:
        met = f"{tiles.visits.mean():,.1f} of them on average"
        which = ("of its list" if isinstance(shape.mask, TiledMask) else
                 "from its first to its last attended key (extra keys besides)")
        yield f"each query tile meets the key tiles {which}: {met}"
    yield f"for instance in {shape.instances:,}  # batch x key/value heads{heads}"
    yield f"  for p2 in {tiles.P2:,}  # groups of resident query tiles"
    yield f"    for {placement.key_outer} in {tiles.key_tiles:,}  # key tiles: {shape.keys:,} keys in {tiles.rows:,}s"
    queries = f"{shape.queries:,} queries in {tiles.columns:,}s{packed}"
    yield f"      for p1 in {tiles.P1:,}  # resident query tiles of {tiles.query_tiles:,}: {queries}"
    yield f"        in space: {placement.key_inner} over {tiles.rows:,} rows, p0 over {tiles.columns:,} columns"
    if tiles.rows * tiles.columns < elements:
        yield f"        {tiles.rows * tiles.columns:,} of {elements:,} elements: more would be no faster"
    yield f"splits: {placement.key_inner.upper()} = {tiles.rows:,}"


def _array(timing: ArrayTiming, unit: str) -> str:
    parts = []
    for placed in timing.placement.on(unit):
        per_query_tile = timing.placement.key_outer not in placed.ranks
        parts.append(f"{placed.name} {timing.tile_cycles(placed):,}{' per query tile' if per_query_tile else ''}")
    return f"{unit}, cycles per score tile: {', '.join(parts)}"


def _buffer(timing: ArrayTiming, resident_words: int) -> str:
    tiles, word = timing.tiles, timing.spec.word_bytes
    resident = ", ".join(timing.placement.resident)
    query_bytes = tiles.columns * resident_words * word
    key_bytes = tiles.rows * (tiles.shape.query_depth + tiles.shape.value_depth) * word
    return (
        f"global_buffer: {tiles.P1:,} query tiles ({tiles.buffer_tiles:,} would fit) of {query_bytes:,} bytes each "
        f"({resident}), beside them room for {tiles.kv_slots:,} key and value tiles of {key_bytes:,} bytes"
    )


def _binding(timing: ArrayTiming) -> Iterator[str]:
    binding = timing.spec.binding
    if binding.policy == "interleave":
        yield f"binding: interleave, up to {binding.in_flight} tiles at once, each unit takes what can start first"
        return
    if binding.policy == "serial":
        yield "binding: serial, one tile at a time, its drain of LM exposed"
        return
    cycles = {placed.name: timing.tile_cycles(placed) for placed in timing.placement.einsums}
    steps = distances(timing.placement, timing.spec, cycles)
    ages = ", ".join(f"{letter} {getattr(steps, letter)}" for letter in "abcd")
    yield f"binding: epochs, tiles a < b < c < d in order of entry; epochs since a tile entered: {ages}"
    for (_, row), name in zip(published_epoch().rows, ("2D", "1D"), strict=True):
        yield f"  {name}: {' -> '.join(map(turns_text, row))}"


def stored_words(placement: Placement, depths: Mapping[str, int]) -> int:
    """Words that a store moves for each query: at least one, which frees its slot."""
    return max(1, sum(prod(depths[rank] for rank in ranks) for ranks in placement.results))


@dataclass(frozen=True)
class Simulation:
    """Everything the program is made of."""

    timing: ArrayTiming
    stream: TileStream
    slots: Slots
    rows: TileRows

    @cached_property
    def cycles(self) -> dict[str, int]:
        """Cycles of a whole tile, by Einsum."""
        return {placed.name: self.timing.tile_cycles(placed) for placed in self.timing.placement.einsums}

    @cached_property
    def pipeline(self) -> TilePipeline:
        """The pipeline whose loads run ahead as far as the buffer has room."""
        chosen = self._pipeline(0)
        if chosen.in_flight is None:
            for lead in range(1, self._wanted_lead() + 1):
                longer = self._pipeline(lead)
                if max(self._bubbles(longer)) > 0:
                    break
                chosen = longer
        return chosen

    def _pipeline(self, lead: int) -> TilePipeline:
        return pipeline(self.timing.placement, self.timing.spec, self.cycles, lead)

    def _wanted_lead(self) -> int:
        """Enough epochs for what one tile may load and store."""
        tiles, placement = self.stream.tiles, self.timing.placement
        transfer = sum(self._transfers(Kind(tiles.columns, tiles.rows, tiles.columns)).values())
        epoch = max(busy_cycles(placement, self.cycles, unit) for unit in (ARRAY_2D, ARRAY_1D))
        return min(LONGEST_LEAD, 1 + ceil(transfer / epoch))

    def _bubbles(self, chosen: TilePipeline) -> tuple[int, int]:
        """Empty epochs that slots need: after each group of resident queries, after each row of keys."""
        if chosen.in_flight is not None:
            return 0, 0
        return bubbles(flow_of(self.stream), self.slots, chosen.stage(STORE), chosen.last_read)

    @cached_property
    def empty_epochs(self) -> tuple[int, int]:
        """That slots need: after each group of resident queries, after each row of keys."""
        return self._bubbles(self.pipeline)

    def missing_epochs(self, row: KeyRow) -> int:
        """Empty epochs after a row: for its slot of keys, and for running values that the next row takes up."""
        _, after_row = self.empty_epochs
        spacing = self.pipeline.spacing if self.pipeline.in_flight is None else 0
        return max(after_row, spacing - row.spacing if row.spacing is not None else 0)

    def _transfers(self, kind: Kind) -> dict[str, int]:
        """Cycles of the DRAM channel for each task."""
        shape = self.stream.tiles.shape
        words = {
            STORE: kind.finished_queries * stored_words(self.timing.placement, self.timing.depths),
            LOAD_QUERIES: kind.fetched_queries * shape.query_depth,
            LOAD_KEYS: kind.fetched_keys * (shape.query_depth + shape.value_depth),
        }
        spec = self.timing.spec
        return {name: ceil(count * spec.word_bytes / spec.dram_bytes_per_cycle) for name, count in words.items()}

    def class_cycles(self, kind: Kind) -> Mapping[str, int]:
        outer = self.timing.placement.key_outer
        einsums = {
            placed.name: self.cycles[placed.name] if outer in placed.ranks or kind.finished_queries else 0
            for placed in self.timing.placement.einsums
        }
        return {**einsums, **self._transfers(kind), PORTS: self.rows.port_cycles(kind)}

    def program(self) -> Program:
        chosen, classes = self.pipeline, _Classes(self)
        stream = (Repeat(self.stream.instances, tuple(self._groups(classes))),)
        queues = (Queue(QUERIES, self.slots.queries), Queue(KEYS, self.slots.keys))
        table = classes.table(tuple(task.name for task in chosen.tasks))
        return Program(chosen.tasks, table, stream, queues, chosen.in_flight, keeps=classes.keeps)

    def _groups(self, classes: _Classes) -> Iterator[Repeat]:
        for group in self.stream.groups:
            rows = (self._row(row, classes) for row in group.rows)
            yield Repeat(group.times, (*rows, *classes.bubbles(self.empty_epochs[0])))

    def _row(self, row: KeyRow, classes: _Classes) -> Repeat:
        runs = (
            TileRun(classes.index(run.kind), run.tiles, run.first_column, fresh=run.kind.fetched_queries > 0)
            for run in row.runs
        )
        return Repeat(row.times, (*runs, *classes.bubbles(self.missing_epochs(row))))


@dataclass
class _Classes:
    """Kinds of tiles numbered as they appear; class 0 is an empty epoch."""

    simulation: Simulation
    numbers: dict[Kind, int] = field(default_factory=dict)

    def index(self, kind: Kind) -> int:
        return self.numbers.setdefault(kind, len(self.numbers) + 1)

    def bubbles(self, epochs: int) -> tuple[TileRun, ...]:
        return (TileRun(0, epochs),) if epochs > 0 else ()

    def table(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        known = [self.simulation.class_cycles(kind) for kind in self.numbers]
        return ((0,) * len(names), *(tuple(cycles[name] for name in names) for cycles in known))

    @property
    def keeps(self) -> tuple[tuple[str, ...], ...]:
        return ((), *(() if kind.releases_keys else (KEYS,) for kind in self.numbers))
