"""Thread blocks of attention over SMs: their tiles, turns and rounds, what they copy, and how parts are combined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attention_cases import case_of_sizes
from preset_devices import device

from cascadesim.accelerators.gpu.attention.tile import AttentionCase, case_of, iteration_cycles, tile_cycles
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.memory import DRAM_LATENCY_S
from cascadesim.accelerators.gpu.timing import (
    append_cycles,
    attention_timing,
    carried_bytes,
    hidden_cycles,
    makespan_cycles,
    scan_cycles,
    tiles_of_last_sm,
    turn_cycles,
)


def test_a_scheduler_searches_for_the_next_sequence() -> None:
    """FlashAttention-3: every block but the first of an SM reads 31 sequences, a trip to L2, half of one to DRAM; and
    each SM walks over all 2,048 once, in 66 such trips."""
    on, kernel, known = device("h100-sxm"), load_kernel("flash-attention-3-decode"), constants("hopper")
    case = case_of(on, kernel, known, shape(2048, 1, 1, 1, 128, 128), "bf16", "bf16")
    carried_s = 2 * 128 * 2 / 64 / on.clock_hz  # a query and its result through the port of the SM
    expected = known.persistent_share * known.block_latency_s + 0.3e-6 + carried_s
    assert turn_cycles(case, np.ones(1))[0] / on.clock_hz == pytest.approx(expected)
    assert scan_cycles(case)[0] / on.clock_hz == pytest.approx(2048 / 31 * 0.3e-6)
    few = case_of(on, kernel, known, shape(100, 1, 1, 1, 128, 128), "bf16", "bf16")
    assert scan_cycles(few)[0] == 0  # one block each: it has no next one


def test_blocks_of_one_tile_search_for_it_from_the_first_sequence_on() -> None:
    """FlashAttention-4: 2,048 sequences are 67 groups of 31: half of them on average, when a block begins and ends."""
    alone = {"queries": 1, "heads": 1, "heads_kv": 1, "keys": 8}
    case = case_of_sizes("h100-sxm", "flash-attention-4-decode", 512, batch=2048, **alone)
    searched_s = 2 * (67 + 1) / 2 * 0.3e-6
    once = replace(case, kernel=case.kernel.model_copy(update={"searches_anew": False, "sequences_per_scan": 0}))
    more = turn_cycles(case, np.ones(1))[0] - turn_cycles(once, np.ones(1))[0]
    assert more / case.device.clock_hz == pytest.approx(searched_s)
    assert scan_cycles(case)[0] / case.device.clock_hz == pytest.approx(searched_s)  # of the first block


def test_longest_blocks_first_leave_the_shortest_for_the_end() -> None:
    """FlashAttention-3, causal: no SM ends later than the others by more than a short block."""
    case = case_of_sizes("h100-sxm", "flash-attention-3", 128, heads=132, heads_kv=132, causal=1)
    in_order = replace(case, kernel=case.kernel.model_copy(update={"longest_first": False}))
    iteration = np.full(1, 1000.0)
    more = makespan_cycles(in_order, iteration)[0] - makespan_cycles(case, iteration)[0]
    assert more == pytest.approx(0.5 * (128 - 1) * 1000)  # key tiles of the last rows and of the first


def test_the_first_scores_and_the_last_products_of_a_block_have_nothing_beside_them() -> None:
    """A block takes what overlap hides of a key tile once more, whatever keys it walks over."""
    for keys in (1024, 8192):
        case = case_of_sizes("h100-sxm", "flash-attention-3", 128, heads=132, heads_kv=132, queries=128, keys=keys)
        products, special, issue, _ = (unit[0] for unit in tile_cycles(case))
        shorter = min(products, max(special, issue))
        hidden = case.constants.overlap_specialised * shorter
        assert hidden_cycles(case)[0] == pytest.approx(hidden)
        iteration = iteration_cycles(case, *tile_cycles(case))
        assert makespan_cycles(case, iteration)[0] == pytest.approx(case.work.longest[0] * iteration[0] + hidden)
    assert hidden_cycles(case_of_sizes("a100-sxm", "flash-attention-2", 128))[0] == 0


def test_vllm_splits_keys_of_encoders_by_the_share_of_an_sm() -> None:
    """FlashAttention-3, 11 tiles of 192 rows over 15 of 144 keys, on 132 SMs: 1.1 x 165 / 132 are two tiles a part."""
    case = case_of_sizes("h100-sxm", "flash-attention-3-split", 72, heads=1, heads_kv=1, queries=2048, keys=2048)
    assert case.work.splits[0] == 8
    assert case.work.longest[0] == 2
    many = case_of_sizes("h100-sxm", "flash-attention-3-split", 72, heads=16, heads_kv=16, queries=2048, keys=2048)
    short = case_of_sizes("h100-sxm", "flash-attention-3-split", 72, heads=1, heads_kv=1, queries=512, keys=512)
    assert many.work.splits[0] == short.work.splits[0] == 1  # no more than four tiles


@pytest.mark.parametrize(("name", "kernel", "head_dim", "sizes", "carried"), [
    ("b200", "trtllm-gen", 128, {}, 256 * 128 * 2 * 2),  # rows, 16-bit queries and outputs
    ("b200", "trtllm-gen", 512, {}, 128 * (512 + 256) * 2),  # outputs of half of the columns
    ("b200", "trtllm-gen", 128, {"queries": 100, "keys": 100}, 100 * 128 * 2 * 2),  # as many rows as there are
])  # fmt: skip
def test_a_block_loads_its_queries_and_stores_its_outputs(
    name: str, kernel: str, head_dim: int, sizes: dict[str, int], carried: int
) -> None:
    assert carried_bytes(case_of_sizes(name, kernel, head_dim, **sizes))[0] == carried


def test_blocks_that_run_together_wait_together_and_share_the_port() -> None:
    case = case_of_sizes("a100-sxm", "flash-attention-2", 64)
    alone, two = (turn_cycles(case, np.ones(1), together)[0] for together in (1.0, 2.0))
    latency = case.constants.block_latency_s * case.device.clock_hz
    assert alone - two == pytest.approx(latency / 2)


def test_one_block_combines_the_parts_of_a_row() -> None:
    """66 parts of 128 numbers of 4 bytes at 64 bytes a clock, and a kernel of 2.5 us; without parts none of it."""
    case = case_of_sizes("h100-sxm", "flash-attention-3-decode", 128, queries=1, keys=65536, heads=2, heads_kv=2)
    assert case.work.splits[0] == 66
    whole = case_of_sizes("h100-sxm", "flash-attention-3-decode", 128, queries=1, keys=128, heads=2, heads_kv=2)
    more = attention_timing(case).launch_s[0] - attention_timing(whole).launch_s[0]
    assert more == pytest.approx(66 * 128 * 4 / 64 / 1.83e9 + 2.5e-6)


@pytest.mark.parametrize(("kernel", "name", "heads", "each_s"), [
    ("trtllm-xqa", "h100-sxm", 8, 2 * 0.3e-6),  # the last block, by a semaphore
    ("trtllm-gen-decode", "b200", 8, 2 * 0.3e-6), ("trtllm-gen-decode", "b200", 64, 1.7e-6 + 1.2e-6),
])  # fmt: skip
def test_a_last_block_sums_up_the_parts_itself(kernel: str, name: str, heads: int, each_s: float) -> None:
    split, whole = (case_of_sizes(name, kernel, 128, batch=1, queries=1, heads=heads, heads_kv=1, keys=keys)
                    for keys in (65536, 64))  # fmt: skip
    assert split.work.splits[0] > whole.work.splits[0] == 1
    row_s = split.work.splits[0] * 128 * 4 / 64 / split.device.clock_hz
    more_s = attention_timing(split).launch_s[0] - attention_timing(whole).launch_s[0]
    assert more_s == pytest.approx(each_s + row_s)


def test_first_loads_of_a_block_come_from_l2_where_that_has_the_keys() -> None:
    """The place of its first page, then its first keys: two trips, each 0.3 us shorter."""
    case = case_of_sizes("l40s", "flash-attention-2-decode", 64, queries=1)
    cold, warm = (turn_cycles(case, np.ones(1), warm=share)[0] for share in (0.0, 1.0))
    assert (cold - warm) / case.device.clock_hz == pytest.approx(2 * 0.3e-6)


@pytest.mark.parametrize(("heads", "moved"), [
    (8, 4 * (1 + 4) * 16 * 128 * 4),  # 16 rows: four warps write their sums, and each reads those of all
    (32, 0),  # 64 rows: 16 of each warp
])  # fmt: skip
def test_warps_that_divide_keys_sum_up_through_shared_memory(heads: int, moved: int) -> None:
    """FlashInfer, at the end of each block: 128 bytes a clock."""
    case = case_of_sizes("b200", "flashinfer-decode", 128, queries=1, heads=heads, heads_kv=1)
    without = replace(case, kernel=case.kernel.model_copy(update={"merges_warps": False}))
    more = turn_cycles(case, np.ones(1))[0] - turn_cycles(without, np.ones(1))[0]
    assert more == pytest.approx(moved / 128)


def test_at_a_depth_of_512_shared_memory_of_hopper_holds_one_tile() -> None:
    """FlashAttention-4: rows, keys and values of 64 KB each fit 228 KB once, and no two of the latter."""
    case = case_of_sizes("h100-sxm", "flash-attention-4-decode", 512, queries=1, heads=1, heads_kv=1, keys=65536)
    rows, keys = 64 * 512 * 2, case.tiles.keys[0] * 512 * 2
    assert rows + 2 * keys <= case.device.sm.shared_memory_bytes < rows + 4 * keys
    assert case.kernel.stages == 1
    waiting_s = tiles_of_last_sm(case)[0] * case.kernel.dependent_loads * DRAM_LATENCY_S
    without = replace(case, kernel=case.kernel.model_copy(update={"dependent_loads": 0}))
    more_s = attention_timing(case).schedule_s[0] - attention_timing(without).schedule_s[0]
    assert more_s == pytest.approx(waiting_s)


def test_vllm_splits_into_as_many_parts_as_its_graphs_have_room_for() -> None:
    parts = {name: case_of_sizes("h100-sxm", name, 64, queries=1, heads=12, heads_kv=1, keys=131072).work.splits[0]
             for name in ("flash-attention-3-two-sums-decode", "flash-attention-3-decode")}  # fmt: skip
    assert parts == {"flash-attention-3-two-sums-decode": 32, "flash-attention-3-decode": 128}


def test_a_scheduler_that_reckons_with_key_tiles_between_sequences() -> None:
    """FlashMLA: five of them. 1024 sequences of one key tile over 132 SMs: 892 turns, each of five iterations.

    They are in the place of queries and outputs that pass by the port of an SM.
    """
    kernel = load_kernel("mla-absorbed")
    without = kernel.model_copy(update={"tiles_between": 0, "persistent": False})
    case = case_of(device("h100-sxm"), kernel, constants("hopper").model_copy(update={"block_latency_s": 0.0}),
                   shape(1024, 16, 1, 1, 64, 576, 512, shared_key_value=True), "bf16", "bf16")  # fmt: skip
    with_turns, bare = (attention_timing(AttentionCase(**{**vars(case), "kernel": one})) for one in (kernel, without))
    iteration = iteration_cycles(case, *tile_cycles(case))[0] / case.device.clock_hz
    carried = carried_bytes(case)[0] / 64 / case.device.clock_hz
    turns = (1024 - 132) * (5 * iteration - carried)
    rest = (8 - 1024 / 132) * turns / 1024  # the last wave is not full
    assert with_turns.schedule_s[0] - bare.schedule_s[0] == pytest.approx(turns / 132 + rest)


@pytest.mark.parametrize(("heads", "rows", "blocks"), [(8, 16, 1), (32, 16, 2), (64, 64, 1), (128, 128, 1)])
def test_few_heads_of_latent_attention_take_narrow_tiles_that_each_read_the_cache(
    heads: int, rows: int, blocks: int
) -> None:
    """trtllm-gen, 1,024 sequences, so that no keys are split: tiles of 16 heads up to 32, of 64 or 128 beyond."""
    asked = shape(1024, heads, 1, 1, 4096, 576, 512, shared_key_value=True)
    case = case_of(device("b200"), load_kernel("mla-trtllm-gen"), constants("blackwell"), asked, "bf16", "bf16")
    assert (case.tiles.queries[0], case.work.blocks[0]) == (rows, 1024 * blocks)


@pytest.mark.parametrize(("group", "rows"), [(1, 8), (8, 8), (9, 16), (33, 64), (65, 128)])
def test_a_group_takes_the_first_tile_that_holds_it(group: int, rows: int) -> None:
    asked = shape(1024, group, 1, 1, 4096, 128)
    case = case_of(device("b200"), load_kernel("trtllm-gen-decode"), constants("blackwell"), asked, "bf16", "bf16")
    assert case.tiles.queries[0] == rows


def test_blocks_of_an_sm_use_it_in_turn_and_wait_at_the_same_time() -> None:
    """Two places an SM, 216 in all, and a block whose waiting is half as long as its work.

    108 blocks: work and waiting of one. 216: the work of two hides the waiting. 224: a round of two, then one alone.
    Beside that, within 0.5 %, queries and outputs of a second block pass by the port of the SM.
    """
    kernel = load_kernel("flash-attention-2-chunked").model_copy(update={"splits_keys": False, "appends_keys": False})
    known = constants("ampere").model_copy(update={"block_latency_s": 0.0})
    on, took = device("a100-sxm"), {}
    for heads in (108, 216, 224):
        case = case_of(on, kernel, known, shape(1, heads, heads, 64, 4096, 128), "bf16", "bf16")
        iteration = iteration_cycles(case, *tile_cycles(case))[0]
        trips = 0.5 * iteration / (DRAM_LATENCY_S * on.clock_hz)
        waiting = replace(case, kernel=kernel.model_copy(update={"dependent_loads": trips}))
        took[heads] = attention_timing(waiting).schedule_s[0] * on.clock_hz / iteration / 32
    assert (took[108], took[216], took[224]) == pytest.approx((1.5, 2, 3.5), rel=0.005)


def test_blocks_that_append_wait_for_each_vector_of_a_thread() -> None:
    """Keys and values of a tile are 128 x 256 x 2 bytes, 16 vectors of the 256 threads that an SM has room for.

    A tile takes 16 trips to L2 of 0.3 us, those of two blocks one after the other 32, a third one 16 more.
    """
    kernel = load_kernel("flash-attention-2-chunked").model_copy(update={"splits_keys": False})
    on, known = device("a100-sxm"), constants("ampere")
    for heads, trips in ((108, 16), (216, 32), (217, 48)):
        case = case_of(on, kernel, known, shape(1, heads, heads, 64, 1024, 128, causal=True), "bf16", "bf16")
        assert append_cycles(case)[0] / on.clock_hz == pytest.approx(trips * 0.3e-6)
    plain = replace(case, kernel=load_kernel("flash-attention-2-paged"))
    assert append_cycles(plain)[0] == 0


def test_parts_are_combined_by_a_kernel_that_begins_when_all_are_there() -> None:
    """FlashAttention-2: its first loads and last stores are as late as those of any kernel."""
    case = case_of_sizes("a100-sxm", "flash-attention-2-decode", 128, queries=1, keys=65536, heads=2, heads_kv=2)
    in_one = replace(case, kernel=case.kernel.model_copy(update={"combines_afterwards": False}))
    assert case.work.splits[0] > 1
    more = attention_timing(case).launch_s[0] - attention_timing(in_one).launch_s[0]
    assert more == pytest.approx(constants("ampere").kernel_latency_s)


def test_half_of_what_the_longest_block_has_more_comes_last() -> None:
    """Causal, 528 blocks on 132 SMs: their mean, and half of what the longest has more than the shortest."""
    case = case_of_sizes("h100-sxm", "flash-attention-2", 128, queries=16 * 128, keys=16 * 128, heads=33, heads_kv=33,
                         causal=1)  # fmt: skip
    assert case.work.blocks[0] == 528  # four an SM, none of which is idle
    mean = case.work.visited[0] / 132
    assert tiles_of_last_sm(case)[0] == pytest.approx(mean + 0.5 * (case.work.longest[0] - case.work.shortest[0]))
