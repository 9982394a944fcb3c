"""Seconds of attention: what a key tile takes of each unit, and what published figures and the bounds of the units say
they must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attention_cases import PAPER, case_of_sizes, timing
from preset_devices import device

from cascadesim.accelerators.gpu.attention.tile import (
    AttentionCase,
    case_of,
    iteration_cycles,
    legacy_rate,
    mask_instructions,
    producer_cycles,
    tile_cycles,
)
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.spec import Dtype
from cascadesim.accelerators.gpu.timing import attention_timing, loads_ahead


def tflops(name: str, kernel: str, head_dim: int, **sizes: int) -> float:
    used = {**PAPER, **sizes}
    seconds = timing(name, kernel, head_dim, **sizes).total_s[0]
    return float(4 * used["heads"] * used["queries"] * used["keys"] * head_dim / seconds / 1e12)


def cycles_a_tile(name: str, kernel: str, unit: str, **sizes: int) -> tuple[float, AttentionCase]:
    """Clocks of the unit of one SM for one tile of head dimension 128, and the case."""
    case = case_of_sizes(name, kernel, 128, **sizes)
    seconds = getattr(attention_timing(case), unit)[0]
    return float(seconds * case.device.clock_hz * case.device.sms / case.work.visited[0]), case


def test_instructions_of_a_tile() -> None:
    """Each score: the kernel's instructions and one of its sum; each output: one to rescale it; 128 lanes a clock."""
    cycles, case = cycles_a_tile("h100-sxm", "flash-attention-3", "issue_s", keys=94 * 176)  # whole tiles: no masks
    queries, keys = case.tiles.queries[0], case.tiles.keys[0]
    assert cycles == pytest.approx((queries * keys * (case.instructions_per_score + 1) + queries * 128) / 128)
    masked, causal = cycles_a_tile("h100-sxm", "flash-attention-3", "issue_s", causal=1)
    share = causal.work.masked[0] / causal.work.visited[0]
    queries, keys = causal.tiles.queries[0], causal.tiles.keys[0]
    plain = (queries * keys * (case.instructions_per_score + 1) + queries * 128) / 128
    assert share > 0
    assert masked - plain == pytest.approx(queries * keys * 2 * share / 128)  # a comparison and a select


def test_kernels_whose_instructions_were_counted_keep_their_count() -> None:
    asked, on, known = shape(1, 16, 16, 4096, 4096, 128), device("h100-sxm"), constants("hopper")
    kinds = {name: case_of(on, load_kernel(name), known, asked, "bf16", "bf16").instructions_per_score
             for name in ("flash-attention-3", "flash-attention-2", "triton")}  # fmt: skip
    assert kinds["flash-attention-3"] == known.instructions_specialised
    assert kinds["flash-attention-2"] == kinds["triton"] == known.instructions_plain
    counted = load_kernel("triton").model_copy(update={"instructions_per_score": 9.5})
    assert case_of(on, counted, known, asked, "bf16", "bf16").instructions_per_score == 9.5


def test_two_sums_of_8_bit_values_of_256_elements_do_not_fit_registers() -> None:
    """vLLM's FlashAttention-3: one sequence of 16 key tiles of 128, of which all but the first find sums to add to.

    Their products with values take the rate that spills leave; those with 192 elements or in 16 bits do not. Sums of a
    tile are added to those so far by an instruction for each element, 128 lanes a clock; in 16 bits there is one sum.
    """
    on, known, kernel = device("h100-sxm"), constants("hopper"), load_kernel("flash-attention-3-two-sums-decode")
    one = kernel.model_copy(update={"splits_keys": False})
    in_one = one.model_copy(update={"adds_apart": False})
    types: tuple[tuple[int, Dtype], ...] = ((256, "fp8"), (192, "fp8"), (256, "bf16"))
    for depth, dtype in types:
        asked = shape(1, 1, 1, 1, 2048, depth)
        more, less = (tile_cycles(case_of(on, each, known, asked, dtype, dtype)) for each in (one, in_one))
        spills = (depth, dtype) == (256, "fp8")
        longer = 0.5 * 15 / 16 * (1 / known.spilled_rate - 1)  # half of the products are with values
        assert more[0][0] / less[0][0] == pytest.approx(1 + spills * longer)
        rows = case_of(on, one, known, asked, dtype, dtype).tiles.queries[0]
        assert more[2][0] - less[2][0] == pytest.approx(rows * depth / 128 if dtype == "fp8" else 0)


def test_values_in_two_parts_are_blocks_that_multiply_queries_and_keys_twice() -> None:
    """trtllm-gen at a depth of 512: two blocks of 256 columns, 3 x 512 columns of products instead of 2 x 512.

    Each computes all the scores, and reads all of the keys beside half of the values.
    """
    on, kernel, known = device("b200"), load_kernel("trtllm-gen"), constants("blackwell")
    asked = shape(1, 16, 16, 4096, 4096, 512)
    halves = case_of(on, kernel, known, asked, "bf16", "bf16")
    whole = case_of(on, kernel.model_copy(update={"most_value_columns": None}), known, asked, "bf16", "bf16")
    assert halves.work.blocks[0] == 2 * whole.work.blocks[0]
    tensor, special = (tile_cycles(halves)[unit][0] / tile_cycles(whole)[unit][0] for unit in (0, 1))
    assert 2 * tensor == pytest.approx(1.5)
    assert special == 1
    twice, once = (attention_timing(case).movement.l2_bytes[0] for case in (halves, whole))
    rows = 2 * 16 * 4096 * 512 * 2
    assert (twice - rows) / (once - rows) == pytest.approx(1.5)


@pytest.mark.parametrize(("counted", "elements"), [(None, 256), (8.5, 0)])
def test_caches_are_converted_element_by_element_by_so_many_instructions_as_are_calibrated_or_counted(
    counted: float | None, elements: int
) -> None:
    """FlashInfer: 128 numbers of a key and 128 of its value."""
    known, found = constants("hopper"), load_kernel("flashinfer-decode")
    own = found.model_copy(update={"converting_instructions": counted})
    case = case_of(device("h100-sxm"), own, known, shape(1, 16, 16, 1, 4096, 128), "bf16", "fp8")
    free = replace(case, constants=known.model_copy(update={"conversion_instructions": 0.0}))
    more = tile_cycles(case)[2][0] - tile_cycles(free)[2][0]
    assert found.converting_instructions == 8.5
    assert more == pytest.approx(known.conversion_instructions * case.tiles.keys[0] * elements / 128)


# 16 rows, whose keys warps divide; 64, 16 of a warp
@pytest.mark.parametrize(("heads", "keys", "times"), [(8, 256, 1), (32, 128, 4)])
def test_conversions_that_were_counted(heads: int, keys: int, times: int) -> None:
    """FlashInfer: 8.5 instructions for each number of a tile, by each warp that reads them."""
    on, kernel = device("h100-sxm"), load_kernel("flashinfer-decode")
    case = case_of(on, kernel, constants("hopper"), shape(1, heads, 1, 1, 4096, 128), "bf16", "fp8")
    known = case.constants.model_copy(update={"conversion_instructions": 0.0})
    free = replace(case, constants=known, kernel=kernel.model_copy(update={"converting_instructions": None}))
    more = tile_cycles(case)[2][0] - tile_cycles(free)[2][0]
    assert case.tiles.keys[0] == keys
    assert more == pytest.approx(8.5 * keys * 256 / 128 * times)


def test_warps_that_load_transpose_8_bit_values_while_others_multiply() -> None:
    """FlashAttention-3: look the pages up, then transpose; the tile takes as long as the slower of the two."""
    on, kernel, known = device("h100-sxm"), load_kernel("flash-attention-3-decode"), constants("hopper")
    narrow, wide = (case_of(on, kernel, known, shape(1, 16, 16, 1, 4096, 128), one, one) for one in ("fp8", "bf16"))
    transposed = known.conversion_instructions * 160 * 128 / 128
    assert producer_cycles(narrow)[0] == pytest.approx(0.3e-6 * on.clock_hz + transposed)
    assert producer_cycles(wide)[0] == 0
    cycles = tile_cycles(narrow)
    consumed = iteration_cycles(replace(narrow, kernel=kernel.model_copy(update={"transposes_values": False})), *cycles)
    assert iteration_cycles(narrow, *cycles)[0] == max(consumed[0], producer_cycles(narrow)[0])


@pytest.mark.parametrize(("kernel", "heads", "readings"), [
    ("flash-attention-2-decode", 8, 4),  # 64 rows, 16 of each of four warps
    ("flash-attention-2", 8, 4),  # 128 rows, 32 of each
    ("flashinfer-decode", 8, 1),  # 16 rows: warps divide the keys
    ("trtllm-xqa", 32, 1),  # 32 rows, which every warp has
])  # fmt: skip
def test_each_warp_reads_keys_for_its_own_rows(kernel: str, heads: int, readings: int) -> None:
    case = case_of_sizes("a100-sxm", kernel, 128, heads=heads, heads_kv=1, queries=1)
    rows, keys = case.tiles.queries[0], case.tiles.keys[0]
    assert tile_cycles(case)[3][0] == ((readings + 1) * keys * 256 + rows * 128) * 2 / 128


def test_shared_memory_of_a_tile() -> None:
    """FlashAttention-2 on an A100: keys and values of a tile are written once and read by every 32 rows of queries."""
    cycles, case = cycles_a_tile("a100-sxm", "flash-attention-2", "shared_memory_s")
    queries, keys = case.tiles.queries[0], case.tiles.keys[0]
    assert queries >= 64
    elements = (queries / 32 + 1) * keys * (128 + 128) + queries * 128
    assert cycles == pytest.approx(2 * elements / 128)  # bf16; 32 banks of 4 bytes a clock


def test_outputs_of_8_bit_attention_have_16_bits() -> None:
    """67 MB, more than L2 keeps: all of them written."""
    on = device("h100-sxm")
    asked = shape(1, 16, 16, 16384, 16384, 128)
    case = case_of(on, load_kernel("flash-attention-3"), constants(on.generation), asked, "fp8", "fp8")
    assert attention_timing(case).movement.dram_write_bytes[0] == 16 * 16384 * 128 * 2


def test_partial_outputs_are_written_and_read() -> None:
    """Split keys: each part's 128 outputs and one statistic of every query, in 4 bytes, there and back through L2."""
    case = case_of_sizes("h100-sxm", "flash-attention-3-decode", 128, queries=1, keys=65536)
    parts = case.work.splits[0]
    assert parts > 1
    walked = case.work.visited[0] * case.tiles.keys[0] * (128 + 128) * 2
    in_and_out = 2 * 16 * 128 * 2
    found = attention_timing(case).movement.l2_bytes[0]
    assert found - walked - in_and_out == 2 * parts * 16 * (128 + 1) * 4


def test_flash_attention_2_reaches_half_to_three_quarters_of_an_a100() -> None:
    """FlashAttention-2 paper, abstract: 50-73% of 312 TFLOPS; a tenth more or less, as the suite gpu-encoder allows."""
    for head_dim, heads in ((64, 32), (128, 16)):
        assert 0.45 <= tflops("a100-sxm", "flash-attention-2", head_dim, heads=heads, heads_kv=heads) / 312 <= 0.80


def test_flash_attention_3_is_faster_than_2_on_an_h100() -> None:
    """FA3 paper, figure 5, head dimension 128, 16 K: 648 against 370 TFLOPS, 1.75 times."""
    three, two = (tflops("h100-sxm", f"flash-attention-{version}", 128) for version in (3, 2))
    assert 1.4 <= three / two <= 2.2
    assert 0.8 <= three / 648 <= 1.2
    assert 0.8 <= two / 370 <= 1.25


def test_narrow_heads_are_bound_by_exponentials_on_hopper_and_blackwell() -> None:
    """4 * 64 / 4096 clocks of products a score against 1 / 16 of exponentials: equal on H100, twice on B200."""
    narrow, wide = (timing("h100-sxm", "flash-attention-3", head_dim) for head_dim in (64, 128))
    assert narrow.special_s[0] > 0.9 * narrow.tensor_s[0]  # at what each of them reaches of its peak
    assert wide.special_s[0] < wide.tensor_s[0]
    assert timing("b200", "trtllm-gen", 64).special_s[0] > 1.5 * timing("b200", "trtllm-gen", 64).tensor_s[0]


@pytest.mark.parametrize(
    ("name", "kernel", "head_dim", "products", "exponentials"),
    [
        ("a100-sxm", "flash-attention-2", 64, 2048, 1024), ("a100-sxm", "flash-attention-2", 128, 4096, 1024),
        ("h100-sxm", "flash-attention-3", 64, 1024, 1024), ("h100-sxm", "flash-attention-3", 128, 2048, 1024),
        ("h100-sxm", "flash-attention-3", 256, 4096, 1024), ("b200", "trtllm-gen", 128, 1024, 1024),
        ("l40s", "flash-attention-2", 64, 4096, 1024), ("rtx4090", "flash-attention-2", 128, 16384, 1024),
    ],
)  # fmt: skip
def test_no_kernel_beats_the_units_of_its_device(
    name: str, kernel: str, head_dim: int, products: int, exponentials: int
) -> None:
    """Clocks for 128 x 128 scores: 4 * 128^2 * d / FLOP a clock, 128^2 / 16 (public table of bounds)."""
    found = timing(name, kernel, head_dim)
    tiles = 16 * (16384 / 128) ** 2 / device(name).sms
    at_least = max(products, exponentials * 0.74) * tiles / device(name).clock_hz  # up to 26% of them emulated
    assert found.total_s[0] >= at_least
    assert found.tensor_s[0] >= products * tiles / device(name).clock_hz
    serial = (products + exponentials) * tiles / device(name).clock_hz
    assert found.total_s[0] <= 2.2 * serial  # measured rows of the public table lie at 0.4 to 1.1 of the serial bound


def test_stored_scores_are_bound_by_dram() -> None:
    """3-pass attention as separate kernels moves 8 bytes a score: 16 * 16384^2 * 8 / 3.04 TB/s = 11 ms on H100."""
    found = timing("h100-sxm", "unfused-pytorch", 64)
    assert found.dram_s[0] > max(found.tensor_s[0], found.special_s[0])
    assert found.dram_s[0] >= 16 * 16384**2 * 8 / 3.039e12
    assert found.total_s[0] > 2 * timing("h100-sxm", "flash-attention-3", 64).total_s[0]


def test_a_softmax_of_its_own_multiplies_nothing() -> None:
    """It reads and writes 2 bytes a score, 16 x 16384^2 of them, at 0.8 of what DRAM reads; products have the rest."""
    found = timing("h100-sxm", "unfused-pytorch", 256)
    peak = constants("hopper").dram_fraction * device("h100-sxm").dram_ceiling_bytes_per_s
    softmax_s = 16 * 16384**2 * 4 / (0.8 * peak)
    beside_s = found.total_s[0] - found.launch_s[0] - softmax_s
    assert max(found.schedule_s[0], found.dram_s[0] - softmax_s) < beside_s < found.schedule_s[0] + found.dram_s[0]


def test_windows_and_causal_masks_save_time() -> None:
    full, causal, window = (
        timing("h100-sxm", "flash-attention-3", 128, causal=masked, window=size).total_s[0]
        for masked, size in ((0, 0), (1, 0), (1, 1024))
    )
    assert 0.45 * full < causal < 0.65 * full
    assert window < 0.3 * causal


def test_split_keys_hide_memory_better_and_not_quite() -> None:
    """The longer of memory and schedule, and less than where keys are not split."""
    split = case_of_sizes("h100-sxm", "flash-attention-3-decode", 128, queries=1, keys=65536, heads=32, heads_kv=4)
    times = {}
    for splits in (True, False):
        kernel = split.kernel.model_copy(update={"splits_keys": splits})
        found = attention_timing(AttentionCase(**{**vars(split), "kernel": kernel}))
        longer = np.maximum(found.schedule_s, np.maximum(found.dram_s, found.l2_s))
        times[splits] = float((found.total_s - found.launch_s - longer)[0])
    assert 0 < times[True] < times[False]


def test_paged_8_bit_attention_overlaps_nothing_at_a_depth_of_256() -> None:
    """FlashAttention-3, tile_size.h: no IntraWGOverlap there; softmax comes after the products."""
    known = constants("hopper")
    hidden = {(depth, kind): float(case_of(device("h100-sxm"), load_kernel("flash-attention-3-decode"), known,
                                           shape(1, 8, 8, 1, 4096, depth), kind, kind).hidden[0])
              for depth in (128, 256) for kind in ("bf16", "fp8")}  # fmt: skip
    assert hidden.pop((256, "fp8")) == 0
    assert set(hidden.values()) == {known.overlap_specialised}


def test_older_instructions_reach_less_of_newer_tensor_cores() -> None:
    assert legacy_rate("mma_sync", "ampere") == legacy_rate("tcgen05", "blackwell") == 1
    assert legacy_rate("mma_sync", "blackwell") < legacy_rate("mma_sync", "hopper") < 1


def test_kernels_that_load_ahead_wait_less_for_memory() -> None:
    case = case_of_sizes("h100-sxm", "trtllm-fmha-hopper", 128, queries=512, keys=512, batch=64)
    plain = replace(case, kernel=case.kernel.model_copy(update={"loads_ahead": False}))
    ahead, waiting = (attention_timing(one) for one in (case, plain))
    longer = max(ahead.schedule_s[0], ahead.dram_s[0], ahead.l2_s[0])
    assert longer + ahead.launch_s[0] <= ahead.total_s[0] < waiting.total_s[0]


@pytest.mark.parametrize(("name", "kernel", "cache", "ahead"), [
    ("b200", "mla-trtllm-gen", "bf16", False),  # 128 keys of 576 numbers: 147 KB, twice of which exceed 228 KiB
    ("b200", "mla-trtllm-gen", "fp8", True),
    ("h100-sxm", "mla-absorbed", "bf16", True),  # 64 keys: 74 KB
])  # fmt: skip
def test_latent_keys_are_loaded_ahead_where_two_tiles_fit(name: str, kernel: str, cache: Dtype, ahead: bool) -> None:
    on = device(name)
    asked = shape(4, 16, 1, 1, 4096, 576, 512, shared_key_value=True)
    case = case_of(on, load_kernel(kernel), constants(on.generation), asked, "bf16", cache)
    assert loads_ahead(case)[0] == ahead


def test_windows_compare_with_both_ends_where_the_kernel_does() -> None:
    """TensorRT-LLM: ten instructions a score more in tiles that a window cuts; under a causal mask two, as others."""
    for kernel, more in (("trtllm-gen", 10), ("flash-attention-4", 0)):
        window, causal = (mask_instructions(case_of_sizes("b200", kernel, 128, causal=1, window=size))[0]
                          for size in (128, 0))  # fmt: skip
        one = case_of_sizes("b200", kernel, 128, causal=1, window=128)
        assert window == pytest.approx((2 + more) * float(one.work.masked[0] / one.work.visited[0]))
        assert causal < 2
