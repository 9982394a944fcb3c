"""What a compiled kernel must satisfy: resources within limits, and exactly the work that its algorithm derives.

Conservation: the FLOP of the matrix instructions of each loop equal those of the tile's products, and there is one
exponential per score. A configuration that makes warps do the same work twice fails here without a GPU, and so do
products of Hopper that wait for one another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from math import prod

from cascadesim.kernels.variant import Iteration, Product
from cascadesim.validation.kernels.compile import (
    REGISTERS_PER_SM,
    REGISTERS_PER_THREAD,
    SHARED_BYTES_PER_BLOCK,
    THREADS_PER_WARP,
    Compiled,
)
from cascadesim.validation.kernels.sass import Loop, loops

EXPONENTIAL = r"MUFU\.EX2"
WARPGROUP = 4  # warps that issue one HGMMA together; PTX ISA, wgmma
BLACKWELL_TILE, DEPTH_BYTES = (128, 256), 32  # largest tcgen05.mma of one block, and its depth; PTX ISA, its shapes
MOST_WAITS = 2  # in a turn: one for the scores, one for the values of the turn before
WIDE_ROWS = 64  # rows from which Hopper and Blackwell use their wide instructions; PTX ISA, wgmma
LANES = (1, 2, 4, 8, 16, 32)  # threads that share a row of a tile


def resource_faults(result: Compiled) -> tuple[str, ...]:
    """Why this build must not ship; empty if it may."""
    threads = result.warps * THREADS_PER_WARP
    limit = SHARED_BYTES_PER_BLOCK[result.target]
    checks: Mapping[str, bool] = {
        f"spills: {result.stack_bytes} bytes of stack": result.stack_bytes > 0,
        "spills: local loads or stores": bool(re.search(r"\b(LDL|STL)\b", result.sass)),
        f"{result.registers} registers per thread do not fit": result.registers > REGISTERS_PER_THREAD,
        f"{result.registers} registers of {threads} threads do not fit": result.registers * threads > REGISTERS_PER_SM,
        f"{result.shared_bytes} bytes of shared memory, {limit} fit": result.shared_bytes > limit,
    }
    return tuple(text for text, wrong in checks.items() if wrong)


def serial_faults(result: Compiled) -> tuple[str, ...]:
    """Where products of warp groups (wgmma) wait for one another instead of for their operands."""
    waits = [(loop.count(r"WARPGROUP\.DEPBAR"), len(loop.matrix)) for loop in counted_loops(result) if _wide(loop)]
    return (
        *(f"{count} waits for {products} products in a loop, {MOST_WAITS} allowed" for count, products in waits
          if count > MOST_WAITS),
        *(f"ptxas: {message}" for message in result.messages),
    )  # fmt: skip


def _wide(loop: Loop) -> bool:
    return any(re.match("[HQ]GMMA", each.opcode) for each in loop.matrix)


def counted_loops(result: Compiled) -> tuple[Loop, ...]:
    """Innermost loops with matrix products; with exponentials, where the variant derives loops without products.

    Of a loop that the compiler unrolled, the one over the turns that remain, one at a time.
    """
    without = any(not work.products for work in result.variant.loops)
    found = [
        loop for loop in loops(result.sass)
        if loop.innermost and (loop.matrix or (without and loop.count(EXPONENTIAL)))
    ]  # fmt: skip
    return tuple(loop for loop, after in zip_longest(found, found[1:]) if after is None or not _unrolled(loop, after))


def _unrolled(loop: Loop, after: Loop) -> bool:
    """Whether it does several turns of the loop after it at a time, and nothing else."""
    work, one = (Counter([each.opcode for each in of.matrix] + ["exponential"] * of.count(EXPONENTIAL))
                 for of in (loop, after))  # fmt: skip
    turns = work.total() // max(one.total(), 1)
    return turns > 1 and work == Counter({opcode: turns * count for opcode, count in one.items()})


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


def _loop_faults(loop: Loop, work: Iteration, result: Compiled) -> Iterator[str]:
    instruction = result.variant.instruction or expected_instruction(work, result.target)
    opcodes = {each.opcode for each in loop.matrix}
    if not all(opcode.startswith(instruction) for opcode in opcodes):
        yield f"matrix instructions {sorted(opcodes)}, {instruction} expected"
    if (flop := matrix_flop(loop, work, result.warps)) != work.matrix_flop:
        yield f"{flop} matrix FLOP, {work.matrix_flop} expected"
    exponentials = exponentials_of(loop, result.warps)
    allowed = [work.exponentials + lanes * work.replicated_rows for lanes in LANES]
    if exponentials not in allowed:
        yield f"{exponentials} exponentials, {work.exponentials} and at most {max(allowed)} expected"


def expected_instruction(work: Iteration, target: int) -> str:
    wide = all(product.m >= WIDE_ROWS for product in work.products)
    return {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}[target] if wide else "HMMA"


def exponentials_of(loop: Loop, warps: int) -> int:
    return loop.count(EXPONENTIAL) * THREADS_PER_WARP * warps


def matrix_flop(loop: Loop, work: Iteration, warps: int) -> int:
    """Of all warps of a program, from the shapes in the opcodes.

    Blackwell's opcodes name no shape: there the number of instructions is compared, at the largest tile of each.
    """
    if any(each.opcode.startswith("UTC") for each in loop.matrix):
        share = len(loop.matrix) / sum(_blackwell_instructions(each, work.operand_bytes) for each in work.products)
        return round(work.matrix_flop * share)
    return sum(_opcode_flop(each.opcode, warps) for each in loop.matrix)


def _blackwell_instructions(product: Product, operand_bytes: int) -> int:
    tile = (*BLACKWELL_TILE, DEPTH_BYTES // operand_bytes)
    return prod(-(-size // of) for size, of in zip(product, tile, strict=True))


def _opcode_flop(opcode: str, warps: int) -> int:
    if wide := re.match(r"[HQ]GMMA\.(\d+)x(\d+)x(\d+)", opcode):
        m, n, k = map(int, wide.groups())
        return Product(m, n, k).flop * (warps // WARPGROUP)
    if narrow := re.match(r"HMMA\.(16)(8)(16|8)\b", opcode):
        m, n, k = map(int, narrow.groups())
        return Product(m, n, k).flop * warps
    raise ValueError(f"no shape known for {opcode}")
