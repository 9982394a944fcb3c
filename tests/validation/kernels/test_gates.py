"""Loops and their instructions, from disassembly written by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant
from cascadesim.validation.kernels.compile import ADVICE, Compiled
from cascadesim.validation.kernels.gates import (
    conservation_faults,
    counted_loops,
    instructions,
    loops,
    resource_faults,
    serial_faults,
)


def listing(*lines: str) -> str:
    """Labels become the addresses of what follows them, as the disassembler prints them."""
    code = [line for line in lines if not line.startswith(".L")]
    labels = {
        line: place - sum(other.startswith(".L") for other in lines[:place])
        for place, line in enumerate(lines)
        if line.startswith(".L")
    }
    text = "\n".join(f"        /*{16 * number:04x}*/     {line} ;" for number, line in enumerate(code))
    return re.sub(r"\.L_x_\d+", lambda label: f"{16 * labels[label[0]]:#x}", text)


MATRIX = "HGMMA.64x64x16.F32 R24, gdesc[UR8], R24"


def tile_of(*products: str) -> str:
    return listing("MOV R1, R2", ".L_x_0", *products, *["MUFU.EX2 R1, R2"] * 34, "@P0 BRA .L_x_0", "EXIT")


TILE = tile_of(*[MATRIX] * 8)


def compiled(sass: str, loop: LoopWork, warps: int = 8, **changes: int) -> Compiled:
    variant = Variant("hand-made", "attention", None, {}, {}, warps, 3, (loop,))
    resources = {"registers": 128, "stack_bytes": 0, "shared_bytes": 65536, **changes}
    return Compiled(variant, 90, warps=warps, sass=sass, **resources)


def test_a_loop_is_a_branch_back_and_counts_its_own_instructions() -> None:
    (loop,) = loops(TILE)
    assert loop.classes == {"branch": 1, "exponential": 34, "matrix": 8}


def test_instructions_of_a_nested_loop_are_not_counted_twice() -> None:
    outer, inner = loops(listing(".L_x_0", "FADD R1, R1, R2", ".L_x_1", "FMUL R1, R1, R2", "@P0 BRA .L_x_1",
                                 "@P1 BRA .L_x_0"))  # fmt: skip
    assert outer.classes == {"branch": 1, "float": 1}
    assert inner.classes == {"branch": 1, "float": 1}
    assert (outer.innermost, inner.innermost) == (False, True)


def test_returns_from_out_of_line_waits_are_no_loops() -> None:
    waiting = listing(".L_x_0", "SYNCS.PHASECHK.TRANS64.TRYWAIT P5, [UR4], R0", "@!P5 BRA .L_x_1", "EXIT", ".L_x_1",
                      "BRA .L_x_0")  # fmt: skip
    assert loops(waiting) == ()
    assert len(instructions(waiting)) == 4


def test_a_tile_that_does_the_derived_work_passes() -> None:
    """8 instructions of 64x64x16 in each of 2 warp groups: 2,097,152 = 4 * 128 * 64 * 64 FLOP."""
    tile = LoopWork((TileProduct(128, 64, 64), TileProduct(128, 64, 64)), 128 * 64, 128)
    assert conservation_faults(compiled(TILE, tile)) == ()


def test_warps_that_repeat_each_others_work_are_found() -> None:
    """64 queries on 8 warps: each group computes all scores, 12 instructions of 64x32x16 where 8 would do."""
    repeated = tile_of(*[MATRIX.replace("64x64", "64x32")] * 12)
    work = LoopWork((TileProduct(64, 64, 64), TileProduct(64, 64, 64)), 64 * 64, 64)
    faults = conservation_faults(compiled(repeated, work))
    assert "loop 1: 1572864 matrix FLOP, 1048576 expected" in faults
    assert any("exponentials" in fault for fault in faults)


def test_narrow_instructions_where_wide_ones_exist_are_found() -> None:
    narrow = listing(".L_x_0", *["HMMA.16816.F32 R4, R8, R12, R4"] * 64, "@P0 BRA .L_x_0")
    (fault,) = conservation_faults(compiled(narrow, LoopWork((TileProduct(128, 64, 64), TileProduct(128, 64, 64)))))
    assert "HGMMA expected" in fault


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"stack_bytes": 24}, "spills"), ({"registers": 256}, "registers"), ({"shared_bytes": 232449}, "shared memory")],
)
def test_builds_beyond_the_limits_are_refused(changes: dict, message: str) -> None:
    assert any(message in fault for fault in resource_faults(compiled(TILE, LoopWork(()), **changes)))
    assert resource_faults(compiled(TILE, LoopWork(()))) == ()


WAIT = "WARPGROUP.DEPBAR.LE gsb0, 0x0"


@pytest.mark.parametrize(("waits", "fault"), [(1, ()), (2, ()), (3, ("3 waits for 8 products in a loop, 2 allowed",))])
def test_products_of_a_loop_wait_twice_at_most(waits: int, fault: tuple) -> None:
    """Once for the scores, once for the values; once per product is what ptxas does when it serialises them."""
    assert serial_faults(compiled(tile_of(*[MATRIX] * 8, *[WAIT] * waits), LoopWork(()))) == fault


def test_waits_of_narrow_instructions_are_not_counted() -> None:
    narrow = listing(".L_x_0", *["HMMA.16816.F32 R4, R8, R12, R4"] * 64, *[WAIT] * 9, "@P0 BRA .L_x_0")
    assert serial_faults(compiled(narrow, LoopWork(()))) == ()


def test_what_ptxas_says_of_serialised_products_is_a_fault() -> None:
    told = replace(compiled(TILE, LoopWork(())), messages=("(C7515) Potential Performance Loss: wgmma serialized",))
    assert serial_faults(told) == ("ptxas: (C7515) Potential Performance Loss: wgmma serialized",)
    log = "ptxas info    : 0 bytes gmem\nptxas info    : (C7515) Potential Performance Loss: x\nptxas info : Used 9"
    assert ADVICE.findall(log) == ["(C7515) Potential Performance Loss: x"]


def test_a_loop_that_the_source_unrolls_is_held_to_its_work_in_every_copy() -> None:
    """Three loops of one turn each; with one of them at half the products, that one is named."""
    work = LoopWork((TileProduct(128, 64, 64), TileProduct(128, 64, 64)), 128 * 64, 128, copies=3)
    one = [".L_x_{}", *[MATRIX] * 8, *["MUFU.EX2 R1, R2"] * 34, "@P0 BRA .L_x_{}"]
    code = [line.format(number) for number in range(3) for line in one]
    assert conservation_faults(compiled(listing(*code), work)) == ()
    code[len(one) + 1 : len(one) + 5] = ["MOV R1, R2"] * 4
    assert conservation_faults(compiled(listing(*code), work)) == ("loop 2: 1048576 matrix FLOP, 2097152 expected",)
    (fault,) = conservation_faults(compiled(listing(*code), replace(work, copies=2)))
    assert fault == "3 loops with products or exponentials, 2 expected"


def test_of_a_loop_that_ptxas_unrolls_the_turns_that_remain_are_counted() -> None:
    """Four turns at a time, then one at a time; a loop that does other work in between is no unrolled one."""
    four = [".L_x_0", *[MATRIX] * 16, "@P0 BRA .L_x_0"]
    one = [".L_x_1", *[MATRIX] * 4, "@P0 BRA .L_x_1"]
    work = LoopWork((TileProduct(128, 64, 64),))
    assert conservation_faults(compiled(listing(*four, *one), work)) == ()
    assert len(counted_loops(compiled(listing(*four, *one), work))[0].matrix) == 4
    other = [line.replace("64x64", "64x32") for line in one]
    assert "2 loops" in conservation_faults(compiled(listing(*four, *other), work))[0]
