"""The tasks of one score tile under each policy: which unit, after what, at which stage, interleaved with what.

Loads run `lead` epochs ahead of the arrays. Knows no stream and no sizes of queues. FuseMax (MICRO'24), sections V
and VI: epochs as published, one tile at a time (+Architecture), or a window of tiles taken greedily.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from cascadesim.accelerators.fusemax.spec import (
    ARRAY_1D,
    ARRAY_2D,
    DRAM,
    GLOBAL_BUFFER,
    QUERY_RANK,
    Distances,
    FuseMaxSpec,
    Placed,
    Placement,
)
from cascadesim.accelerators.mapping.nest import Epochs, EpochSlot
from cascadesim.accelerators.mapping.schedule.pipeline import Wait, row_times, timetable, wait_cycles
from cascadesim.accelerators.mapping.text import find_mapping
from cascadesim.accelerators.program import After, Task

LOAD_QUERIES, LOAD_KEYS, STORE, PORTS = "load queries", "load keys and values", "store result", "buffer rows"
QUERIES, KEYS = "queries", "keys"  # queues: slots of the buffer
MOST_EPOCHS = 1_000  # of a tile; assumed: no array drains for longer (512 cycles take 34 epochs of the shortest tiles)
LONGEST_LEAD = 8  # epochs; assumed: more would only fill the buffer earlier


@dataclass(frozen=True)
class TilePipeline:
    """Tasks in list order. `in_flight` as in Program; None: static order by stage."""

    tasks: tuple[Task, ...]
    in_flight: int | None = None

    def stage(self, name: str) -> int:
        return next((task.stage for task in self.tasks if task.name == name), 0)

    @property
    def last_read(self) -> int:
        """Stage of the last task that reads the keys of its tile, which frees their slot."""
        return max(task.stage for task in self.tasks if KEYS in task.gives_back)

    @property
    def spacing(self) -> int:
        """Tiles that must lie between two of one column, or a running value would be due before it is issued."""
        order = {task.name: position for position, task in enumerate(self.tasks)}
        waits = [0]
        for task in self.tasks:
            for edge in task.after:
                if edge.same_column:
                    later = order[edge.task] >= order[task.name]
                    waits.append(self.stage(edge.task) - task.stage + later)
        return max(waits)


def pipeline(placement: Placement, spec: FuseMaxSpec, cycles: Mapping[str, int], lead: int) -> TilePipeline:
    """Tasks under the policy of `spec`, the arrays `lead` epochs behind the loads. `cycles`: of a tile, by Einsum."""
    policy = spec.binding.policy
    if policy == "interleave":
        return TilePipeline(tuple(_greedy(placement, spec)), spec.binding.in_flight)
    if policy == "serial":
        return TilePipeline(tuple(_serial(placement, spec, lead)))
    return TilePipeline(tuple(_epochs(placement, spec, distances(placement, spec, cycles), lead)))


def _memory(lead: int, last: int, final: str) -> Iterator[Task]:
    """Loads and stores, and the rows that a tile moves through the ports; a store comes before the loads of its epoch.

    The ports follow the loads, and the last running value of the tile follows the ports.
    """
    yield Task(STORE, DRAM, (After(final),), stage=lead + last, gives_back=(QUERIES,))
    yield Task(LOAD_QUERIES, DRAM, takes=(QUERIES,))
    yield Task(LOAD_KEYS, DRAM, takes=(KEYS,))
    yield Task(PORTS, GLOBAL_BUFFER, (After(LOAD_QUERIES), After(LOAD_KEYS)), stage=lead)


def _loaded(placed: Placed, in_order: bool) -> Iterator[After]:
    """Queries come with the first tile of their column, keys and values with the first tile of their row.

    In order, later tiles are behind that one on the same array; taken greedily, they have to wait for it themselves.
    """
    inputs = [operand for operand in placed.operands if operand.name in placed.dram_keeps & placed.buffer_keeps]
    if any(QUERY_RANK in operand.ranks for operand in inputs):
        yield After(LOAD_QUERIES)
        if not in_order:
            yield After(LOAD_QUERIES, same_column=True)
    if any(QUERY_RANK not in operand.ranks for operand in inputs):
        yield After(LOAD_KEYS, latest=not in_order)


def _epochs(placement: Placement, spec: FuseMaxSpec, steps: Distances, lead: int) -> Iterator[Task]:
    depends = Dependences(placement, drained(spec.pe_array.rows))
    yield from _memory(lead, steps.a + 1, _last_computed(placement))
    for unit, row in published_epoch().rows:
        for bracket in row:
            for slot in bracket:
                group = f"{unit} stream" if len(bracket) > 1 else None
                stage = lead + getattr(steps, slot.letter)
                task = _task(_find(placement, slot.einsum), depends, placement, stage, group)
                yield replace(task, after=tuple(edge for edge in task.after if not _in_turn(edge, slot.einsum)))


def _in_turn(edge: After, name: str) -> bool:
    """Element by element from a member of the same tile that takes its turn before: the turns are the order."""
    bracket = next(bracket for _, row in published_epoch().rows for bracket in row
                   if name in (slot.einsum for slot in bracket))  # fmt: skip
    own = next(slot for slot in bracket if slot.einsum == name)
    before = bracket[: bracket.index(own)]
    return edge.streaming and not edge.same_column and EpochSlot(edge.task, own.letter) in before


def _serial(placement: Placement, spec: FuseMaxSpec, lead: int) -> Iterator[Task]:
    """One tile at a time; only RD and AV of a tile run beside QK and LM of the next (stages of the artifact).

    Stages are barriers: RM waits for both arrays and for the drain, the third and the fourth stage for both arrays.
    With its store in the epoch of AV, two tiles of one slot may follow each other without an empty epoch between.
    """
    drain = spec.pe_array.rows
    depends = Dependences(placement, drained_once(drain))
    barriers: Mapping[str, tuple[After, ...]] = {
        "QK": (After("RNV", tiles_back=1), After("SLNV", tiles_back=1)),
        "RM": (After("RD", drain, tiles_back=1), After("AV", drain, tiles_back=1)),
        "SLNV": (After("SPD"),),
        "SPNV": (After("SLD"),),
    }
    yield from _memory(lead, 1, _last_computed(placement))
    for name in ("QK", "LM", "SLN", "SLD", "SLNV", "RD", "AV", "RM", "PRM", "SPD", "SPNV", "RNV"):
        placed = _find(placement, name)
        late = 1 if name in ("RD", "AV") else 0
        yield _task(placed, depends, placement, lead + late, None, barriers.get(name, ()))


def _greedy(placement: Placement, spec: FuseMaxSpec) -> Iterator[Task]:
    depends = Dependences(placement, drained(spec.pe_array.rows))
    yield from _memory(0, 0, _last_computed(placement))
    for placed in placement.einsums:
        yield _task(placed, depends, placement, 0, None, in_order=False)


def _task(
    placed: Placed, depends: Dependences, placement: Placement, stage: int, group: str | None,
    barriers: Iterable[After] = (), in_order: bool = True,
) -> Task:  # fmt: skip
    """Loads come before what reads them, the ports before the last running value; the last reader frees the keys."""
    after = [*depends.of(placed), *barriers, *_loaded(placed, in_order)]
    if placed.name == _last_in_tile(placement):
        after.append(After(PORTS))
    gives = (KEYS,) if placed.name == _last_reader(placement) else ()
    return Task(placed.name, placed.unit, tuple(dict.fromkeys(after)), stage, group, gives_back=gives)


def _last_computed(placement: Placement) -> str:
    """A copy takes no time: its value is there with its producer."""
    return [placed.name for placed in placement.einsums if placed.op_cycles][-1]


def _last_reader(placement: Placement) -> str:
    return [placed.name for placed in placement.einsums if placed.dram_keeps & placed.buffer_keeps][-1]


def _last_in_tile(placement: Placement) -> str:
    return [placed.name for placed in placement.einsums if placement.key_outer in placed.ranks][-1]


def _find(placement: Placement, name: str) -> Placed:
    return next(placed for placed in placement.einsums if placed.name == name)


Lag = Callable[[Placed, Placed], int]  # from a producer to a consumer


@dataclass(frozen=True)
class Dependences:
    """`lag_cycles` of an edge is the business of the policy."""

    placement: Placement
    lag_cycles: Lag

    def of(self, placed: Placed) -> tuple[After, ...]:
        return tuple(dict.fromkeys(self._edges(placed)))

    def _edges(self, consumer: Placed) -> Iterator[After]:
        """An output that iterates was written by its own Einsum one key tile before, as `X0` says."""
        producers = {placed.name: placed for placed in self.placement.einsums}
        for operand in consumer.operands:
            producer = producers.get(operand.name.removesuffix("0"))
            if producer is None or operand.is_output:
                continue
            previous = operand.name not in producers
            yield After(
                producer.name,
                self.lag_cycles(producer, consumer),
                same_column=previous,
                streaming=self._streams(producer, consumer),
            )

    def _streams(self, producer: Placed, consumer: Placed) -> bool:
        """Element by element: both walk a rank of the intermediate one element after another."""
        return bool(self._serial(producer) & self._serial(consumer) & producer.operands[-1].ranks)

    def _serial(self, placed: Placed) -> frozenset[str]:
        keys = {self.placement.key_inner} if placed.unit == ARRAY_2D else set()
        return placed.ranks - {"b", "h", "p", self.placement.key_outer} - keys


def drained(drain_cycles: int) -> Lag:
    """Every result that the 2D array hands to the 1D array has to leave its columns first."""
    return lambda producer, consumer: drain_cycles if (producer.unit, consumer.unit) == (ARRAY_2D, ARRAY_1D) else 0


def drained_once(drain_cycles: int) -> Lag:
    """+Architecture: one drain per tile is exposed, that of LM, which stops both arrays (artifact)."""
    return lambda producer, consumer: drain_cycles if (producer.name, consumer.name) == ("LM", "RM") else 0


@cache
def published_epoch() -> Epochs:
    """What each array does in an epoch, and of which tile: FuseMax, figure 4, as the mapping text has it."""
    (group,) = find_mapping("fusemax-epochs").groups
    assert group.epochs is not None
    return group.epochs


def distances(placement: Placement, spec: FuseMaxSpec, cycles: Mapping[str, int]) -> Distances:
    """As given, or the smallest for which an epoch lasts as long as its busier array, no result waited for."""
    return spec.binding.distances or smallest_distances(placement, cycles, spec.pe_array.rows)


def smallest_distances(placement: Placement, cycles: Mapping[str, int], drain_cycles: int) -> Distances:
    """Of the published epoch; `cycles` of a tile, by Einsum. What comes once per query tile takes no time of it."""
    table, depends = published_epoch(), Dependences(placement, drained(drain_cycles))
    late = {placed.name for placed in placement.einsums if placement.key_outer not in placed.ranks}
    rows = {unit: [[slot.einsum for slot in bracket] for bracket in row] for unit, row in table.rows}
    times = {name: span for row in rows.values() for name, span in row_times(row, cycles, late).items()}
    epoch = max(sum(cycles[name] for bracket in row for name in bracket if name not in late) for row in rows.values())
    letters = {slot.einsum: slot.letter for slot in table.slots}
    units = {placed.name: placed.unit for placed in placement.einsums}
    waits = tuple(Wait(letters[edge.task], letters[name], wait_cycles(times[edge.task], times[name], edge.streaming)
                  + edge.lag_cycles, (units[edge.task] == ARRAY_1D) - (units[name] == ARRAY_1D))
             for name in letters for edge in depends.of(_find(placement, name))
             if not edge.same_column and not _in_turn(edge, name))  # fmt: skip
    return Distances(**timetable(table.letters, epoch, waits, longest=MOST_EPOCHS).ages)
