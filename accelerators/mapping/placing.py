"""Binds Einsums that share loops: what comes from outside, and what they make, each in its place and in copies.

What the group makes is placed by rules: a sum or a running value outside the loop that it is carried over, in the
buffer; what is made and used up in one tile goes straight to its only reader on the same unit if that takes each word
once, else into registers, else into the buffer. FuseMax (MICRO'24), section V, keeps the same tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import prod

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import (
    Draft,
    IllegalMapping,
    Kept,
    illegal,
    illegal_memories,
    illegal_slices,
    illegal_steps,
    outputs_of,
    outside_of_late,
)
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Tile, Work
from cascadesim.accelerators.mapping.runs import (
    ACCUMULATORS,
    ARRAY_1D,
    ARRAY_2D,
    GLOBAL_BUFFER,
    BoundLoop,
    BoundRun,
    Resident,
    home,
    parts,
)
from cascadesim.accelerators.mapping.schedule.pipeline import fewest, lead, stages, stores_at
from cascadesim.accelerators.mapping.tiling import inputs_of
from cascadesim.accelerators.spec import SpatialArray

OVERLAPS = (8, 6, 4, 3, 2, 1)  # tiles in flight that are tried; assumed: more only wait for the busiest unit


def bind(draft: Draft) -> BoundGroup:
    """Bind a draft; of one that asks for a pipeline and cannot have it, with as many tiles open as fit and pay off.

    Raises IllegalMapping with the first reason.
    """
    for reason in reasons(draft):
        raise IllegalMapping(f"{draft.problem.cascade.name}: {reason}")
    group = bound(draft)
    if draft.in_flight is not None or draft.own or group.stages is not None:
        return group
    more = (bound(draft.overlapped(tiles)) for tiles in OVERLAPS if tiles > group.in_flight)
    return min((*(each for each in more if each.fits), group), key=lambda each: each.bound_cycles)


def reasons(draft: Draft) -> Iterator[str]:
    """Every reason why a draft is illegal, whatever the room."""
    return chain(illegal(draft), illegal_steps(draft), illegal_slices(draft), illegal_memories(draft),
                 illegal_spills(draft))  # fmt: skip


def with_spills(problem: MappingProblem, readers: Mapping[str, Collection[int]]) -> MappingProblem:
    """The same where results have readers that take them from outside: by a name that nobody makes."""
    key = "spills", tuple((tensor, frozenset(places)) for tensor, places in readers.items())
    if readers and key not in problem.known:
        names = {tensor: f"{tensor} from DRAM" for tensor in readers}
        work = tuple(_reading(each, {tensor: name for tensor, name in names.items() if place in readers[tensor]})
                     for place, each in enumerate(problem.work))
        spilled = {name: tensor for tensor, name in names.items()}
        problem.known[key] = replace(problem, work=work, spilled=spilled, known={})
    found: MappingProblem = problem.known[key] if readers else problem
    return found


def in_problem(group: BoundGroup, problem: MappingProblem) -> BoundGroup:
    """The same group of a problem in which its Einsums are the same."""
    readers = {tensor: [run.place for run in group.runs if reads(run, name)]
               for name, tensor in group.problem.spilled.items()}  # fmt: skip
    return replace(group, problem=with_spills(problem, readers))


def without_spills(problem: MappingProblem) -> MappingProblem:
    """The same where results are read by their names."""
    if not problem.spilled:
        return problem
    return replace(problem, work=tuple(_reading(each, problem.spilled) for each in problem.work), spilled={}, known={})


def _reading(work: Work, names: Mapping[str, str]) -> Work:
    """An Einsum that reads tensors by other names."""
    inputs = tuple(replace(use, tensor=names.get(use.tensor, use.tensor)) for use in work.inputs)
    return work if inputs == work.inputs else replace(work, inputs=inputs)


def illegal_spills(draft: Draft) -> Iterator[str]:
    """Why a result cannot go to DRAM from the part of a tile that makes it, and come back for another one."""
    part_of = {run.place: number for number, part in enumerate(parts(draft.runs)) for run in part}
    for name, tensor in draft.problem.spilled.items():
        maker = draft.problem.producers[tensor]
        if draft.work(maker).iterates or tensor in draft.problem.staying or tensor in draft.problem.resting:
            yield f"{tensor} is carried on, or stays between groups; it cannot be spilled"
        elif any(part_of[reader] == part_of.get(maker) for reader in draft.readers(name)):
            yield f"{tensor} is spilled and read within the same loops; it stays where it is used up"


def bound(draft: Draft) -> BoundGroup:
    """Bind what is known to be legal."""
    if draft.in_flight is None and not draft.own:
        return _pipelined(draft)
    problem, made = draft.problem, _made(draft)
    inputs, writes = outside(problem, draft.members)
    reads = tuple(_read(draft, tensor, operands) for tensor, operands in inputs.items())
    group = BoundGroup(problem, draft.spec, draft.loops, draft.runs, reads, made, writes, draft.in_flight or 1,
                       epochs=draft.epochs)  # fmt: skip
    return replace(group, made=tuple(_with_registers(group)))


def _pipelined(draft: Draft) -> BoundGroup:
    """Bind with as many tiles open as the pipeline has epochs; loaded tiles in as many copies as its epochs ask for.

    Loads run ahead as far as they should, or as there is room for. Where a running value would come too late tiles are
    taken as they come, two at a time.
    """
    group = bound(draft.overlapped(2))
    found = stages(group)
    if found is None:
        return group
    base = bound(draft.overlapped(max(found.values()) + 1))
    ahead = lead(group)
    while True:
        later = {place: epochs + ahead - 1 for place, epochs in found.items()}
        staged = replace(base, stages=later)
        staged = replace(staged, made=tuple(_in_places(staged)))
        reads = tuple(read._replace(ahead=pieces_ahead(staged, read)) if read.piece else
                      read._replace(copies=input_copies(staged, read.depth)) for read in staged.reads)  # fmt: skip
        staged = replace(staged, reads=reads)
        if ahead == 1 or staged.fits:
            return staged.like(group)
        ahead //= 2


def input_copies(group: BoundGroup, depth: int) -> int:
    """Tiles of an input that are in the buffer at once: the next one where tiles overlap, more in a long pipeline."""
    outside = any(loop.most > 1 for loop in group.loops[:depth])
    if group.stages is None:
        return 2 if group.in_flight > 1 and outside else 1
    if not outside and group.problem.instances == 1:
        return 1
    ahead = min(group.stages.values()) - 1
    return 1 + -(-(group.in_flight + ahead) // fewest(group, depth))


def pieces_ahead(group: BoundGroup, resident: Resident) -> int:
    """Pieces of an input that have room beside its tile: one where tiles overlap, more where a pipeline is longer than
    a tile has pieces."""
    pieces = prod(group.loops[number].most for number in group.piece_loops(resident))
    return max(1, input_copies(group, resident.piece) - pieces) if group.in_flight > 1 else 0


def does_not_fit(group: BoundGroup) -> str | None:
    """Say that the tiles do not fit a memory, where they do not, and what would make the largest one smaller."""
    lacking, word = group.lacking, group.spec.word_bytes
    if lacking is None:
        return None
    names = " ... ".join(dict.fromkeys(group.runs[place].work.name for place in (0, -1)))
    if lacking == ACCUMULATORS and group.spec.accumulators is not None:
        return (f"results of {names} take {group.room_in(ACCUMULATORS) * word:,} bytes of {ACCUMULATORS}, which has "
                f"{group.spec.accumulators.capacity_bytes:,}; smaller tiles, or sums that end further inside")
    if lacking != GLOBAL_BUFFER:
        room = group.spec.words_of(group.spec.memory(lacking))
        return (f"what {names} and others keep takes {group.rooms[lacking] * word:,} bytes of {lacking}, which has "
                f"{room * word:,}; keep less there, or further inside")
    needed, room = group.footprint_words, group.spec.buffer_words
    stays = sum(group.problem.staying.values()) * word
    apart = f" ({stays:,} for {', '.join(group.problem.staying)} between groups)" if stays else ""
    return (f"tiles of {names} take {needed * word:,} bytes{apart} of global_buffer, which has {room * word:,}; "
            f"{_smaller(group)}")


def _smaller(group: BoundGroup) -> str:
    """The tensor that takes most of the buffer, its tile, and which lines of a mapping would make it smaller."""
    kept = [each for each in (*group.reads, *group.made)
            if each.where == GLOBAL_BUFFER and each.tensor not in group.problem.staying]  # fmt: skip
    if not kept:
        return "keep less between groups"
    most = max(kept, key=group.room_words)
    sides = {axis: size for axis, size in group.kept_tile(most).items() if axis in most.axes and size > 1}
    outside, taken = group.loops[: most.depth], group.room_words(most)
    ways = [f"keep it at {loop.part}" for depth, loop in enumerate(group.loops, 1) if depth > most.depth
            and most in group.reads and input_copies(group, depth) * most.words(group.tile(depth)) < taken][-1:]
    ways += [f"smaller steps of {loop.part}" for loop in outside if loop.step == sides.get(loop.axis)]
    around = f" around {group.loops[most.depth].part}" if most.depth < len(group.loops) else ""
    ways += [f"loop over {axis}{around}" for axis in sides if axis not in {loop.axis for loop in outside}]
    ways += ["one tile at a time"] * (most.copies > 1)
    tile = " x ".join(f"{size:,} {axis}" for axis, size in sides.items())
    return f"most for {most.tensor}, {most.copies} of {tile}: {', '.join(ways) or 'nothing makes that smaller'}"


def outside(
    problem: MappingProblem, members: tuple[int, ...]
) -> tuple[Mapping[str, tuple[TensorUse, ...]], tuple[TensorUse, ...]]:
    """What comes from outside and what leaves; many groups of the same Einsums are bound."""
    if members not in problem.known:
        problem.known[members] = inputs_of(problem, members), tuple(outputs_of(problem, members))
    found: tuple[Mapping[str, tuple[TensorUse, ...]], tuple[TensorUse, ...]] = problem.known[members]
    return found


def _read(draft: Draft, tensor: str, operands: tuple[TensorUse, ...]) -> Resident:
    axes = operands[0].axes if len(operands) == 1 else frozenset().union(*(operand.axes for operand in operands))
    relevant = [number for number, loop in enumerate(draft.loops) if loop.axis in axes]
    innermost = min(relevant[-1] + 1 if relevant else 0, outside_of_late(draft, tensor))
    if own := draft.own_loops(tensor):
        innermost = len(draft.loops) + len(own)
    kept = draft.kept.get(tensor, Kept(innermost, draft.in_flight != 1))
    if kept.passes:
        return Resident(tensor, operands, axes, innermost, 1, "")
    upstream = tuple((memory, min(depth, kept.depth)) for memory, depth in draft.upstream.get(tensor, ()))
    rests_in, _ = draft.problem.resting.get(tensor, ("", 0))
    if kept.piece and draft.problem.attended is None:
        return Resident(tensor, operands, axes, kept.depth, 1, GLOBAL_BUFFER, frozenset(), kept.piece,
                        int(draft.in_flight != 1), upstream, rests_in)  # fmt: skip
    double = kept.double or (kept.piece > 0 and draft.in_flight != 1)  # where a mask leaves tiles out it comes whole
    return Resident(tensor, operands, axes, kept.depth, 2 if double else 1, GLOBAL_BUFFER, upstream=upstream,
                    rests_in=rests_in)  # fmt: skip


def _made(draft: Draft) -> tuple[Resident, ...]:
    found = []
    for run in draft.runs:
        work, depth, copies = run.work, len(draft.loops), draft.in_flight or 1
        state, axes = work.iterates & draft.axes, (work.reduced | work.iterates) & draft.axes
        if axes:  # carried from tile to tile
            depth = next(number for number, loop in enumerate(draft.loops) if loop.axis in axes)
            copies = 2 if _is_doubled(draft, run, depth) else 1
        tensor = work.output.tensor
        held, evicted = tensor in draft.kept, draft.comes_back(tensor)
        if held:
            depth = draft.kept[tensor].depth
        elif not axes and _is_of_slices(draft, run):
            depth = len(draft.loops) + len(run.own)
        buffered = axes or run.sums_slices(draft.leaf) or held or (work.reduced and not run.has_registers)
        where = GLOBAL_BUFFER if tensor in draft.problem.staying else home(draft.spec, run.unit) if buffered else ""
        found.append(Resident(tensor, (work.output,), work.output.axes - state, depth, copies, where, state, kept=held,
                              evicted=evicted))  # fmt: skip
    return tuple(found)


def _is_of_slices(draft: Draft, run: BoundRun) -> bool:
    """Whether a result is made and used up slice by slice, by Einsums that share loops of their own."""
    readers = draft.readers(run.work.output.tensor) if run.nest else ()
    return bool(readers) and all(draft.nests.get(reader) == run.nest for reader in readers)


def _is_doubled(draft: Draft, run: BoundRun, depth: int) -> bool:
    """Whether a result that is carried over the tiles inside so many loops has a second place where tiles overlap.

    Not where it has as many pieces as tiles are open: those of the next one are made where these have left.
    """
    moves = draft.in_flight != 1 and any(loop.most > 1 for loop in draft.loops[:depth])
    return moves and pieces_in_turn(draft.loops[depth:], run.work) < (draft.in_flight or 2)


def _in_places(group: BoundGroup) -> Iterator[Resident]:
    """Results of a software pipeline: in a second place where a piece is still to be read, or to leave, when the tile
    that would take its place comes."""
    for made, run in zip(group.made, group.runs, strict=True):
        depth = made.depth
        if depth < len(group.loops) and made.copies == 1 and any(loop.most > 1 for loop in group.loops[:depth]):
            last = last_use(group, made, run)
            late = last is not None and last[1] >= pieces_in_turn(group.loops[depth:], run.work)
            yield made._replace(copies=2) if late else made
        else:
            yield made


def last_use(group: BoundGroup, made: Resident, run: BoundRun) -> tuple[str, int] | None:
    """The last task of a software pipeline that uses a result, and how many epochs after it was made; None where it
    stays when the group ends."""
    assert group.stages is not None
    readers = [each for each in group.runs if reads(each, made.tensor)]
    if readers:
        epochs, place = max((group.stages[each.place], each.place) for each in readers)
        return group.by_place[place].work.name, epochs - group.stages[run.place]
    if made.tensor not in {use.tensor for use in group.writes}:
        return None
    return f"store {made.tensor}", stores_at(group, run) - group.stages[run.place]


def pieces_in_turn(loops: Sequence[BoundLoop], work: Work) -> int:
    """Tiles of loops inside the innermost one along which a result is carried: each adds to another piece of it."""
    pieces = 1
    for loop in reversed(loops):
        if loop.most > 1 and loop.axis in work.reduced | work.iterates:
            break
        pieces *= loop.most
    return pieces


def _with_registers(group: BoundGroup) -> Iterator[Resident]:
    """Place what is made and used up in one tile: in the registers of its unit as long as they have room."""
    lives: dict[str, list[tuple[int, int, int]]] = {ARRAY_2D: [], ARRAY_1D: []}
    number_of = {run.place: number for number, run in enumerate(group.runs)}
    for place, (resident, producer) in enumerate(zip(group.made, group.runs, strict=True)):
        readers = [number_of[reader] for reader in group.problem.readers.get(resident.tensor, ())
                   if reader in number_of]  # fmt: skip
        if resident.where or not readers or goes_straight(
            producer, [group.runs[number] for number in readers], group.leaf):
            yield resident  # elsewhere already, or straight to its only reader
            continue
        own = lives[producer.unit]
        own.append((place, readers[-1], group.kept_words(resident)))
        fits = _most_alive(own) * group.in_flight <= register_words(group.spec, producer.unit)
        if not fits:
            own.pop()
        yield resident._replace(where="registers" if fits else home(group.spec, producer.unit))


def reads(run: BoundRun, tensor: str) -> bool:
    return any(operand.tensor == tensor for operand in run.work.inputs)


def goes_straight(producer: BoundRun, readers: Sequence[BoundRun], tile: Tile) -> bool:
    """Whether a tile of a tensor is used up as it is made: by its only reader, once a word, on the same unit."""
    if len(readers) != 1 or readers[0].unit != producer.unit or readers[0].own or producer.own:
        return False
    if not producer.has_registers:
        return False
    uses = [operand for operand in readers[0].work.inputs if operand.tensor == producer.work.output.tensor]
    return all(readers[0].operand_reads(use, tile, producer.work.iterates)
               == use.words({**tile, **dict.fromkeys(producer.work.iterates, 1)}) for use in uses)  # fmt: skip


def register_words(spec: SpatialArray, unit: str) -> int:
    if unit == ARRAY_2D:
        return spec.pe_array.register_words_per_pe * spec.pe_array.elements
    return spec.vector_array.register_words_per_lane * spec.vector_array.lanes


def _most_alive(lives: Sequence[tuple[int, int, int]]) -> int:
    """Words alive at once in a tile; what is read for the last time is overwritten in place."""
    times = {begin for begin, _, _ in lives}
    return max(sum(words for begin, end, words in lives if begin <= time < end) for time in times)
