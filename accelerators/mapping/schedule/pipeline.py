"""A software pipeline derived for a group: in which epoch after its loads each Einsum of a tile runs.

An epoch lasts as long as the busier array needs for a tile. In it every unit works through its Einsums in the order of
the text, of older tiles where a result would otherwise be waited for, or in that of a table (`overlap epochs`). The
distances are the smallest that hide drains and cycles, or those of the table; a running value must not be due before it
is issued. A modulo schedule (Rau, 1994); FuseMax (MICRO'24), section V, gives such a table by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from math import ceil, prod
from typing import NamedTuple, TypeVar

from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.runs import ARRAY_1D, ARRAY_2D, BoundRun, Resident
from cascadesim.accelerators.program import turns

Key = TypeVar("Key", bound=Hashable)
MOST_STAGES = 12  # assumed: longer pipelines would not fit registers
MOST_LEAD = 8  # assumed: epochs that loads run ahead of the arrays, which take room for as many tiles


def lead(group: BoundGroup) -> int:
    """Epochs that loads run ahead of the arrays: one, or as many as a tile takes to come that is used for several."""
    epochs = (min(period, ceil(cycles / left) if left > 0 else period) for period, cycles, left, _ in loads(group))
    return min(max((1, *epochs)), MOST_LEAD)


def loads_ahead(group: BoundGroup) -> int:
    """Tiles that are not open yet for which loads may come, where tiles are taken as they come: one that is used for
    several may take longer to come than the open ones last."""
    if group.stages is not None or group.in_flight == 1:
        return 0
    return max(0, lead(group) - (group.in_flight - 1))


def loads(group: BoundGroup) -> Iterator[tuple[int, float, float, int]]:
    """Of each input that comes several times: tiles that use what comes at once, cycles that it takes to come, those of
    an epoch that the other transfers leave to it, and how often it comes."""
    _, epoch = _begins(group)
    for read in group.reads:
        words, filled, source = group.arriving_words(read), group.filled(read), group.source(read)
        per_word = group.cycles_per_word(source)
        others = (sum(group.memory_words[source]) * per_word - filled * per_word) / group.all_tiles
        for period in several_tiles(group, read):
            yield period, words * per_word, epoch - others, filled // words


def several_tiles(group: BoundGroup, read: Resident) -> Iterator[int]:
    """Tiles that use what comes of an input at once, if it comes several times."""
    if group.filled(read) > group.arriving_words(read) or group.problem.instances > 1:
        moving = [number for number in range(read.piece or read.depth) if group.loops[number].axis in read.axes]
        yield fewest(group, max(moving, default=-1) + 1)


def load_wait_cycles(group: BoundGroup) -> float:
    """Cycles that loads of a tile that is used for several are waited for: they run ahead by fewer epochs than it takes
    to come."""
    ahead = group.in_flight - 1 if group.stages is None else min(group.stages.values())
    return sum(max(0.0, cycles - ahead * left) * times for period, cycles, left, times in loads(group)
               if period > ahead)  # fmt: skip


def stages(group: BoundGroup) -> Mapping[int, int] | None:
    """Place of each Einsum -> epochs after its loads, which run one ahead; None where a running value would be due too
    early. Raises IllegalMapping for a table in which a result is read before it can be there."""
    if group.epochs is not None:
        ages, letters = _tabled(group).ages, _letters(group)
        tabled = {run.place: 1 + ages[letters[run.place]] for run in group.runs}
        _check(group, tabled)
        return tabled
    begin, epoch = _begins(group)
    found: dict[int, int] = {}
    for run in group.runs:
        own = 1
        for producer, previous in group.feeding(run):
            if previous or producer.place not in found:
                continue
            ready = begin[producer.place] + _lag(producer, run) - begin[run.place]
            if producer.streams_into(run):
                ready = max(ready, ready + producer.cycles(group.leaf) - run.cycles(group.leaf))
            else:
                ready += producer.cycles(group.leaf)
            own = max(own, found[producer.place] + max(0, -(-ready // epoch)))
        found[run.place] = own
    late = any(found[producer.place] - found[run.place] >= columns(group) for producer, run in _carried(group))
    return None if late or max(found.values()) > MOST_STAGES else found


def epoch_cycles(group: BoundGroup, distances: Mapping[int, int]) -> float:
    """How long an epoch takes: as long as the busier array, and so long that running values are there when due."""
    begin, epoch = _begins(group)
    longest = float(epoch)
    apart = max(columns(group), spacing(group) if group.epochs is not None else 0)
    for producer, run in _carried(group):
        between = apart + distances[run.place] - distances[producer.place]
        ready = begin[producer.place] + producer.cycles(group.leaf) + _lag(producer, run) - begin[run.place]
        if between > 0:  # in a table it may come earlier in the same epoch
            longest = max(longest, ready / between)
    return longest


def _begins(group: BoundGroup) -> tuple[dict[int, int], int]:
    """When each Einsum begins in its epoch, and how long an epoch is: what the busiest resource needs for a tile."""
    if group.epochs is not None:
        skew, times = _tabled(group).skew, _times(group)
        begin = {run.place: times[run.place][0] + skew * (run.unit == ARRAY_1D) for run in group.runs}
        return begin, _epoch(group)
    begin, end = {}, dict.fromkeys((ARRAY_2D, ARRAY_1D), 0)
    for run in sorted(group.runs, key=group.is_rare):
        begin[run.place] = end[run.unit]
        end[run.unit] += 0 if group.is_rare(run) else run.cycles(group.leaf)
    return begin, _epoch(group)


def _epoch(group: BoundGroup) -> int:
    busy: Counter[str] = Counter()
    for run in group.runs:
        busy[run.unit] += 0 if group.is_rare(run) else run.cycles(group.leaf)
    return max(1, *busy.values(), int(group.busiest_cycles // group.all_tiles))


class Timetable(NamedTuple):
    """Letter -> epochs behind the youngest tile; cycles by which the 1D array begins its epoch later."""

    ages: Mapping[str, int]
    skew: int


class Wait(NamedTuple):
    """Of a result and its reader: the letters of their tiles, cycles from the reader's begin in its epoch to when it
    may begin, and how these change with the skew of the 1D array: +1, -1, or 0 within one unit."""

    made: str
    read: str
    cycles: int
    way: int


def issue_order(group: BoundGroup) -> tuple[BoundRun, ...]:
    """Einsums in the order in which their units take them: that of the table, or of the text."""
    by_name = {run.work.name: run for run in group.runs}
    return group.runs if group.epochs is None else tuple(by_name[slot.einsum] for slot in group.epochs.slots)


def _letters(group: BoundGroup) -> dict[int, str]:
    assert group.epochs is not None
    return {run.place: slot.letter for run, slot in zip(issue_order(group), group.epochs.slots, strict=True)}


def _brackets(group: BoundGroup) -> Iterator[tuple[BoundRun, ...]]:
    """Einsums that take turns, or one by itself, in the order of the table."""
    by_name = {run.work.name: run for run in group.runs}
    for _, row in () if group.epochs is None else group.epochs.rows:
        yield from (tuple(by_name[slot.einsum] for slot in together) for together in row)


def turns_of(group: BoundGroup, run: BoundRun) -> str | None:
    """The name of the turns that an Einsum takes with others; None where it has its unit to itself."""
    found = next((bracket for bracket in _brackets(group) if run in bracket), (run,))
    return None if len(found) == 1 else f"turns of {found[0].work.name}"


def in_turn(group: BoundGroup, producer: BoundRun, run: BoundRun) -> bool:
    """Whether an Einsum takes turns with one that makes, for the same tile, what it reads element by element."""
    bracket = next((each for each in _brackets(group) if run in each), (run,))
    if producer not in bracket[: bracket.index(run)] or _letters(group)[producer.place] != _letters(group)[run.place]:
        return False
    return bool(set(producer.time) & set(run.time) & producer.work.output.axes)


def _times(group: BoundGroup) -> dict[int, tuple[int, int]]:
    """Begin and end of each Einsum of the table in its epoch; what comes after a loop takes no time of others."""
    found: dict[int, tuple[int, int]] = {}
    for unit in (ARRAY_2D, ARRAY_1D):
        row = [bracket for bracket in _brackets(group) if bracket[0].unit == unit]
        cycles = {run.place: run.cycles(group.leaf) for bracket in row for run in bracket}
        late = {run.place for bracket in row for run in bracket if group.is_rare(run)}
        found |= row_times([[run.place for run in bracket] for bracket in row], cycles, late)
    return found


def row_times(
    row: Sequence[Sequence[Key]], cycles: Mapping[Key, int], late: Collection[Key] = ()
) -> dict[Key, tuple[int, int]]:
    """Begin and end of each slot of a unit's row without waits: those of one bracket take turns, brackets follow each
    other. What is `late` holds up nothing."""
    found: dict[Key, tuple[int, int]] = {}
    begin = 0
    for bracket in row:
        own = [cycles[slot] for slot in bracket]
        found |= {slot: (begin, begin + turns(own, place)) for place, slot in enumerate(bracket)}
        begin += sum(cycles[slot] for slot in bracket if slot not in late)
    return found


def _tabled(group: BoundGroup) -> Timetable:
    assert group.epochs is not None
    letters, distances = group.epochs.letters, dict(group.epochs.distances)
    given = tuple(distances[letter] for letter in letters) if distances else None
    return timetable(letters, _epoch(group), tuple(_waits(group)), given)


@cache
def timetable(
    letters: tuple[str, ...], epoch: int, waits: tuple[Wait, ...], given: tuple[int, ...] | None = None,
    longest: int = MOST_STAGES,
) -> Timetable:  # fmt: skip
    """The distances of a table: as given, or the smallest that hide drains and cycles, by the skew of the 1D array that
    allows the shortest pipeline. Where none hides them, each tile an epoch behind the next: the schedule shows waits.

    `letters` of the tiles, the oldest first; `epoch`: its cycles; `longest`: epochs that a tile may be old.
    """
    across = [(wait.cycles, -wait.way) for wait in waits if wait.way]
    skews = sorted({0, *(way * cycles % epoch - back for cycles, way in across for back in (0, epoch))})
    found = [(ages, skew) for skew in skews
             if (ages := _ages(letters, [(made, read, max(0, -(-(cycles + way * skew) // epoch)))
                                         for made, read, cycles, way in waits], longest)) is not None]  # fmt: skip
    if given is not None:
        found = [(given, skew) for ages, skew in found
                 if all(own >= least for own, least in zip(given, ages, strict=True))] or [(given, 0)]  # fmt: skip
    ages, skew = min(found, key=lambda each: each[0], default=(tuple(range(len(letters) - 1, -1, -1)), 0))
    return Timetable(dict(zip(letters, ages, strict=True)), skew)


def _waits(group: BoundGroup) -> Iterator[Wait]:
    """What each Einsum of a table waits for."""
    times, letters = _times(group), _letters(group)
    for run in group.runs:
        for producer, previous in group.feeding(run):
            if previous or in_turn(group, producer, run):
                continue
            cycles = wait_cycles(times[producer.place], times[run.place], producer.streams_into(run))
            way = (producer.unit == ARRAY_1D) - (run.unit == ARRAY_1D)
            yield Wait(letters[producer.place], letters[run.place], cycles + _lag(producer, run), way)


def wait_cycles(made: tuple[int, int], read: tuple[int, int], streams: bool) -> int:
    """Cycles from a reader's begin to when its result is there, or the first and the last element where it `streams`;
    each from its begin to its end in one epoch."""
    return max(made[0] - read[0], made[1] - read[1]) if streams else made[1] - read[0]


def _ages(letters: tuple[str, ...], waits: list[tuple[str, str, int]], longest: int) -> tuple[int, ...] | None:
    """The smallest distances of tiles, of which older ones are at least as far, that let every reader wait for so many
    epochs; None where a tile would have to wait for itself."""
    ages = dict.fromkeys(letters, 0)
    order = [(younger, older, 0) for older, younger in pairwise(letters)]
    while max(ages.values()) <= longest:
        late = [(made, read, epochs) for made, read, epochs in (*order, *waits) if ages[read] < ages[made] + epochs]
        if not late:
            return tuple(ages.values()) if not ages[letters[-1]] else None
        for made, read, epochs in late:
            ages[read] = max(ages[read], ages[made] + epochs)
    return None


def _check(group: BoundGroup, found: Mapping[int, int]) -> None:
    """Raises IllegalMapping where a table waits for itself: in order, a unit takes nothing else meanwhile."""
    letters, brackets = _letters(group), list(_brackets(group))
    bracket_of = {run.place: number for number, bracket in enumerate(brackets) for run in bracket}
    before: dict[int, set[int]] = {number: set() for number in range(len(brackets))}
    for number, bracket in enumerate(brackets):
        before[number] |= {number - 1} if number and brackets[number - 1][0].unit == bracket[0].unit else set()
    for run in group.runs:
        for producer, previous in group.feeding(run):
            if previous or in_turn(group, producer, run):
                continue
            names = f"{run.work.name}[{letters[run.place]}] reads {producer.work.name}[{letters[producer.place]}]"
            epochs = found[run.place] - found[producer.place]
            if epochs < 0:
                later = f"{-epochs} epoch{'s' * (epochs < -1)} later"
                raise IllegalMapping(f"overlap epochs: {names}, which comes {later}; give {run.work.name} an older "
                                     f"tile")  # fmt: skip
            if epochs == 0 and bracket_of[run.place] == bracket_of[producer.place]:
                raise IllegalMapping(f"overlap epochs: {names} of the same turns; give {run.work.name} an older tile")
            if epochs == 0:
                before[bracket_of[run.place]].add(bracket_of[producer.place])
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        names = " waits for ".join(brackets[number][0].work.name for number in reversed(error.args[1]))
        raise IllegalMapping(f"overlap epochs: in one epoch {names}; give one of them an older tile") from None


def spacing(group: BoundGroup) -> int:
    """Tiles from one step of a running value to the next that a table needs, or it would be due before it is issued."""
    if group.epochs is None:
        return 0
    found = group.stages or stages(group) or {}
    place_of = {run.place: number for number, bracket in enumerate(_brackets(group)) for run in bracket}
    waits = [found[producer.place] - found[run.place]
             + (producer.unit != run.unit or place_of[producer.place] >= place_of[run.place])
             for producer, run in _carried(group)]  # fmt: skip
    return max(0, *waits, 0)


def _carried(group: BoundGroup) -> Iterator[tuple[BoundRun, BoundRun]]:
    """Producers of running values, with those that read them a step later."""
    return ((producer, run) for run in group.runs for producer, previous in group.feeding(run) if previous)


def _lag(producer: BoundRun, consumer: BoundRun) -> int:
    return producer.drain_cycles if producer.unit != consumer.unit else 0


def stores_at(group: BoundGroup, run: BoundRun) -> int:
    """Epochs after the loads of its tile at which the result of an Einsum has left the array."""
    if group.stages is None:
        return 0
    begin, epoch = _begins(group)
    done = begin[run.place] + run.cycles(group.leaf) + run.drain_cycles
    return group.stages[run.place] + max(1, -(-done // epoch))


def fewest(group: BoundGroup, depth: int) -> int:
    """Iterations of the loops inside the first ones taken together, at least: those of partial stretches.

    Of queries and keys one, where tiles are left out.
    """
    extents, left_out = group.problem.extents, PAIRED if group.attended is not None else ()
    return prod(-(-min(loop.outer, extents[loop.axis] % loop.outer or loop.outer) // loop.step)
                for loop in group.loops[depth:] if loop.axis not in left_out)  # fmt: skip


def columns(group: BoundGroup) -> int:
    """Tiles between two steps of a running value, at least: those of the loops inside the last that carries it."""
    axes = frozenset().union(*(run.work.iterates for run in group.runs))
    places = [number for number, loop in enumerate(group.loops) if loop.axis in axes]
    return fewest(group, places[-1] + 1) if places else 2**62
