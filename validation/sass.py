"""Instructions of a GPU kernel's loops, from nvdisasm's text.

A loop is a branch to a label before itself; what belongs to a loop nested in it is not counted. In code that waits
on barriers in memory (SYNCS), unconditional branches back are returns from out-of-line waits, and no loops.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

INSTRUCTION = re.compile(
    r"^\s*/\*[0-9a-f]{4,}\*/\s+(?P<predicate>@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)(?P<operands>[^;]*);"
)
LABEL = re.compile(r"^(?P<label>\.L_x_\d+):")
TARGET = re.compile(r"\.L_x_\d+")
MATRIX = re.compile(r"^(H|I|Q|D|UTCH|UTCQ|UTCI)G?MMA")
CLASSES: Mapping[str, str] = {  # class -> opcodes (regular expression over the whole opcode)
    "matrix": MATRIX.pattern,
    "exponential": r"^MUFU\.EX2",
    "special": r"^MUFU",
    "float": r"^(FADD|FMUL|FFMA|FMNMX|FSEL|FSET|FSETP|FCHK|HADD|HMUL|HFMA|FSWZADD)",
    "convert": r"^(F2F|F2I|I2F|F2FP|I2FP|FRND)",
    "shuffle": r"^(SHFL|REDUX|CREDUX)",
    "global": r"^(LDG|STG|LDGSTS|UTMALDG|UTMASTG|UBLKCP|RED|ATOMG|ATOM)",
    "shared": r"^(LDS|STS|LDSM|STSM|LDTM|STTM|UTCCP|ATOMS)",
    "wait": r"^(BAR|DEPBAR|LDGDEPBAR|WARPSYNC|WARPGROUP|SYNCS|FENCE|MEMBAR|ARRIVES|UTCBAR|NOP|ELECT|CCTL|UCGABAR)",
    "branch": r"^(BRA|BSSY|BSYNC|EXIT|CALL|RET|BREAK|BRX)",
}


@dataclass(frozen=True)
class Instruction:
    opcode: str
    operands: str
    predicated: bool


@dataclass(frozen=True)
class Loop:
    """Instructions of one iteration, those of nested loops left out."""

    instructions: tuple[Instruction, ...]
    innermost: bool = True

    @property
    def classes(self) -> dict[str, int]:
        """Instructions by class; `integer` is all the rest: addresses, moves, predicates."""
        return dict(sorted(Counter(map(class_of, self.instructions)).items()))

    def count(self, pattern: str) -> int:
        return sum(bool(re.match(pattern, each.opcode)) for each in self.instructions)

    @property
    def matrix(self) -> tuple[Instruction, ...]:
        return tuple(each for each in self.instructions if MATRIX.match(each.opcode))


def class_of(instruction: Instruction) -> str:
    return next((name for name, opcodes in CLASSES.items() if re.match(opcodes, instruction.opcode)), "integer")


def instructions(sass: str) -> tuple[tuple[Instruction, ...], Mapping[str, int]]:
    """All of them in order, and the position of each label."""
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if match := LABEL.match(line):
            labels[match["label"]] = len(found)
        elif match := INSTRUCTION.match(line):
            found.append(Instruction(match["opcode"], match["operands"], match["predicate"] is not None))
    return tuple(found), labels


def loops(sass: str) -> tuple[Loop, ...]:
    """In program order of their beginning."""
    code, labels = instructions(sass)
    spans = sorted(_spans(code, labels))
    return tuple(Loop(_own(code, span, spans), not any(_inside(other, span) for other in spans)) for span in spans)


def _spans(code: tuple[Instruction, ...], labels: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """First and one past the last instruction; of several branches to one label the last."""
    ends: dict[int, int] = {}
    waits_out_of_line = any(instruction.opcode.startswith("SYNCS") for instruction in code)
    for place, instruction in enumerate(code):
        target = TARGET.search(instruction.operands)
        if instruction.opcode.startswith("BRA") and target and (_conditional(instruction) or not waits_out_of_line):
            begin = labels[target[0]]
            if begin < place:
                ends[begin] = max(ends.get(begin, 0), place + 1)
    furthest = 0
    for begin, end in sorted(ends.items()):
        if not begin < furthest < end:  # a detour out of the loop before it, for a rare case, and back
            yield begin, end
            furthest = max(furthest, end)


def _conditional(instruction: Instruction) -> bool:
    return instruction.predicated or bool(re.match(r"\s*!?U?P\d", instruction.operands))


def _inside(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1] and inner != outer


def _own(code: tuple[Instruction, ...], span: tuple[int, int], spans: list[tuple[int, int]]) -> tuple[Instruction, ...]:
    inner = [other for other in spans if _inside(other, span)]
    places = (place for place in range(*span) if not any(begin <= place < end for begin, end in inner))
    return tuple(code[place] for place in places)
