"""A software pipeline derived for a group: in which epoch after its loads each Einsum of a tile runs.

An epoch lasts as long as the busier array needs for a tile. In it every unit works through its Einsums in the order of
the text, of older tiles where a result would otherwise be waited for. The distances are the smallest that hide drains
and cycles; a running value must not be due before it is issued. A modulo schedule (Rau, 1994); FuseMax (MICRO'24),
section V, gives such a table by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, prod

from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.runs import ARRAY_1D, ARRAY_2D, BoundRun, Resident

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
    early."""
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
    for producer, run in _carried(group):
        between = columns(group) + distances[run.place] - distances[producer.place]
        ready = begin[producer.place] + producer.cycles(group.leaf) + _lag(producer, run) - begin[run.place]
        longest = max(longest, ready / between)
    return longest


def _begins(group: BoundGroup) -> tuple[dict[int, int], int]:
    """When each Einsum begins in its epoch, and how long an epoch is: what the busiest resource needs for a tile."""
    begin: dict[int, int] = {}
    end = dict.fromkeys((ARRAY_2D, ARRAY_1D), 0)
    for run in sorted(group.runs, key=group.is_rare):
        begin[run.place] = end[run.unit]
        end[run.unit] += 0 if group.is_rare(run) else run.cycles(group.leaf)
    return begin, max(1, *end.values(), int(group.busiest_cycles // group.all_tiles))


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
