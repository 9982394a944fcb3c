"""Loops of a compiled kernel, and what they must satisfy: resources within limits, and exactly the derived work.

Read from nvdisasm's text of machine code. A loop is a branch to an address before itself; what belongs to a loop nested
in it is not counted. In code that waits on barriers in memory (SYNCS), unconditional branches back are returns from
out-of-line waits, and no loops. Conservation: the FLOP of the matrix instructions of each loop equal those of the
tile's products, and there is one exponential per score. A configuration that makes warps do the same work twice fails
here without a GPU, and so do products of Hopper that wait for one another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from math import prod

from cascadesim.kernels.catalogue import LoopWork, TileProduct
from cascadesim.validation.kernels import compile as compiler
from cascadesim.validation.kernels.compile import REGISTERS_PER_SM, THREADS_PER_WARP, Compiled

INSTRUCTION = re.compile(
    r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<predicate>@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)(?P<operands>[^;]*);"
)
BRANCH_TARGET = re.compile(r"\b0x([0-9a-f]+)\s*$")
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
EXPONENTIAL = r"MUFU\.EX2"
WARPGROUP = 4  # warps that issue one HGMMA together; PTX ISA, wgmma
BLACKWELL_TILE, DEPTH_BYTES = (128, 256), 32  # largest tcgen05.mma of one block, and its depth; PTX ISA, its shapes
MOST_WAITS = 2  # in an iteration: one for the scores, one for the values of the iteration before
WIDE_ROWS = 64  # rows from which Hopper and Blackwell use their wide instructions; PTX ISA, wgmma
LANES = (1, 2, 4, 8, 16, 32)  # threads that share a row of a tile


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str
    operands: str
    predicated: bool


@dataclass(frozen=True)
class SassLoop:
    """Instructions of one iteration, those of nested loops left out."""

    instructions: tuple[Instruction, ...]
    innermost: bool = True

    @property
    def classes(self) -> dict[str, int]:
        """Instructions by class; `integer` is all the rest: addresses, moves, predicates."""
        return dict(sorted(Counter(
            next((name for name, opcodes in CLASSES.items() if re.match(opcodes, each.opcode)), "integer")
            for each in self.instructions
        ).items()))  # fmt: skip

    def count(self, pattern: str) -> int:
        return sum(bool(re.match(pattern, each.opcode)) for each in self.instructions)

    @property
    def matrix(self) -> tuple[Instruction, ...]:
        return tuple(each for each in self.instructions if MATRIX.match(each.opcode))


def instructions(sass: str) -> tuple[Instruction, ...]:
    """All of them in order."""
    matches = filter(None, map(INSTRUCTION.match, sass.splitlines()))
    return tuple(
        Instruction(int(each["address"], 16), each["opcode"], each["operands"], each["predicate"] is not None)
        for each in matches
    )


def loops(sass: str) -> tuple[SassLoop, ...]:
    """All loops, in program order of their beginning."""
    code = instructions(sass)
    found, spans = [], sorted(_spans(code))
    for begin, end in spans:
        nested = [(first, last) for first, last in spans
                  if begin <= first and last <= end and (first, last) != (begin, end)]  # fmt: skip
        places = (place for place in range(begin, end) if not any(first <= place < last for first, last in nested))
        found.append(SassLoop(tuple(code[place] for place in places), not nested))
    return tuple(found)


def _spans(code: tuple[Instruction, ...]) -> Iterator[tuple[int, int]]:
    """First and one past the last instruction; of several branches to one address the last."""
    places = {instruction.address: place for place, instruction in enumerate(code)}
    ends: dict[int, int] = {}
    waits_out_of_line = any(instruction.opcode.startswith("SYNCS") for instruction in code)
    for place, instruction in enumerate(code):
        target = BRANCH_TARGET.search(instruction.operands)
        conditional = instruction.predicated or re.match(r"\s*!?U?P\d", instruction.operands)
        if instruction.opcode.startswith("BRA") and target and (conditional or not waits_out_of_line):
            begin = places[int(target[1], 16)]
            if begin < place:
                ends[begin] = max(ends.get(begin, 0), place + 1)
    furthest = 0
    for begin, end in sorted(ends.items()):
        if not begin < furthest < end:  # a detour out of the loop before it, for a rare case, and back
            yield begin, end
            furthest = max(furthest, end)


def resource_faults(result: Compiled) -> tuple[str, ...]:
    """Why this build must not ship; empty if it may."""
    threads = result.warps * THREADS_PER_WARP
    limit = compiler.SHARED_BYTES_PER_BLOCK[result.target]
    checks: Mapping[str, bool] = {
        f"spills: {result.stack_bytes} bytes of stack": result.stack_bytes > 0,
        "spills: local loads or stores": bool(re.search(r"\b(LDL|STL)\b", result.sass)),
        f"{result.registers} registers per thread do not fit": result.registers > compiler.REGISTERS_PER_THREAD,
        f"{result.registers} registers of {threads} threads do not fit": result.registers * threads > REGISTERS_PER_SM,
        f"{result.shared_bytes} bytes of shared memory, {limit} fit": result.shared_bytes > limit,
    }
    return tuple(text for text, wrong in checks.items() if wrong)


def serial_faults(result: Compiled) -> tuple[str, ...]:
    """Where products of warp groups (wgmma) wait for one another instead of for their operands."""
    waits = [(loop.count(r"WARPGROUP\.DEPBAR"), len(loop.matrix)) for loop in counted_loops(result)
             if any(re.match("[HQ]GMMA", each.opcode) for each in loop.matrix)]  # fmt: skip
    return (
        *(f"{count} waits for {products} products in a loop, {MOST_WAITS} allowed" for count, products in waits
          if count > MOST_WAITS),
        *(f"ptxas: {message}" for message in result.messages),
    )  # fmt: skip


def counted_loops(result: Compiled) -> tuple[SassLoop, ...]:
    """Innermost loops with matrix products; with exponentials, where the variant derives loops without products.

    Of a loop that the compiler unrolled, the one over the iterations that remain, one at a time.
    """
    without = any(not work.products for work in result.variant.loops)
    found = [
        loop for loop in loops(result.sass)
        if loop.innermost and (loop.matrix or (without and loop.count(EXPONENTIAL)))
    ]  # fmt: skip
    return tuple(loop for loop, after in zip_longest(found, found[1:]) if after is None or not _unrolled(loop, after))


def _unrolled(loop: SassLoop, after: SassLoop) -> bool:
    """Whether it does several iterations of the loop after it at a time, and nothing else."""
    work, one = (Counter([each.opcode for each in of.matrix] + ["exponential"] * of.count(EXPONENTIAL))
                 for of in (loop, after))  # fmt: skip
    iterations = work.total() // max(one.total(), 1)
    return iterations > 1 and work == Counter({opcode: iterations * count for opcode, count in one.items()})


def conservation_faults(result: Compiled) -> tuple[str, ...]:
    """Where the compiled loops do not do the derived work."""
    found = counted_loops(result)
    expected = [work for work in result.variant.loops for _ in range(work.copies)]
    if len(found) != len(expected):
        return (f"{len(found)} loops with products or exponentials, {len(expected)} expected",)
    return tuple(
        f"loop {number}: {fault}"
        for number, (loop, work) in enumerate(zip(found, expected, strict=True), start=1)
        for fault in _loop_faults(loop, work, result)
    )


def _loop_faults(loop: SassLoop, work: LoopWork, result: Compiled) -> Iterator[str]:
    wide = all(product.m >= WIDE_ROWS for product in work.products)
    widest = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}[result.target]
    instruction = result.variant.instruction or (widest if wide else "HMMA")
    opcodes = {each.opcode for each in loop.matrix}
    if not all(opcode.startswith(instruction) for opcode in opcodes):
        yield f"matrix instructions {sorted(opcodes)}, {instruction} expected"
    if (flop := matrix_flop(loop, work, result.warps)) != work.matrix_flop:
        yield f"{flop} matrix FLOP, {work.matrix_flop} expected"
    exponentials = exponentials_of(loop, result.warps)
    allowed = [work.exponentials + lanes * work.replicated_rows for lanes in LANES]
    if exponentials not in allowed:
        yield f"{exponentials} exponentials, {work.exponentials} and at most {max(allowed)} expected"


def exponentials_of(loop: SassLoop, warps: int) -> int:
    return loop.count(EXPONENTIAL) * THREADS_PER_WARP * warps


def matrix_flop(loop: SassLoop, work: LoopWork, warps: int) -> int:
    """FLOP of all warps of a program, from the shapes in the opcodes.

    Blackwell's opcodes name no shape: there the number of instructions is compared, at the largest tile of each.
    """
    if any(each.opcode.startswith("UTC") for each in loop.matrix):
        tile = (*BLACKWELL_TILE, DEPTH_BYTES // work.operand_bytes)
        expected = sum(prod(-(-size // of) for size, of in zip(each, tile, strict=True)) for each in work.products)
        return round(work.matrix_flop * (len(loop.matrix) / expected))
    return sum(_opcode_flop(each.opcode, warps) for each in loop.matrix)


def _opcode_flop(opcode: str, warps: int) -> int:
    if wide := re.match(r"[HQ]GMMA\.(\d+)x(\d+)x(\d+)", opcode):
        m, n, k = map(int, wide.groups())
        return TileProduct(m, n, k).flop * (warps // WARPGROUP)
    if narrow := re.match(r"HMMA\.(16)(8)(16|8)\b", opcode):
        m, n, k = map(int, narrow.groups())
        return TileProduct(m, n, k).flop * warps
    raise ValueError(f"no shape known for {opcode}")
