"""The tasks of one score tile under each policy: which unit, after what, at which stage, interleaved with what.

Loads run `lead` epochs ahead of the arrays. Knows no stream and no sizes of queues. FuseMax (MICRO'24), sections V
and VI: epochs as published, one tile at a time (+Architecture), or a window of tiles taken greedily.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeAlias

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
from cascadesim.accelerators.program import After, Task, turns

LOAD_QUERIES, LOAD_KEYS, STORE, PORTS = "load queries", "load keys and values", "store result", "buffer rows"
QUERIES, KEYS = "queries", "keys"  # queues: slots of the buffer
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
    return TilePipeline(tuple(_epochs(placement, spec, distances(spec, cycles), lead)))


def distances(spec: FuseMaxSpec, cycles: Mapping[str, int]) -> Distances:
    return spec.binding.distances or smallest_distances(cycles, spec.pe_array.rows)


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
    for unit, row in ((ARRAY_2D, EPOCH_2D), (ARRAY_1D, EPOCH_1D)):
        for slot in row:
            stage = lead + getattr(steps, slot.letter)
            group = f"{unit} stream" if slot.shared else None
            task = _task(_find(placement, slot), depends, placement, stage, group)
            yield replace(task, after=tuple(edge for edge in task.after if not _in_turn(edge, slot, row)))


def _in_turn(edge: After, slot: Slot, row: tuple[Slot, ...]) -> bool:
    """Element by element from a member of the same tile that takes its turn before: the turns are the order."""
    before = row[: row.index(slot)]
    shares = any(other.einsum == edge.task and other.shared and other.letter == slot.letter for other in before)
    return slot.shared and shares and edge.streaming and not edge.same_column


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
        placed = _find(placement, Slot(name, "d"))
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


def _find(placement: Placement, slot: Slot) -> Placed:
    return next(placed for placed in placement.einsums if placed.name == slot.einsum)


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


Letter: TypeAlias = Literal["a", "b", "c", "d"]


@dataclass(frozen=True, slots=True)
class Slot:
    """An Einsum's place in the epoch: of the tile `letter`; interleaved with its neighbours where `shared`."""

    einsum: str
    letter: Letter
    shared: bool = False


EPOCH_2D = (  # ( SLNV[b] | BQK[d] ) -> LM[d] -> SLN[c] -> SLD[c]
    Slot("SLNV", "b", shared=True),
    Slot("QK", "d", shared=True),
    Slot("LM", "d"),
    Slot("SLN", "c"),
    Slot("SLD", "c"),
)
EPOCH_1D = (  # ( SPNV[a] | RNV[a] | RM[c] ) -> RD[a] -> PRM[c] -> SPD[c]; AV[a] once per query tile
    Slot("SPNV", "a", shared=True),
    Slot("RNV", "a", shared=True),
    Slot("RM", "c", shared=True),
    Slot("RD", "a"),
    Slot("PRM", "c"),
    Slot("SPD", "c"),
    Slot("AV", "a"),
)


def smallest_distances(cycles: Mapping[str, int], drain_cycles: int) -> Distances:
    """Distances for which an epoch lasts as long as its busier array, no result waited for.

    The 1D array starts its part of the epoch a fixed time after the 2D array (figure 4): of all such times that
    let RM be ready for SLN, the one with the shortest pipeline.
    """
    return _smallest(tuple(sorted(cycles.items())), drain_cycles)


@cache
def _smallest(sorted_cycles: tuple[tuple[str, int], ...], drain_cycles: int) -> Distances:
    cycles = dict(sorted_cycles)
    latest = _times(EPOCH_2D, cycles, 0)["SLN"][0] - _times(EPOCH_1D, cycles, 0)["RM"][1]  # RM is ready for SLN
    found = [_at(skew, cycles, drain_cycles) for skew in range(min(_period(cycles), latest) + 1)]
    return min(found, key=lambda d: (d.a, d.b, d.c)) if found else _unhidden()


def _period(cycles: Mapping[str, int]) -> int:
    """AV is no part of it: it comes once per query tile."""
    rows = (sum(cycles[slot.einsum] for slot in row if slot.einsum != "AV") for row in (EPOCH_2D, EPOCH_1D))
    return max(rows)


def _at(skew: int, cycles: Mapping[str, int], drain: int) -> Distances:
    """Distances where the 1D array is `skew` cycles behind."""
    times = {**_times(EPOCH_2D, cycles, 0), **_times(EPOCH_1D, cycles, skew)}
    start, finish = ({name: pair[which] for name, pair in times.items()} for which in (0, 1))
    epoch = _period(cycles)
    c = _whole_epochs(finish["LM"] + drain - start["RM"], epoch)
    b = c + max(1, _whole_epochs(finish["SLN"] - start["SLNV"], epoch))
    streams = max(start["SLNV"] + drain - start["RNV"], finish["SLNV"] + drain - finish["RNV"])
    denominator = max(finish["SLD"] + drain, finish["SPD"]) - start["RD"]
    sums = max(denominator, finish["PRM"] - start["SPNV"])
    a = max(b + _whole_epochs(streams, epoch), c + _whole_epochs(sums, epoch))
    return Distances(a=max(a, b), b=b, c=c)


def _whole_epochs(wait_cycles: int, epoch: int) -> int:
    """Whole epochs that cover a wait."""
    return max(0, -(-wait_cycles // epoch))


def _unhidden() -> Distances:
    """Where RM always comes too late: the shortest pipeline, whose waits the schedule shows."""
    return Distances(a=3, b=2, c=1)


def _times(row: Sequence[Slot], cycles: Mapping[str, int], begin: int) -> dict[str, tuple[int, int]]:
    """Start and finish of each slot of a row without waits: shared slots take turns, the others follow."""
    shared = [cycles[slot.einsum] for slot in row if slot.shared]
    times: dict[str, tuple[int, int]] = {}
    at = begin + sum(shared)
    for position, slot in enumerate(row):
        if slot.shared:
            times[slot.einsum] = (begin, begin + turns(shared, position))
        else:
            times[slot.einsum] = (at, at + cycles[slot.einsum])
            at += cycles[slot.einsum]
    return times
