"""Products of matrices: tiles, steps of the depth, results, and what large and narrow ones take."""

from __future__ import annotations

import numpy as np
import pytest
from preset_devices import device

from cascadesim.accelerators.gpu import gemm
from cascadesim.accelerators.gpu.batch import gemm_seconds
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.gemm import (
    GemmSizes,
    InL2,
    TileOptions,
    _options,
    arriving_tiles,
    choice_of,
    gemm_timing,
    loaded_bytes,
    products_cycles,
    slowed_by,
)
from cascadesim.accelerators.gpu.memory import dram_seconds, dram_share
from cascadesim.accelerators.gpu.spec import OperandTypes


def test_the_depth_of_a_product_is_padded_to_whole_steps() -> None:
    """Steps of 64: a depth of 4033 multiplies as long as one of 4096, and longer than 4032."""
    on = device("h100-sxm")
    timed = gemm_timing(on, constants(on.generation), 8192, 8192, [4032, 4033, 4096], 1, "bf16")
    assert timed.tensor_s[0] < timed.tensor_s[1] == timed.tensor_s[2]


@pytest.mark.parametrize(("name", "rows"), [("b200", 3), ("b200", 16), ("b200", 130), ("h100-sxm", 3)])
def test_no_block_of_a_cluster_is_without_rows_of_its_own(name: str, rows: int) -> None:
    """111 experts of a few rows: blocks that share weights lie along rows, and there are as many tiles of them."""
    on = device(name)
    options = gemm_timing(on, constants(on.generation), rows, 5760, 2880, 111, "bf16").options
    assert options.share_outputs[0] <= np.ceil(rows / options.rows[0])


def test_clusters_of_blackwell_are_two_by_two_or_none() -> None:
    on, sizes = device("b200"), GemmSizes(*(np.array([float(size)]) for size in (4096, 4096, 4096, 1)), 2, 2, 2)
    options = _options(on, sizes, "best")
    half = len(options.rows) // 2
    assert options.rows[:half].tolist() == options.rows[half:].tolist()
    assert set(options.share_rows[:half, 0]) == set(options.share_outputs[:half, 0]) == {1.0}
    assert set(options.share_rows[half:, 0]) == set(options.share_outputs[half:, 0]) == {2.0}
    one = _options(device("h100-sxm"), sizes, "best")
    assert (one.share_rows * one.share_outputs == 2).all()


def test_many_products_are_timed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven products two at a time, as all at once; each with the share of its weights that L2 has."""
    on, rows, kept = device("h100-sxm"), np.arange(1, 8) * 100, np.linspace(0, 1, 7)
    asked = on, constants(on.generation), rows, 4096, 4096, 1, "bf16"
    whole = gemm_timing(*asked, in_l2=InL2(kept, kept, kept))
    monkeypatch.setattr(gemm, "AT_ONCE", 2)
    parts = gemm_timing(*asked, in_l2=InL2(kept, kept, kept))
    assert parts.total_s.tolist() == whole.total_s.tolist()
    assert parts.dram_read_bytes.tolist() == whole.dram_read_bytes.tolist()
    assert parts.options.rows.tolist() == whole.options.rows.tolist()


def test_a_split_depth_takes_a_second_kernel() -> None:
    """1024 x 2048 over 8192: 4 x 16 tiles of 256 x 128, in two halves: 128 blocks at once, then a kernel of 2.5 us."""
    on = device("h100-sxm")
    slow = constants(on.generation).model_copy(update={"gemm_fraction": 0.7})  # so that L2 does not bound it
    timed = gemm_timing(on, slow, 1024, 2048, 8192, 1, "bf16")
    chosen = choice_of(timed, (1024, 2048, 8192, 1))
    assert (chosen.tile, chosen.splits, chosen.blocks) == ((256, 128), 2, 128)
    assert timed.launch_s[0] == pytest.approx(2 * (1.3e-6 + 1.2e-6))
    block_s = timed.tensor_s[0] * on.sms / 128
    fifth_powers = block_s**5 + timed.l2_s[0] ** 5 + timed.dram_s[0] ** 5
    assert timed.total_s[0] - timed.launch_s[0] == pytest.approx(fifth_powers ** (1 / 5))


def test_scattered_fp32_results_bound_products_of_little_depth() -> None:
    """P4: 24 x 2048 x 2048 results of 4 bytes through 20 SMs, 2 bytes a clock each: 9.47 ms (published: 9.27).

    At a depth of 2048 the products take longer, and the results leave meanwhile. Steps of the depth are 8.
    """
    on = device("p4")
    timed = gemm_timing(on, constants(on.generation), 2048, 2048, [64, 2048], 24, "fp32")
    stored_s = 24 * 2048 * 2048 * 4 / (20 * 2.0 * on.clock_hz)
    assert stored_s < timed.total_s[0] - timed.launch_s[0] < 1.04 * stored_s  # and from block to block of an SM
    assert stored_s == pytest.approx(9.47e-3, rel=1e-3)
    products_s = 24 * 2048**3 / (20 * 128 * on.clock_hz * constants(on.generation).gemm_fraction)
    assert timed.total_s[1] - timed.launch_s[1] == pytest.approx(products_s, rel=0.03)
    h100 = device("h100-sxm")
    whole = gemm_timing(h100, constants("hopper"), 2048, 2048, 64, 24, "fp32")
    assert whole.total_s[0] < 24 * 2048 * 2048 * 4 / (h100.sms * 2.0 * h100.clock_hz)  # in whole lines
    deep = gemm_timing(on, constants(on.generation), 2048, 2048, [800, 805, 808], 24, "fp32").tensor_s
    assert deep[0] < deep[1] == deep[2]


def test_results_of_fp32_products_are_fp32() -> None:
    """24 x 2048 x 2048 results of 4 bytes, more than L2 keeps; of 16-bit products half as many bytes."""
    on = device("a100-sxm")
    wide, narrow = (gemm_timing(on, constants(on.generation), 2048, 2048, 64, 24, dtype) for dtype in ("fp32", "bf16"))
    assert wide.dram_write_bytes[0] == 24 * 2048 * 2048 * 4 == 2 * narrow.dram_write_bytes[0]


def test_a_library_with_fixed_tiles_takes_them_by_rows() -> None:
    """sgl-kernel on Hopper: 64 x 64 up to 64 rows, 64 x 128 up to 128, 128 x 128 beyond; never a split depth."""
    on = device("h100-sxm")
    timed = gemm_timing(on, constants(on.generation), [1, 64, 65, 128, 129, 4096], 256, 51200, 1, "fp8", "sgl-kernel")
    tiles = list(zip(timed.options.rows.tolist(), timed.options.outputs.tolist(), strict=True))
    assert tiles == [(64, 64)] * 2 + [(64, 128)] * 2 + [(128, 128)] * 2
    assert set(timed.options.splits.tolist()) == {1}
    best = gemm_timing(on, constants(on.generation), [1, 129], 256, 51200, 1, "fp8")
    assert (best.total_s <= timed.total_s[[0, 4]]).all()


def test_fifth_generation_tensor_cores_need_128_rows() -> None:
    """64 x 64 on Blackwell takes as many clocks as 128 x 64; on Hopper half as many. At a rate that products bound."""
    one = np.array([1.0])
    for name, ratio in (("b200", 1.0), ("h100-sxm", 0.5)):
        on = device(name)
        slow = constants(on.generation).model_copy(update={"gemm_fraction": 0.3})
        half, full = (products_cycles(on, slow, "fp8", TileOptions(rows * one, 64 * one, one, one, one))[0]
                      for rows in (64, 128))  # fmt: skip
        assert half / full == pytest.approx(ratio)


def test_of_what_a_pair_of_sms_shares_a_half_arrives_at_each() -> None:
    """128 x 256 in 16 bits: outputs that two blocks share are 128 of 256 columns from L2, all of them at an SM of
    Hopper, a half on Blackwell; where a cluster of two by two shares both, pairs lie along rows."""
    one, types = np.array([1.0]), OperandTypes("bf16", "bf16")
    for name, shares, arriving in (
        ("h100-sxm", (1, 2), 128 + 256), ("b200", (1, 2), 128 + 128), ("b200", (2, 1), 64 + 256),
        ("b200", (2, 2), 128 + 128), ("b200", (4, 1), 128 + 256),
    ):  # fmt: skip
        options = TileOptions(128 * one, 256 * one, one, shares[0] * one, shares[1] * one)
        assert loaded_bytes(types, options, 4096 * one, 4096 * one)[0] == 2 * (128 / shares[0] + 256 / shares[1])
        assert loaded_bytes(types, arriving_tiles(device(name), options), 4096 * one, 4096 * one)[0] == 2 * arriving


def test_l2_gives_no_rows_or_outputs_that_a_product_does_not_have() -> None:
    """TMA fills a tile beyond a tensor with zeros: 128 x 256 of 48 rows and 32 outputs."""
    one, types = np.array([1.0]), OperandTypes("bf16", "bf16")
    options = TileOptions(128 * one, 256 * one, one, one, one)
    assert loaded_bytes(types, options, 48 * one, 32 * one)[0] == 2 * (48 + 32)


def test_the_trips_of_a_launch_are_lost_once() -> None:
    """100 MB on H100 lose the ramp of DRAM, of which the first load and the last store, 1.2 us, are in the launch."""
    on, known = device("h100-sxm"), constants("hopper")
    timing = gemm_timing(on, known, 1, 8192, 6144, 1, "bf16")
    moved = (timing.dram_read_bytes + timing.dram_write_bytes) / dram_share(
        timing.dram_read_bytes, timing.dram_write_bytes)
    assert timing.dram_s[0] == pytest.approx(dram_seconds(on, known, moved)[0] - 1.2e-6)


def test_power_holds_down_the_clock_by_its_cube_root() -> None:
    """L40S: 142 x 1,024 operations a clock of 2.49 GHz, each 1 pJ x 2.49^2, are 2,245 W of 350; A100: 400 W are enough
    for 0.5 pJ x 1.41^2, 310 W; wgmma is not held down. Half of it after 0.5 ms, next to all after a second."""
    one = np.array([1.0])
    most = (142 * 1024 * 2.49**3 * 1e-3 / 350) ** (1 / 3)
    for name, energy_pj, slower in (("l40s", 1.0, most), ("a100-sxm", 0.5, 1.0), ("h100-sxm", 9.0, 1.0)):
        on = device(name)
        known = constants(on.generation).model_copy(update={"tensor_energy_pj": energy_pj})
        assert slowed_by(on, known, one, 1e3 * one)[0] == pytest.approx(slower, rel=1e-5)
        assert slowed_by(on, known, one, 0.5e-3 * one)[0] == pytest.approx((1 + slower) / 2)
        assert slowed_by(on, known, one / 8, 1e3 * one)[0] == pytest.approx(max(slower / 2, 1.0), rel=1e-5)


def test_long_products_are_held_down_and_short_ones_are_not() -> None:
    """4096 cubed, 0.5 ms, and 64 of them; on FP32 units none."""
    on = device("l40s")
    one, many = gemm_timing(on, constants("ada"), 4096, 4096, 4096, [1, 64], "bf16").slowed
    assert 1.1 < one < many - 0.1
    assert gemm_timing(on, constants("ada"), 4096, 4096, 4096, 64, "fp32").slowed.tolist() == [1.0]


def test_a_product_that_memory_bounds_waits_for_little_else() -> None:
    """One row of 4096 over 4096 waits for its weights; what it multiplies meanwhile disturbs that by 0.2 % at most."""
    on = device("h100-sxm")
    timed = gemm_timing(on, constants(on.generation), 1, 4096, 4096, 1, "bf16")
    assert timed.total_s[0] == pytest.approx(timed.launch_s[0] + timed.dram_s[0], rel=2e-3)


def test_eight_thousand_cubed_takes_what_a_large_product_reaches() -> None:
    """Kernels note, section 6: 798 TFLOPS seen on an H100 at 8192^3, of 989."""
    seconds = gemm_seconds(device("h100-sxm"), rows=8192, outputs=8192, depth=8192)[0]
    assert 2 * 8192**3 / 989.4e12 < seconds < 2 * 8192**3 / 600e12


def test_a_product_of_one_row_streams_its_weights() -> None:
    """4096 x 14336 x 2 bytes at 3.04 TB/s: 39 us."""
    seconds = gemm_seconds(device("h100-sxm"), rows=1, outputs=14336, depth=4096)[0]
    assert 4096 * 14336 * 2 / 3.35e12 < seconds < 2 * 4096 * 14336 * 2 / 3.039e12


def test_products_of_8_bits_reach_less_of_their_peak() -> None:
    """Twice the rate of 16 bits, at a share of it; where products bound them."""
    on, one = device("h100-sxm"), np.array([1.0])
    slow = constants("hopper").model_copy(update={"gemm_fraction": 0.3})
    wide, narrow = (products_cycles(on, slow, kind, TileOptions(128 * one, 128 * one, one, one, one))[0]
                    for kind in ("bf16", "fp8"))  # fmt: skip
    assert wide / narrow == pytest.approx(2 * slow.narrow_share)


def test_a_block_waits_for_the_one_before_it_where_no_tensor_memory_holds_two() -> None:
    """A100, 64 rows of depth beyond the first: as many waves, each 1.2 us later; on Blackwell at once."""
    for name, turns in (("a100-sxm", True), ("b200", False)):
        on = device(name)
        timed = gemm_timing(on, constants(on.generation), 32768, 32768, 64, 1, "bf16")
        tile = float(timed.options.rows[0] * timed.options.outputs[0])
        waves = np.ceil(32768**2 / tile / on.sms)
        idle_s = timed.total_s[0] - timed.launch_s[0] - max(timed.tensor_s[0], timed.dram_s[0], timed.l2_s[0])
        assert (idle_s > 0.3 * waves * 1.2e-6) == turns


def test_blocks_come_in_whole_clusters() -> None:
    """513 rows in tiles of 128 whose clusters reach over 256 rows and 256 outputs: 6 x 28 blocks, not 5 x 28."""
    on = device("b200")
    timed = gemm_timing(on, constants(on.generation), 513, 3584, 8192, 1, "fp8", "sgl-kernel")
    assert choice_of(timed, (513, 3584, 8192, 1)).blocks == 6 * 28


def test_sgl_kernel_on_ada_chooses_by_rows_and_outputs() -> None:
    on = device("l40s")
    rows, outputs = [1, 1, 16, 64, 97, 200, 200, 4096], [8192, 8200, 12288, 20000, 65536, 8192, 12288, 64]
    timed = gemm_timing(on, constants("ada"), rows, outputs, 4096, 1, "fp8", "sgl-kernel")
    tiles = list(zip(timed.options.rows.tolist(), timed.options.outputs.tolist(), strict=True))
    assert tiles == [(16, 64), (32, 64), (32, 64), (16, 64), (32, 64), (128, 64), (64, 128), (128, 128)]


def test_cublas_of_2023_has_fewer_tiles_on_hopper() -> None:
    """528 rows: 5 x 32 blocks of 128 x 256 are two rounds of 132 SMs; later kernels have a tile that takes one."""
    on = device("h100-sxm")
    old, new = (gemm_timing(on, constants("hopper"), 528, 8192, 2048, 1, "fp16", library).total_s[0]
                for library in ("cublas-12.1", "best"))  # fmt: skip
    assert 1.3 * new < old == pytest.approx(51.5e-6, rel=0.25)  # published: 51.5 us


def test_what_l2_has_is_not_read() -> None:
    on, one = device("b200"), np.array([1.0])
    cold, warm = (gemm_timing(on, constants("blackwell"), 64, 4096, 4096, 1, "bf16", in_l2=InL2(share, share, share))
                  for share in (0 * one, one))  # fmt: skip
    assert cold.dram_read_bytes[0] == 2 * 4096 * (64 + 4096)
    assert cold.dram_write_bytes[0] == 2 * 4096 * 64
    assert warm.dram_read_bytes[0] == warm.dram_write_bytes[0] == 0
    assert warm.total_s[0] < cold.total_s[0]
