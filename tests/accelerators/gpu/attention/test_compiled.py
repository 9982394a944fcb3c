"""Loops that Triton compiled: cycles of a key tile from counted instructions, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attention_cases import case_of_sizes
from preset_devices import device

from cascadesim.accelerators.gpu.attention import compiled
from cascadesim.accelerators.gpu.attention.tile import AttentionCase, case_of, iteration_cycles, tile_cycles
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.spec import Dtype
from cascadesim.accelerators.gpu.timing import makespan_cycles, trip_cycles, waiting_cycles


def extend(name: str, depth: int, dtype: Dtype = "bf16", window: int = 0, tokens: int = 4096) -> AttentionCase:
    on = device(name)
    asked = shape(1, 8, 8, tokens, tokens, depth, causal=True, window=window)
    return case_of(on, load_kernel("triton-extend"), constants(on.generation), asked, dtype, dtype)


def test_a_warp_issues_an_instruction_every_four_clocks() -> None:
    """SGLang's encoders on an L40S, a depth of 64: 648 instructions of four warps, four barriers, 8 KiB of keys."""
    case = case_of_sizes("l40s", "triton-context", 64)
    products, exponentials, issue, _ = (unit[0] for unit in tile_cycles(case))
    assert issue == 648 * 4 / 4
    assert exponentials == 0  # among the instructions
    assert products == pytest.approx(2 * 64 * 64 * (64 + 64) / 1024 / case.constants.tensor_fraction)
    alone = 648 * 4 + 4 * 2 * 19
    assert compiled.block_cycles(case.device, case.tiles.loop, case.tiles.loop.attended)[0] == alone
    trip = 0.3e-6 * case.device.clock_hz + 64 * 64 * 2 / 64  # to L2, and 64 bytes a clock
    assert trip_cycles(case)[0] == pytest.approx(trip + alone - 648)
    assert waiting_cycles(case)[0] == pytest.approx(trip + alone - 648 + 648)  # products are longer: what is issued


def test_blocks_of_an_sm_hide_what_each_waits_for() -> None:
    """Long enough, a key tile takes half of what a block alone takes where two are resident, or what both are busy."""
    case = case_of_sizes("l40s", "triton-context", 64, heads=142, heads_kv=142, queries=64 * 200)
    iteration = iteration_cycles(case, *tile_cycles(case))
    chain = max(iteration[0] + waiting_cycles(case)[0], 2 * iteration[0])
    tiles = case.work.visited[0] / case.device.sms
    assert case.tiles.blocks_per_sm[0] == 2
    assert makespan_cycles(case, iteration)[0] == pytest.approx(tiles * chain / 2, rel=0.03)


def test_rows_that_are_no_multiple_of_16_elements_are_loaded_one_by_one() -> None:
    """A depth of 80 is padded to 128; one of 72, too, but Triton knows no alignment of its rows."""
    counts = {depth: case_of_sizes("l40s", "triton-context", depth).tiles.loop.attended.instructions[0]
              for depth in (72, 80, 128)}  # fmt: skip
    assert counts == {72: 1368, 80: 788, 128: 788}


def test_warps_beyond_the_rows_of_a_tile_multiply_queries_and_keys_again() -> None:
    """H100, a depth of 256: 64 rows are those of four warps of eight, so that scores are made twice."""
    case = extend("h100-sxm", 256)
    rate = 4096 * case.constants.tensor_fraction
    assert tile_cycles(case)[0][0] == pytest.approx(2 * 64 * 64 * (2 * 256 + 256) / rate)


def test_tiles_of_fewer_rows_than_wgmma_takes_are_multiplied_by_mma_sync() -> None:
    """H100, a depth of 512: 32 rows, at two thirds of the peak; each of eight warps reads all queries and weights."""
    case = extend("h100-sxm", 512)
    products, _, _, shared = (unit[0] for unit in tile_cycles(case))
    assert products == pytest.approx(2 * 32 * 64 * 1024 / (4096 * case.constants.tensor_fraction * 2 / 3))
    read, written = 8 * (32 * 512 + 32 * 64) + 64 * 1024, 64 * 1024
    assert shared == pytest.approx((read + written) * 2 / 128)
    narrow = extend("h100-sxm", 512, "fp8")
    assert tile_cycles(narrow)[0][0] == pytest.approx(products)  # no 8-bit mma.sync on Hopper


def test_tensor_memory_has_128_rows() -> None:
    case = extend("b200", 256)
    assert case.tiles.queries[0] == 64
    rate = case.device.flop_per_clock_sm("bf16") * case.constants.tensor_fraction
    assert tile_cycles(case)[0][0] == pytest.approx(2 * 64 * 64 * 512 / (rate / 2))


def test_8_bit_values_are_stored_byte_by_byte() -> None:
    """H100, a depth of 256: 64 keys in 512 stores of a warp, to 16 rows at a time that begin in the same bank."""
    assert tile_cycles(extend("h100-sxm", 256, "fp8"))[3][0] == 64 * 256 / 32 * 16
    assert tile_cycles(extend("h100-sxm", 256))[3][0] == 0
    assert compiled.transposed_cycles(device("b200"), extend("b200", 256).tiles, np.array([256.0]), 1.0)[0] == 0


def test_a_window_compares_every_tile_before_it() -> None:
    """L40S, tiles of 64 queries and 128 keys, 4,096 tokens, a window of 128.

    Up to the diagonal there are 1 + 1 + 2 + 2 + ... + 32 + 32 tiles of a head. 64 queries and the 127 keys before them
    lie in two tiles, but for the first two row tiles: 1 + 1 + 62 x 2.
    """
    case = extend("l40s", 64, window=128)
    assert case.work.visited[0] == 8 * (2 + 62 * 2)
    assert case.work.passed[0] == 8 * 2 * 32 * 33 / 2 - case.work.visited[0]
    assert case.work.most_passed[0] == 32 - 2
    assert case.tiles.loop.attended.instructions[0] == 3259
    assert case.tiles.loop.passed.instructions[0] == 1237
    without = replace(case, work=replace(case.work, passed=0 * case.work.passed, most_passed=0 * case.work.passed))
    iteration = iteration_cycles(case, *tile_cycles(case))
    assert makespan_cycles(case, iteration)[0] > makespan_cycles(without, iteration)[0]


def test_a_configured_window_takes_its_path_however_long_it_is() -> None:
    case = extend("h100-sxm", 256, window=1024, tokens=512)
    assert case.work.passed[0] == 0
    assert case.tiles.loop.attended.instructions[0] == 1545
    spilled = 44 * 0.3e-6 / 4 * case.device.clock_hz
    found = compiled.block_cycles(case.device, case.tiles.loop, case.tiles.loop.attended)[0]
    assert found == pytest.approx(1545 * 4 + 12 * 2 * 19 + spilled)


def test_kernels_that_were_not_counted_wait_for_trips_alone() -> None:
    case = case_of_sizes("l40s", "trtllm-fmha", 64)
    assert not case.tiles.loop.known.any()
    assert waiting_cycles(case)[0] == pytest.approx(0.6e-6 * case.device.clock_hz)
