"""Reads a mapping from its text; `str` of what is read writes it again.

One group of fused Einsums starts with `for` and its shared loops; what is indented below belongs to it. Every problem
is shown with its line and a caret. Knows words and numbers, not what is legal (`resolve`). mapping.md 1, 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from cascadesim.accelerators.mapping.nest import (
    MOST_IN_FLIGHT,
    TOP,
    CascadeMapping,
    Epochs,
    EpochSlot,
    Fit,
    Fused,
    Keep,
    Run,
    Sized,
    Split,
    Stay,
    Step,
    SubNest,
)
from cascadesim.einsum_cascades.notation.errors import NotationError, UnknownNameError, excerpt, shortened
from cascadesim.einsum_cascades.notation.schema import read_text

_NAME = r"[A-Za-z][A-Za-z0-9_-]*+"
_HEADER = re.compile(rf"mapping\s++(?P<name>{_NAME})\s++for\s++(?P<cascade>[A-Za-z][\w.-]*+)")
_FOR = re.compile(r"for\s++(?P<loops>[^:]++):")
_AFTER = re.compile(rf"after\s++(?P<loop>{_NAME}):")
_SPLIT = re.compile(rf"split\s++(?P<axis>{_NAME})\s*+:\s*+(?P<parts>.++)")
_PART = re.compile(rf"(?P<part>{_NAME})(?:\s++by\s++(?P<step>.++))?")
_STEP = re.compile(r"(?:(?P<times>\d++)\s*+\*\s*+)?(?P<field>array_[12]d\.(?:rows|columns|lanes|units))")
_FIT = re.compile(rf"(?P<rule>fit|divisor)\s++(?P<memory>{_NAME})(?P<otherwise>\s++else\s++fit)?")
_RUNS = re.compile(r"(?P<unit>array_[12]d)\s*+(?:\[(?P<space>[^\]]*+)\])?\s*+:\s*+(?P<einsums>.++)")
_OVER = re.compile(rf"(?P<part>{_NAME})\s++over\s++(?P<dimension>rows|columns|lanes|units)")
_EINSUM = re.compile(r"(?P<name>[A-Za-z]\w*+)(?:\s++for\s++(?P<time>.++))?")
_SIZE = re.compile(r"(?P<name>[A-Z][A-Z0-9]*+)\s*+=\s*+(?P<size>[1-9]\d{0,17})")
_KEEP = re.compile(rf"keep\s++(?P<tensors>.+?)\s++in\s++(?P<memory>{_NAME})\s++at\s++(?P<at>{_NAME})"
                   rf"(?:(?P<double>\s++double)|\s++by\s++(?P<by>{_NAME}))?")
_STAY = re.compile(rf"keep\s++(?P<tensors>.+?)\s++in\s++(?P<memory>{_NAME})")
_OVERLAP = re.compile(r"overlap\s++(?:serial|(?P<pipeline>pipeline)|interleave\s++(?P<tiles>\d++)"
                      r"|(?P<epochs>epochs)(?P<ages>[^:]*+):)")
_AGE = re.compile(r"(?P<letter>[a-z])\s++(?P<epochs>\d{1,2})")
_ROW = re.compile(r"(?P<unit>array_[12]d)\s*+:\s*+(?P<slots>.++)")
_TURNS = re.compile(r"\((?P<together>[^()]*+)\)|(?P<alone>[^\s()]++)")
_SLOT = re.compile(r"(?P<einsum>[A-Za-z]\w*+)\[(?P<letter>[a-z])\]")
LONGEST_TEXT = 2_000  # lines; assumed: no mapping is longer


@cache
def shipped_mappings() -> Mapping[str, CascadeMapping]:
    """Mappings that come with the project, by name."""
    folder = files("cascadesim.accelerators.mapping") / "texts"
    found = (parse_mapping(each.read_text(encoding="utf-8"), each.name)
             for each in sorted(folder.iterdir(), key=lambda each: each.name) if each.name.endswith(".mapping"))
    return {mapping.name: mapping for mapping in found}


def find_mapping(name: str) -> CascadeMapping:
    """A mapping by name, or from a file. Raises UnknownNameError, SpecError or NotationError."""
    if name.lower().endswith(".mapping"):
        return read_mapping(name)
    if name not in shipped_mappings():
        raise UnknownNameError("mapping", name, (*shipped_mappings(), "search"))
    return shipped_mappings()[name]


@dataclass(frozen=True, slots=True)
class _Problem:
    line: int
    column: int
    message: str


class _ReadError(Exception):
    """A part of a line that cannot be read."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


def read_mapping(path: Path | str) -> CascadeMapping:
    """Read a file. Raises SpecError where it cannot be opened, NotationError with every problem in it."""
    return parse_mapping(read_text(Path(path)), Path(path).name)


def parse_mapping(text: str, source: str = "mapping") -> CascadeMapping:
    """Raises NotationError with every problem, each with its line and a caret."""
    lines = [(number, line) for number, each in enumerate(text.splitlines(), start=1)
             if (line := each.split("#", 1)[0].rstrip()).strip()]  # fmt: skip
    if len(lines) > LONGEST_TEXT:
        raise NotationError(f"{source}: {len(lines):,} lines; at most {LONGEST_TEXT:,}")
    reader = _MappingReader()
    for number, line in lines:
        reader.read(number, line)
    if not reader.header:
        reader.problems.insert(0, _Problem(lines[0][0] if lines else 1, 0, "expected 'mapping NAME for CASCADE' first"))
    elif not reader.groups:
        reader.problems.append(_Problem(lines[-1][0], 0, "no group in it: 'for LOOPS:' with Einsums below"))
    if reader.problems or not reader.header:
        given = dict(lines)
        raise NotationError("\n".join(
            f"{shortened(source)}, line {each.line}: {each.message}"
            f"{excerpt(given[each.line], each.column) if each.line in given else ''}" for each in reader.problems))
    name, cascade = reader.header
    return CascadeMapping(name, cascade, tuple(group.fused() for group in reader.groups), tuple(reader.sizes),
                          tuple(reader.staying))


@dataclass
class _OpenGroup:
    """A group while it is read."""

    line: int
    loops: tuple[str, ...]
    splits: list[Split]
    runs: list[Run]
    keeps: list[Keep]
    bypass: list[str]
    spills: list[str]
    indent: int
    in_flight: int | None = 1
    overlap_line: int = 0  # 0: none yet
    after: str | None = None
    nest: SubNest | None = None
    nests: int = 0
    epochs: Epochs | None = None

    def fused(self) -> Fused:
        return Fused(tuple(self.splits), self.loops, tuple(self.runs), tuple(self.keeps), self.in_flight,
                     tuple(self.bypass), tuple(self.spills), self.epochs, self.line, self.overlap_line)  # fmt: skip


class _MappingReader:
    """Lines in, groups and problems out."""

    def __init__(self) -> None:
        self.header: tuple[str, str] | tuple[()] = ()
        self.groups: list[_OpenGroup] = []
        self.sizes: list[tuple[str, int]] = []
        self.staying: list[Stay] = []
        self.problems: list[_Problem] = []
        self.inner_indent = 0  # of `after LOOP:`, of the `for` of a nest, or of `overlap epochs:`
        self.in_table = False

    def read(self, number: int, line: str) -> None:
        text, indent = line.strip(), len(line) - len(line.lstrip())
        try:
            self._line(number, text, indent)
        except _ReadError as error:
            column = line.find(error.part)
            self.problems.append(_Problem(number, max(column, indent), str(error)))

    def _line(self, number: int, text: str, indent: int) -> None:
        if not self.header:
            found = _matched(_HEADER, text, "expected 'mapping NAME for CASCADE'")
            self.header = found.group("name"), found.group("cascade")
        elif text.startswith("for ") and not (self.groups and indent > self.groups[-1].indent):
            loops = _names(_matched(_FOR, text, "expected 'for LOOP, LOOP:'").group("loops"), "a loop")
            self.groups.append(_OpenGroup(number, () if loops == (TOP,) else loops, [], [], [], [], [], indent))
        elif text.startswith("size ") and not self.groups:
            for size in map(_sized, text.removeprefix("size ").split(",")):
                if size[0] in dict(self.sizes):
                    raise _ReadError(size[0], f"{size[0]} has a size already: {dict(self.sizes)[size[0]]}")
                self.sizes.append(size)
        elif text.startswith("keep ") and not self.groups:
            found = _matched(_STAY, text, "expected 'keep TENSOR, ... in MEMORY' between groups")
            self.staying += [Stay(tensor, found.group("memory"), number)
                             for tensor in _names(found.group("tensors"), "a tensor")]
        elif not self.groups:
            raise _ReadError(text, "expected 'for LOOP, LOOP:', 'for top:', 'size EXTENT = N' or 'keep TENSOR in "
                                   "MEMORY'")
        else:
            group = self.groups[-1]
            self.in_table = self.in_table and indent > self.inner_indent
            if self.in_table and group.epochs is not None:
                row = _row(text, dict(group.epochs.rows))
                group.epochs = replace(group.epochs, rows=(*group.epochs.rows, row))
            else:
                self._below(group, text, indent, number)

    def _below(self, group: _OpenGroup, text: str, indent: int, number: int) -> None:
        word = text.split(None, 1)[0]
        if indent <= self.inner_indent:
            group.after = group.nest = None
        if word == "split":
            group.splits.append(_split(text, number))
        elif word in ("after", "for") and (group.after or group.nest):
            raise _ReadError(text, f"'{word}' inside of another; both stand in the group itself")
        elif word == "after":
            group.after = _matched(_AFTER, text, "expected 'after LOOP:'").group("loop")
            self.inner_indent = indent
        elif word == "for":
            loops = _names(_matched(_FOR, text, "expected 'for LOOP, LOOP:'").group("loops"), "a loop")
            group.nests, self.inner_indent = group.nests + 1, indent
            group.nest = SubNest(group.nests, loops)
        elif word == "keep":
            group.keeps += _keeps(text, number)
        elif word in ("bypass", "spill"):
            tensors = group.bypass if word == "bypass" else group.spills
            tensors += _names(text.removeprefix(word), "a tensor")
        elif word == "overlap":
            self._overlap(group, text, indent, number)
        else:
            group.runs += _runs(text, number, group.after, group.nest)

    def _overlap(self, group: _OpenGroup, text: str, indent: int, number: int) -> None:
        found = _matched(_OVERLAP, text, "expected 'overlap serial', 'pipeline', 'interleave TILES' or 'epochs:'")
        if group.overlap_line:
            raise _ReadError(text, f"a second 'overlap' of this group; the first is in line {group.overlap_line}")
        group.overlap_line = number
        tiles, self.in_table, self.inner_indent = found.group("tiles"), bool(found.group("epochs")), indent
        group.epochs = Epochs((), tuple(_ages(found.group("ages"))), number) if self.in_table else None
        group.in_flight = None if found.group("pipeline") or self.in_table else int((tiles or "1")[:9])
        if not 1 <= (group.in_flight or 1) <= MOST_IN_FLIGHT:
            raise _ReadError(tiles, f"{shortened(tiles)} tiles in flight; from 1 to {MOST_IN_FLIGHT}")


def _matched(pattern: re.Pattern[str], text: str, message: str) -> re.Match[str]:
    found = pattern.fullmatch(text.strip())
    if found is None:
        raise _ReadError(text.strip(), f"{message}, got '{shortened(text.strip())}'")
    return found


def _names(text: str, what: str) -> tuple[str, ...]:
    return tuple(_matched(re.compile(_NAME), part, f"expected the name of {what}").group() for part in text.split(","))


def _sized(text: str) -> tuple[str, int]:
    found = _matched(_SIZE, text, "expected 'EXTENT = N'")
    return found.group("name"), int(found.group("size"))


def _split(text: str, line: int) -> Split:
    found = _matched(_SPLIT, text, "expected 'split AXIS: PART by STEP, ..., PART'")
    parts = [_matched(_PART, part, "expected 'PART by STEP'") for part in found.group("parts").split(",")]
    for part in parts[:-1]:
        if part.group("step") is None:
            raise _ReadError(part.group(), f"{part.group('part')} needs a step: '{part.group('part')} by STEP'")
    if len(parts) < 2 or parts[-1].group("step") is not None:
        raise _ReadError(parts[-1].group(), "the last part advances by single elements: at least two parts, the last "
                                            "one without 'by'")
    names = tuple(part.group("part") for part in parts)
    return Split(found.group("axis"), names, tuple(_step(part.group("step")) for part in parts[:-1]), line)


def _step(text: str) -> Step:
    if text.isascii() and text.isdigit():
        if not 0 < int(text[:20]) < 2**62:
            raise _ReadError(text, f"a step of {shortened(text)} elements; at least 1")
        return int(text)
    sized, fit = _STEP.fullmatch(text), _FIT.fullmatch(text)
    if sized:
        return Sized(sized.group("field"), int((sized.group("times") or "1")[:18]))
    if fit and (fit.group("rule") == "divisor" or not fit.group("otherwise")):
        return Fit(fit.group("memory"), "divisor else fit" if fit.group("otherwise")
                   else "divisor" if fit.group("rule") == "divisor" else "fit")  # fmt: skip
    raise _ReadError(text, "a step is a number, a field such as 'array_2d.rows' or '4 * array_1d.lanes', 'fit MEMORY', "
                           f"'divisor MEMORY' or 'divisor MEMORY else fit', got '{shortened(text)}'")


def _runs(text: str, line: int, after: str | None, nest: SubNest | None) -> Iterator[Run]:
    found = _matched(_RUNS, text, "expected 'UNIT [RANK over DIMENSION, ...]: EINSUM for RANKS; ...', 'split', 'keep', "
                                  "'bypass', 'spill', 'after', 'for' or 'overlap'")
    over = "expected 'RANK over rows', 'columns', 'units' or 'lanes'"
    space = tuple(_matched(_OVER, part, over).group("part", "dimension")
                  for part in (found.group("space") or "").split(",") if part.strip())  # fmt: skip
    for einsum in found.group("einsums").split(";"):
        each = _matched(_EINSUM, einsum, "expected 'EINSUM' or 'EINSUM for RANKS'")
        time = _names(each.group("time"), "a rank") if each.group("time") else ()
        yield Run(each.group("name"), found.group("unit"), tuple((part, size) for part, size in space), time, after,
                  nest, line)  # fmt: skip


def _ages(text: str) -> Iterator[tuple[str, int]]:
    """Letters of tiles with their distances in epochs; nothing where the text gives none."""
    for part in text.split(",") if text.strip() else ():
        age = _matched(_AGE, part, "expected 'overlap epochs:', or with distances: 'overlap epochs a 1, b 0:'")
        yield age.group("letter"), int(age.group("epochs"))


def _row(text: str, known: Mapping[str, object]) -> tuple[str, tuple[tuple[EpochSlot, ...], ...]]:
    """What a unit does in an epoch: slots in order, those in brackets in turns."""
    found = _matched(_ROW, text, "expected 'UNIT: EINSUM[a] ( EINSUM[a] | EINSUM[b] ) ...'")
    if found.group("unit") in known:
        raise _ReadError(text, f"{found.group('unit')} has a row already")
    row, slots = [], found.group("slots")
    if rest := _TURNS.sub("", slots).strip():
        raise _ReadError(rest, f"a bracket without its other half in '{shortened(slots)}'")
    for turns in _TURNS.finditer(slots):
        parts = turns.group("alone") or turns.group("together")
        found_slots = (_matched(_SLOT, part, "expected 'EINSUM[a]', whose letter says of which tile")
                       for part in parts.split("|"))
        row.append(tuple(EpochSlot(each.group("einsum"), each.group("letter")) for each in found_slots))
    return found.group("unit"), tuple(row)


def _keeps(text: str, line: int) -> Sequence[Keep]:
    found = _matched(_KEEP, text, "expected 'keep TENSOR, ... in MEMORY at LOOP', with 'double' for two of it, or 'by "
                                  "LOOP' for pieces that come one by one")
    memory, at, by = found.group("memory", "at", "by")
    tensors = _names(found.group("tensors"), "a tensor")
    return [Keep(tensor, memory, at, bool(found.group("double")), by, line) for tensor in tensors]
