"""Products and streams on one SM, worked out by hand from their steps."""

from __future__ import annotations

from math import ceil

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.elementwise import stream_timing
from cascadesim.accelerators.gpu.gemm import choice_of, gemm_timing
from cascadesim.accelerators.gpu.product_pipeline import product_program, stream_program
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.accelerators.program import Program
from cascadesim.simulator.engine.engine import run


def device(name: str = "h100-sxm") -> Device:
    found = load(name)
    assert isinstance(found, Gpu)
    return found.spec


def product(rows: int, outputs: int, depth: int, name: str = "h100-sxm", dtype: Dtype = "bf16") -> Program:
    on, sizes = device(name), (rows, outputs, depth, 1)
    timing = gemm_timing(on, constants(on.generation), *sizes, dtype)
    return product_program(on, constants(on.generation), dtype, choice_of(timing, dtype, sizes), timing, "Z")


def parts(one: Program, tile_class: int) -> dict[str, int]:
    return {task.name: cycles for task, cycles in zip(one.tasks, one.tile_classes[tile_class], strict=True)}


def test_the_blocks_of_a_large_product_multiply_and_store_in_turn() -> None:
    """Launch, the first loads, then for each block of the SM its steps of the depth and its results."""
    one = product(8192, 8192, 8192, "a100-sxm")
    step, last = parts(one, 1), parts(one, 2)
    assert step["Z"] > step["load"] > step["fetch"]
    steps = 8192 // 64
    blocks = (one.tiles - 1) // steps
    schedule = run(one)
    in_turn = blocks * (steps * step["Z"] + last["store"])
    loads = parts(one, 0)["launch"] + step["load"]
    assert schedule.cycles == loads + in_turn


def test_fp32_units_store_one_block_while_they_multiply_the_next() -> None:
    """P4, steps of 8 of a depth of 64: stores take longest, one block after another, after the first products."""
    one = product(8192, 8192, 64, "p4", "fp32")
    step, last, steps = parts(one, 1), parts(one, 2), 64 // 8
    blocks = (one.tiles - 1) // steps
    assert (one.tiles - 1) % steps == 0
    assert last["store"] > steps * step["Z"]
    assert step["load"] > step["Z"]  # of the first block, loads take longest
    first = parts(one, 0)["launch"] + steps * step["load"] + step["Z"]
    assert run(one).cycles == first + blocks * last["store"]


def test_the_steps_of_a_product_of_few_rows_wait_for_dram() -> None:
    one = product(1, 14336, 4096)
    step = parts(one, 1)
    schedule = run(one)
    assert step["fetch"] > step["Z"]
    assert schedule.bound_by == "dram"
    assert schedule.unit("dram").stalled_cycles == 0


def test_a_split_depth_ends_with_the_sum_of_its_parts() -> None:
    """1024 x 2048 over 8192 is split in two (closed form); 1.2 us at 1.83 GHz."""
    assert product(1024, 2048, 8192).drain_cycles == ceil(1.2e-6 * 1.83e9) == 2196
    assert product(8192, 8192, 8192).drain_cycles == 0


@pytest.mark.parametrize("sizes", [(1, 4096, 4096), (300, 1000, 777), (4096, 4096, 4096), (64, 128256, 8192)])
def test_no_product_beats_its_units(sizes: tuple[int, int, int]) -> None:
    on = device()
    timing = gemm_timing(on, constants(on.generation), *sizes, 1, "bf16")
    schedule = run(product(*sizes))
    memory_s = max(timing.l2_s[0], timing.dram_s[0])
    assert schedule.cycles >= (timing.launch_s[0] + memory_s) * on.clock_hz * (1 - 1e-9)
    assert schedule.cycles >= 2 * sizes[0] * sizes[1] * sizes[2] / 989.5e12 * on.clock_hz
    closed, one = float(timing.total_s[0]) * on.clock_hz, product(*sizes)
    ends = sum(parts(one, 2).values()) + one.drain_cycles  # the first loads; the last products, stored and summed up
    assert schedule.cycles <= closed + ends + one.tiles


def test_a_stream_takes_its_bytes_over_the_ceiling_after_its_launch() -> None:
    """1 GB in pieces of 16 KiB on each of 132 SMs: 463; each in whole cycles."""
    on = device()
    timing = stream_timing(on, constants(on.generation), 5e8, 5e8)
    one = stream_program(on, timing, 1e9)
    schedule = run(one)
    pieces = ceil(1e9 / 132 / 16384)
    assert one.tiles == 1 + pieces == 464
    closed = timing.total_s[0] * on.clock_hz
    assert closed <= schedule.cycles <= closed + pieces + 2
