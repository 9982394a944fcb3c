"""A mapping as values: which Einsums share loops, what each runs on, what is kept where, and how tiles overlap.

Loops are named after the parts of an axis, outermost first: p2, p1, p0 of p. Each part but the innermost advances by a
step, a number of elements; the innermost one by single elements. Sizes may be fields of the array, or as large as a
memory allows; `bound` numbers know nothing of either. mapping.md 1; FuseMax (MICRO'24), section V.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.notation.errors import suggestion

MOST_FUSED = 16  # assumed: Einsums that share loops in a search; attention in one pass has 12
MOST_IN_FLIGHT = 64  # assumed: no array has more tiles open at once
TOP = "top"  # the place outside all loops of a group
Step: TypeAlias = "int | Sized | Fit"


@dataclass(frozen=True, slots=True)
class Sized:
    """A field of the array times a number: `4 * array_2d.rows`."""

    field: str
    times: int = 1

    def __str__(self) -> str:
        return self.field if self.times == 1 else f"{self.times} * {self.field}"


@dataclass(frozen=True, slots=True)
class Fit:
    """The largest number of tiles of the next part that fits a memory beside everything else that is kept there.

    `fit` balances the loop: as many tiles as ceil(n / ceil(n / largest)). `divisor` takes a divisor of the number of
    tiles; None where the text asks for no divisor, and "else" is `fit` or nothing.
    """

    memory: str
    rule: Literal["fit", "divisor", "divisor else fit"] = "fit"

    def __str__(self) -> str:
        first, _, otherwise = self.rule.partition(" else ")
        return f"{first} {self.memory}" + (f" else {otherwise}" if otherwise else "")


@dataclass(frozen=True, slots=True)
class Split:
    """An axis in parts, outermost first, with the step of each part but the last, whose step is 1."""

    axis: str
    parts: tuple[str, ...]
    steps: tuple[Step, ...]
    line: int = field(default=0, compare=False)  # of the text, where it has one

    def __str__(self) -> str:
        sized = [f"{part} by {step}" for part, step in zip(self.parts, self.steps, strict=False)]
        return f"split {self.axis}: {', '.join((*sized, self.parts[-1]))}"


@dataclass(frozen=True, slots=True)
class SubNest:
    """Loops that neighbouring Einsums share, inside those of their group; `number` tells nests of a group apart."""

    number: int
    loops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """An Einsum on a unit: ranks in space as (part, dimension of the unit), the rest of its own loops in time.

    `after`: it runs when that loop has ended, once for each iteration of the loops outside it that it walks, and of
    those inside it.
    """

    einsum: str
    unit: str
    space: tuple[tuple[str, str], ...]
    time: tuple[str, ...] = ()
    after: str | None = None
    nest: SubNest | None = None
    line: int = field(default=0, compare=False)  # of the text, where it has one


@dataclass(frozen=True, slots=True)
class Keep:
    """A tile of a tensor stays in a memory while the loop `at` stays where it is: it covers the loops inside.

    `double`: there is room for two of it. `by`: it comes in pieces, those of that loop, and has room for one more.
    """

    tensor: str
    memory: str
    at: str
    double: bool = False
    by: str | None = None
    line: int = field(default=0, compare=False)  # of the text, where it has one


@dataclass(frozen=True, slots=True)
class Stay:
    """A result stays whole in a memory from the group that makes it to the last one that reads it."""

    tensor: str
    memory: str
    line: int = field(default=0, compare=False)  # of the text, where it has one


@dataclass(frozen=True, slots=True)
class EpochSlot:
    """The place of an Einsum in an epoch: it works on the tile of this letter there; `a` is the oldest."""

    einsum: str
    letter: str

    def __str__(self) -> str:
        return f"{self.einsum}[{self.letter}]"


@dataclass(frozen=True)
class Epochs:
    """A software pipeline as a table: what each unit does in one epoch, in this order, and of which tile.

    `rows`: unit -> slots; those that stand together take turns, cycle by cycle. `distances`: letter -> epochs behind
    the youngest tile; none where they are to be derived. FuseMax (MICRO'24), section V, figure 4, is such a table.
    """

    rows: tuple[tuple[str, tuple[tuple[EpochSlot, ...], ...]], ...]
    distances: tuple[tuple[str, int], ...] = ()
    line: int = field(default=0, compare=False)  # of the text, where it has one

    @property
    def slots(self) -> tuple[EpochSlot, ...]:
        """All slots, in the order in which their units take them."""
        return tuple(slot for _, row in self.rows for turns in row for slot in turns)

    @property
    def letters(self) -> tuple[str, ...]:
        """Those that tiles have, the oldest first."""
        return tuple(sorted({slot.letter for slot in self.slots}))

    def faults(self, units: Mapping[str, str]) -> Iterator[str]:
        """Why it is no table of these Einsums, each with its unit."""
        found = Counter(slot.einsum for slot in self.slots)
        for name in found:
            if name not in units:
                yield f"no Einsum '{name}' in this group{suggestion(name, units)}"
            elif found[name] > 1:
                yield f"{name} has {found[name]} slots; each Einsum has one"
        for unit, row in self.rows:
            yield from (f"{slot.einsum} runs on {units[slot.einsum]}; its slot stands in the row of {unit}"
                        for turns in row for slot in turns if units.get(slot.einsum, unit) != unit)  # fmt: skip
        if missing := [name for name in units if name not in found]:
            yield f"no slot for {', '.join(missing)}: an epoch has all Einsums of the group"
        given = dict(self.distances)
        if given and sorted(letter for letter, _ in self.distances) != list(self.letters):
            names = ", ".join(letter for letter, _ in self.distances)
            yield f"distances of {names}; the tiles are {', '.join(self.letters)}"
        elif given:
            ages = [given[letter] for letter in self.letters]
            if ages[0] >= MOST_IN_FLIGHT:
                yield f"a tile that is {ages[0]} epochs old; at most {MOST_IN_FLIGHT} tiles are open at once"
            if ages[-1] or any(older < younger for older, younger in pairwise(ages)):
                yield (f"distances {', '.join(map(str, ages))}: they fall from {self.letters[0]}, the oldest tile, to "
                       f"{self.letters[-1]}, the youngest, which is at 0")

    def __str__(self) -> str:
        ages = ", ".join(f"{letter} {epochs}" for letter, epochs in self.distances)
        rows = (f"    {unit}: {' '.join(map(turns_text, row))}" for unit, row in self.rows)
        return "\n".join((f"  overlap epochs{' ' * bool(ages)}{ages}:", *rows))


def turns_text(slots: tuple[EpochSlot, ...]) -> str:
    """Slots that take turns, or one by itself, as a table has them."""
    return str(slots[0]) if len(slots) == 1 else f"( {' | '.join(map(str, slots))} )"


@dataclass(frozen=True)
class Fused:
    """Einsums that share loops, and run as one phase. `in_flight`: tiles that overlap at most; 1 for `serial`, None
    for a software pipeline: of `epochs`, or else derived. `bypass`: inputs of which no tile is kept. `spills`: results
    that go to DRAM although Einsums of the group read them.
    """

    splits: tuple[Split, ...]
    loops: tuple[str, ...]
    runs: tuple[Run, ...]
    keeps: tuple[Keep, ...]
    in_flight: int | None = 1  # None: a software pipeline
    bypass: tuple[str, ...] = ()
    spills: tuple[str, ...] = ()
    epochs: Epochs | None = None
    line: int = field(default=0, compare=False)  # of the text, where it has one
    overlap_line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class CascadeMapping:
    """All groups of fused Einsums, which run one after another. `sizes`: extents that no split of an axis gives.

    `staying`: results that lie whole in the buffer from the group that makes them to the last one that reads them.
    """

    name: str
    cascade: str
    groups: tuple[Fused, ...]
    sizes: tuple[tuple[str, int], ...] = ()
    staying: tuple[Stay, ...] = ()

    def __str__(self) -> str:
        lines = [f"mapping {self.name} for {self.cascade}"]
        if self.sizes:
            lines.append(f"size {', '.join(f'{name} = {size}' for name, size in self.sizes)}")
        for memory in dict.fromkeys(each.memory for each in self.staying):
            lines.append(f"keep {', '.join(each.tensor for each in self.staying if each.memory == memory)} in {memory}")
        return "\n".join((*lines, *(line for group in self.groups for line in group_lines(group)), ""))


def group_lines(group: Fused) -> list[str]:
    """The text of one group, as the parser reads it."""
    lines = [f"for {', '.join(group.loops) or TOP}:", *(f"  {split}" for split in group.splits)]
    for (after, nest), block in groupby(group.runs, key=lambda run: (run.after, run.nest)):
        runs = list(block)
        inside = f"after {after}:" if after is not None else f"for {', '.join(nest.loops)}:" if nest else ""
        lines += [f"  {inside}"] if inside else []
        for unit, space in dict.fromkeys((run.unit, run.space) for run in runs):
            own = [run for run in runs if (run.unit, run.space) == (unit, space)]
            lines.append(f"  {'  ' * bool(inside)}{unit}{_space(space)}: {'; '.join(map(_run, own))}")
    for (memory, at, how), tensors in _alike(group.keeps).items():
        lines.append(f"  keep {', '.join(tensors)} in {memory} at {at}{how}")
    for word, names in (("bypass", group.bypass), ("spill", group.spills)):
        lines += [f"  {word} {', '.join(names)}"] if names else []
    if group.epochs is not None:
        return [*lines, *str(group.epochs).splitlines()]
    overlap = {None: "pipeline", 1: "serial"}.get(group.in_flight, f"interleave {group.in_flight}")
    return [*lines, f"  overlap {overlap}"]


def _space(space: tuple[tuple[str, str], ...]) -> str:
    return f" [{', '.join(f'{part} over {dimension}' for part, dimension in space)}]" if space else ""


def _run(run: Run) -> str:
    return run.einsum + (f" for {', '.join(run.time)}" if run.time else "")


def _alike(keeps: tuple[Keep, ...]) -> Mapping[tuple[str, str, str], list[str]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for keep in keeps:
        how = f" by {keep.by}" if keep.by else " double" * keep.double
        found.setdefault((keep.memory, keep.at, how), []).append(keep.tensor)
    return found
