"""Instructions of a GPU kernel's loops, from nvdisasm's text of machine code.

A loop is a branch to an address before itself; what belongs to a loop nested in it is not counted. In code that waits
on barriers in memory (SYNCS), unconditional branches back are returns from out-of-line waits, and no loops.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

INSTRUCTION = re.compile(
    r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<predicate>@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)(?P<operands>[^;]*);"
)
TARGET = re.compile(r"\b0x([0-9a-f]+)\s*$")
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
    address: int
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


def instructions(sass: str) -> tuple[Instruction, ...]:
    """All of them in order."""
    matches = filter(None, map(INSTRUCTION.match, sass.splitlines()))
    return tuple(
        Instruction(int(each["address"], 16), each["opcode"], each["operands"], each["predicate"] is not None)
        for each in matches
    )


def loops(sass: str) -> tuple[Loop, ...]:
    """In program order of their beginning."""
    code = instructions(sass)
    spans = sorted(_spans(code))
    return tuple(Loop(_own(code, span, spans), not any(_inside(other, span) for other in spans)) for span in spans)


def _spans(code: tuple[Instruction, ...]) -> Iterator[tuple[int, int]]:
    """First and one past the last instruction; of several branches to one address the last."""
    places = {instruction.address: place for place, instruction in enumerate(code)}
    ends: dict[int, int] = {}
    waits_out_of_line = any(instruction.opcode.startswith("SYNCS") for instruction in code)
    for place, instruction in enumerate(code):
        target = TARGET.search(instruction.operands)
        if instruction.opcode.startswith("BRA") and target and (_conditional(instruction) or not waits_out_of_line):
            begin = places[int(target[1], 16)]
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
