"""Kernels beside attention: what their threads wait for, step by step, of as many as SMs hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from attention_cases import case_of_sizes
from preset_devices import device

from cascadesim.accelerators.gpu.cache_writes import (
    PASSING_LINES,
    ROTATING_LINES,
    appended_seconds,
    cast_seconds,
    converted_seconds,
    latent_stored_seconds,
    rotated_seconds,
)
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.memory import small_kernel_s
from cascadesim.accelerators.gpu.timing import AttentionCase, attention_timing

B200 = device("b200")


def beside_launch_s(of: Callable[..., Reals], *sizes: float) -> float:
    seconds: Reals = of(B200, *(np.array([size]) for size in sizes))
    return float(seconds[0]) - B200.launch_s


def test_rotation_waits_for_loads_and_for_lines_of_the_first_cache() -> None:
    """B200, 148 SMs of 1,024 threads: 1,184 tokens of 64 heads of 128 are 8 steps, a vector of 8 numbers a thread.

    A step: two trips to L2, one to DRAM, 1.2 us; 32 warps that ask for 88 lines each, 2,816 clocks at 1.856 GHz.
    """
    step_s = 1.2e-6 + 2816 / 1.856e9
    assert beside_launch_s(rotated_seconds, 1184, 64, 128, 0) == pytest.approx(8 * step_s)
    assert beside_launch_s(rotated_seconds, 1, 1, 128, 0) == pytest.approx(1.2e-6, rel=0.01)
    assert (ROTATING_LINES, PASSING_LINES) == (88, 16)


def test_rotation_is_bound_by_memory_where_that_is_slow() -> None:
    """L40S, 142 SMs: a gigabyte at 794 GB/s takes longer than 18 steps."""
    on = device("l40s")
    tokens, heads, depth, moved = (np.array([size]) for size in (2556.0, 64.0, 128.0, 1e9))
    assert rotated_seconds(on, tokens, heads, depth, moved)[0] - on.launch_s == pytest.approx(1e9 / 7.94e11)


def test_rows_are_appended_by_as_many_blocks_as_sms_hold() -> None:
    """A key head of 256: 32 threads a block, 32 blocks an SM; 4 of them: 128 threads, 16 blocks. 1.8 us a token."""
    assert beside_launch_s(appended_seconds, 2 * 148 * 32, 1, 256, 0) == pytest.approx(2 * 1.8e-6)
    assert beside_launch_s(appended_seconds, 2 * 148 * 16, 4, 256, 0) == pytest.approx(2 * 1.8e-6)
    assert beside_launch_s(appended_seconds, 1, 4, 256, 0) == pytest.approx(1.8e-6)


def test_8_bit_rows_are_converted_by_blocks_of_eight_heads() -> None:
    """148 x 16 blocks at once, one for the keys and one for the values of up to eight heads of a token.

    Its place, then 128 columns at a time: two trips of 0.6 us at a depth of 128, three at 256.
    """
    tokens = 148 * 16 / 2
    assert beside_launch_s(converted_seconds, tokens, 8, 128, 0) == pytest.approx(2 * 0.6e-6)
    assert beside_launch_s(converted_seconds, tokens, 9, 128, 0) == pytest.approx(2 * 2 * 0.6e-6)
    assert beside_launch_s(converted_seconds, tokens, 1, 256, 0) == pytest.approx(3 * 0.6e-6)


def test_latent_keys_are_stored_by_blocks_of_128_elements() -> None:
    """576 elements: five blocks of two trips."""
    assert beside_launch_s(latent_stored_seconds, 148 * 16, 576, 0) == pytest.approx(5 * 2 * 0.6e-6)


def test_casts_to_8_bits_are_bound_by_instructions() -> None:
    """2^28 numbers, 24 instructions each, 148 x 128 lanes at 1.856 GHz: 183 us; DRAM takes 110."""
    seconds = float(cast_seconds(B200, constants("blackwell"), np.array([2.0**28]))[0])
    assert seconds - small_kernel_s(B200) == pytest.approx(2**28 * 24 / (148 * 128 * 1.856e9))


def always_and_only_where_split(**sizes: int) -> tuple[AttentionCase, AttentionCase]:
    case = case_of_sizes("h100-sxm", "triton-decode", 128, queries=1, **sizes)
    return case, replace(case, kernel=case.kernel.model_copy(update={"always_combines": False}))


def test_triton_combines_parts_of_one() -> None:
    """SGLang: the second stage runs, and reads what the first wrote, where keys are not split either.

    Blocks of 4 warps, 16 on each of 132 SMs: 4 heads with 7 parts that are empty; 4 rows to combine at once, each with
    two trips to L2.
    """
    case, without = always_and_only_where_split(keys=32, heads=4, heads_kv=4)
    assert case.work.splits[0] == 1
    always, only_splits = attention_timing(case), attention_timing(without)
    row_s = 128 * 4 / 64 / case.device.clock_hz + 2 * 0.3e-6
    more = case.device.launch_s + row_s + 4 * 7 / (16 * 132) * 0.3e-6
    assert always.launch_s[0] - only_splits.launch_s[0] == pytest.approx(more)
    assert always.movement.l2_bytes[0] - only_splits.movement.l2_bytes[0] == 2 * 4 * (128 + 1) * 4


def test_rows_are_combined_part_after_part_by_as_many_blocks_as_fit() -> None:
    """4,224 rows on 2,112 places: two rounds; four trips for three parts, two for one. Key heads of eight rows."""
    case, _ = always_and_only_where_split(batch=528, heads=8, heads_kv=1, keys=96)
    one, three = (replace(case, work=replace(case.work, splits=0 * case.work.splits + parts, row_tiles=one_tile))
                  for parts, one_tile in ((1, case.work.row_tiles), (3, case.work.row_tiles)))  # fmt: skip
    port_s = 2 * 128 * 4 / 64 / case.device.clock_hz  # two parts more of a row
    empty_s = 528 * 2 / (16 * 132) * 0.3e-6  # two parts fewer without keys
    more = attention_timing(three).launch_s[0] - attention_timing(one).launch_s[0]
    assert more == pytest.approx(2 * 2 * 0.3e-6 + port_s - empty_s)
