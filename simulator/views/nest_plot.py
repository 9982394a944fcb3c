"""A group of fused Einsums as nested boxes: loops outer to inner, what is kept at each, Einsums where they run.

Lays out boxes and lines of text in inches, downwards from the top; colours are those of units and memories. Knows a
bound group and its text, no figure around it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.nest import Fused, Run, SubNest
from cascadesim.accelerators.mapping.runs import DRAM, GLOBAL_BUFFER, Resident
from cascadesim.simulator.views.output import bytes_of

INK, SOFT, LINE = "#1b1b1b", "#5b5b5b", "#d4d4d4"
_LOOP_FILLS = ("#f6f6f4", "#ebebe8")
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
FONT, LINE_HEIGHT = 7.5, 0.155  # points; inches from line to line
_PAD, _INDENT = 0.06, 0.1


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; `depth`: how many others it lies in."""

    left: float
    right: float
    top: float
    bottom: float
    fill: str
    depth: int


@dataclass(frozen=True, slots=True)
class Lettering:
    """Text that begins at a place."""

    left: float
    top: float
    text: str
    color: str = INK
    bold: bool = False


@dataclass
class NestPicture:
    """Boxes and words of one group, `width` inches wide; `fills`: unit -> colour; `bottom`: how far down it goes."""

    group: BoundGroup
    fused: Fused
    width: float
    fills: Mapping[str, str]
    boxes: list[Box] = field(default_factory=list)
    words: list[Lettering] = field(default_factory=list)
    bottom: float = 0.0

    def loop(self, depth: int, left: float, right: float) -> None:
        """The box of one loop (depth 0: of all instances) with everything that runs in it."""
        top, loops = self.bottom, self.group.loops
        self.bottom += _PAD
        before, name = ("for ", loops[depth - 1].part) if depth else ("", instances(self.group))
        self.line(left + _PAD, before, name, trips(self.group, depth))
        for memory, tensors in kept(self.group, depth).items():
            self.wrapped(left + _PAD, right - _PAD, f"{memory}: ", tensors, ", ")
        if depth < len(loops):
            self.bottom += _PAD / 2
            self.loop(depth + 1, left + _INDENT, right - _INDENT / 2)
            self.runs(loops[depth].part, left + _INDENT, right - _INDENT / 2)
        else:
            self.runs(None, left + _INDENT, right - _INDENT / 2)
        self.bottom += _PAD
        self.boxes.append(Box(left, right, top, self.bottom, _LOOP_FILLS[depth % 2], depth))

    def runs(self, after: str | None, left: float, right: float) -> None:
        """Einsums that run here, those of one unit and space in a box of its colour."""
        found: dict[tuple[SubNest | None, str, tuple[tuple[str, str], ...]], list[Run]] = {}
        for run in self.fused.runs:
            if run.after == after:
                found.setdefault((run.nest, run.unit, run.space), []).append(run)
        for (nest, unit, space), runs in found.items():
            self.bottom += _PAD / 2
            top = self.bottom
            self.bottom += _PAD / 2
            over = ", ".join(f"{part} over {dimension}" for part, dimension in space)
            then = f"after {after}: " if after is not None else f"for {', '.join(nest.loops)}: " if nest else ""
            self.line(left + _PAD, then, unit, f"  {over}" if over else "")
            einsums = [run.einsum + (f" for {', '.join(run.time)}" if run.time else "") for run in runs]
            self.wrapped(left + _PAD, right - _PAD, "", einsums, "; ", INK)
            for memory, tensors in kept_in_slices(self.group, {run.einsum for run in runs}).items():
                self.wrapped(left + _PAD, right - _PAD, f"{memory}: ", tensors, ", ")
            self.bottom += _PAD / 2
            self.boxes.append(Box(left, right, top, self.bottom, self.fills[unit], len(self.group.loops) + 1))

    def line(self, left: float, before: str, name: str, rest: str) -> None:
        """A name in bold between what stands before it and what is said of it."""
        for text, bold, color in ((before, False, INK), (name, True, INK), (rest, False, SOFT)):
            if text:
                self.words.append(Lettering(left, self.bottom, text, color, bold))
                left += text_width(text, bold)
        self.bottom += LINE_HEIGHT

    def wrapped(
        self, left: float, right: float, name: str, items: Sequence[str], between: str, color: str = SOFT
    ) -> None:
        """Items after a name, on as many lines as they need."""
        begin, line = left + text_width(name, False), ""
        if name:
            self.words.append(Lettering(left, self.bottom, name))
        for number, item in enumerate(items):
            added = item + between.rstrip() * (number + 1 < len(items))
            longer = f"{line} {added}" if line else added
            if line and begin + text_width(longer, False) > right:
                self.words.append(Lettering(begin, self.bottom, line, color))
                self.bottom += LINE_HEIGHT
                longer = added
            line = longer
        self.words.append(Lettering(begin, self.bottom, line, color))
        self.bottom += LINE_HEIGHT


def nest(group: BoundGroup, fused: Fused, width: float, fills: Mapping[str, str]) -> NestPicture:
    """The picture of a group, laid out."""
    found = NestPicture(group, fused, width, fills)
    found.loop(0, 0.0, width)
    return found


def paint(axes: Axes, found: NestPicture) -> None:
    """Draw into axes whose units are inches from the top left corner."""
    axes.set(xlim=(0, found.width), ylim=(found.bottom, 0))
    axes.set_axis_off()
    for box in found.boxes:
        axes.add_patch(Rectangle((box.left, box.top), box.right - box.left, box.bottom - box.top, facecolor=box.fill,
                                 edgecolor=LINE, linewidth=0.6, zorder=box.depth, clip_on=False))
    for words in found.words:
        said = words.text.lstrip(" ")
        shown = NO_BREAK_SPACE * (len(words.text) - len(said)) + said  # SVG drops other blanks in front
        axes.text(words.left, words.top + LINE_HEIGHT / 2, shown, fontsize=FONT, color=words.color, va="center",
                  fontweight="bold" if words.bold else "normal", zorder=99)


def instances(group: BoundGroup) -> str:
    """How often all of it runs."""
    times = group.problem.instances
    return f"{times:,} instances" if times > 1 else "once"


def trips(group: BoundGroup, depth: int) -> str:
    """How often a loop runs, and how many elements of its axis it advances by."""
    if not depth:
        return "  one after another" if group.problem.instances > 1 else ""
    loop = group.loops[depth - 1]
    times = f"  {loop.most:,} trip{'s' * (loop.most > 1)}"
    rest = loop.outer % loop.step if loop.most > 1 else 0
    of = f" of {min(loop.step, loop.outer):,} {loop.axis}" if loop.step > 1 else ""
    return f"{times}{of}{f', the last of {rest:,}' if rest else ''}"


def kept(group: BoundGroup, depth: int) -> Mapping[str, list[str]]:
    """Memory -> tensors whose tile stays while the loop at this depth stays where it is, with bytes and copies.

    By turns where Einsums run one after another and take each other's room.
    """
    found: dict[str, list[str]] = {}
    written, staying = {use.tensor: group.store_target(use) for use in group.writes}, group.problem.staying
    whole = {tensor: (GLOBAL_BUFFER, words) for tensor, words in staying.items()} | dict(group.problem.resting)
    for tensor, (memory, words) in whole.items() if not depth else ():
        found.setdefault(f"stays in {memory}", []).append(f"{tensor} {_bytes(words * group.spec.word_bytes)}")
    for hop in (hop for way in group.hops.values() for hop in way[:-1] if hop.kept.depth == depth):
        size = _bytes(group.kept_words(hop.kept) * group.spec.word_bytes)
        found.setdefault(hop.target, []).append(f"{hop.kept.tensor} {size}")
    shown = (*(read for read in group.reads if read.where), *group.made)
    for resident in (each for each in shown if each.depth == depth):
        if resident.tensor in staying:
            continue
        target = written.get(resident.tensor, "the reader")
        straight = f"straight to {'DRAM' if target == DRAM else target}"
        where = f"{resident.where}{', running' if resident.state else ''}" if resident.where else straight
        turns = depth == len(group.loops) and resident.where and group.in_slices and group.in_flight == 1
        found.setdefault(f"{where}, by turns" if turns else where, []).append(
            sized(group, resident) if resident.where else resident.tensor)
    return found


def kept_in_slices(group: BoundGroup, einsums: Collection[str]) -> Mapping[str, list[str]]:
    """Memory -> tensors that pass by in slices, each with the first of the Einsums that alone read or make it."""
    found: dict[str, list[str]] = {}
    for resident in (*group.reads, *group.made):
        own = group.own_loops(resident)
        if group.user_of(resident).work.name not in einsums:
            continue
        if not resident.where and resident in group.reads:
            found.setdefault("passes by", []).append(resident.tensor)
        elif own:
            found.setdefault(f"{resident.where} at {own[-1].part}", []).append(sized(group, resident))
    return found


def sized(group: BoundGroup, resident: Resident) -> str:
    """A tensor with the bytes of what is kept of it, and its copies."""
    copies = f" ×{resident.copies}" if resident.copies > 1 else " in pieces" if resident.piece else ""
    return f"{resident.tensor} {_bytes(group.kept_words(resident) * group.spec.word_bytes)}{copies}"


def _bytes(amount: float) -> str:
    number, unit = bytes_of(amount).split()
    return f"{float(number.replace(',', '')):g} {unit}"


@cache
def text_width(text: str, bold: bool, points: float = FONT) -> float:
    """Inches that text takes in the font of the figures."""
    if not text:
        return 0.0
    visible = TextPath((0, 0), f"|{text}|", size=points, prop=FontProperties(weight="bold" if bold else "normal"))
    bars = TextPath((0, 0), "||", size=points, prop=FontProperties(weight="bold" if bold else "normal"))
    return float(visible.get_extents().width - bars.get_extents().width) / 72

