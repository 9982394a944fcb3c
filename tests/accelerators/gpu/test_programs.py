"""One SM as a program: key tiles in order, products and streams by hand from their steps, bounds on both sides."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from preset_devices import device

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.attention.tile import AttentionCase, case_of
from cascadesim.accelerators.gpu.calibration import constants, cycle_constants
from cascadesim.accelerators.gpu.gemm import choice_of, gemm_timing
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.accelerators.gpu.kernel import kernels, load_kernel
from cascadesim.accelerators.gpu.memory import stream_timing
from cascadesim.accelerators.gpu.programs import (
    LOADS,
    OF_A_ROUND,
    Residents,
    attention_program,
    product_program,
    residents,
    stream_program,
)
from cascadesim.accelerators.gpu.spec import Dtype
from cascadesim.accelerators.gpu.timing import attention_timing, tiles_of_last_sm
from cascadesim.accelerators.program import Program
from cascadesim.simulator.engine.engine import Schedule, record, run

UNITS = ("tensor_s", "special_s", "issue_s", "shared_memory_s", "l2_s", "dram_s")


def case(name: str, kernel: str, *, heads: int = 16, queries: int = 4096, keys: int = 4096, head_dim: int = 128,
         causal: bool = False) -> AttentionCase:  # fmt: skip
    found = load(name)
    assert isinstance(found, Gpu)
    asked = shape(1, heads, heads, queries, keys, head_dim, None, causal)
    return case_of(found.spec, load_kernel(kernel), constants(found.spec.generation), asked, "bf16", "bf16")


def program(one: AttentionCase) -> Program:
    return attention_program(one, attention_timing(one))


def cycles_of(one: Program, tile_class: int = LOADS) -> dict[str, int]:
    return {task.name: cycles for task, cycles in zip(one.tasks, one.tile_classes[tile_class], strict=True)}


def bound_cycles(one: AttentionCase) -> float:
    """Launch, then the busiest unit of an average SM without a pause; products at the rate that the cycle level has."""
    found, known = attention_timing(one), cycle_constants(one.device.generation)
    seconds = {unit: float(getattr(found, unit)[0]) for unit in UNITS}
    seconds["tensor_s"] *= one.constants.tensor_fraction / known.cycle_tensor_fraction
    return (float(found.launch_s[0]) + max(seconds.values())) * one.device.clock_hz


def steady_per_tile(schedule: Schedule) -> float:
    assert schedule.steady is not None
    return schedule.steady.cycles_per_tile


def test_a_serial_kernel_adds_products_and_softmax() -> None:
    """Each key tile: its loads, a trip to L2 later, QK, maxima, exponentials (sums and rescaling meanwhile), SLNV.

    833 instructions of each of eight warps, which wait for one another, and four barriers; 16 KiB of keys.
    """
    one = program(case("h100-sxm", "triton-extend"))
    part = cycles_of(one)
    assert part["K"] <= part["QK"]
    assert part["V"] <= part["SLNV"]
    softmax = part["LM"] + max(part["SLN"], part["SLD"] + part["SPNV"])
    trip = ceil(0.3e-6 * 1.83e9 + 833 * (4 - 2) + 4 * 2 * 19 + 64 * 128 * 2 / 64)
    loads = trip + max(part["fetch"], part["load"])
    assert steady_per_tile(run(one)) == loads + part["QK"] + softmax + part["SLNV"]


def test_two_groups_that_alternate_keep_the_tensor_cores_busy() -> None:
    """FlashAttention-3, head dimension 128: the softmax of a group is shorter than the other's products."""
    one = program(case("h100-sxm", "flash-attention-3"))
    part = cycles_of(one)
    schedule = run(one)
    assert part["LM"] + part["SLN"] < 2 * (part["QK"] + part["SLNV"])
    products = part["QK"] + part["SLNV"]
    assert products <= steady_per_tile(schedule) <= 1.02 * products  # a tile here is one group's
    assert schedule.bound_by == "tensor"


def test_narrow_heads_are_bound_by_exponentials_or_products_whatever_the_order() -> None:
    """FlashAttention-4 on B200, head dimension 64: exponentials, and the instructions that wait for them, take longer
    than products, which two groups hide."""
    one = program(case("b200", "trtllm-gen", head_dim=64, keys=16384, queries=16384))
    part = cycles_of(one)
    schedule = run(one)
    assert part["SLN"] > part["QK"] + part["SLNV"]
    assert schedule.bound_by == "issue"
    assert steady_per_tile(schedule) == part["LM"] + part["SLD"] + part["SPNV"]


def test_an_early_product_needs_no_second_group() -> None:
    """One group of 64 rows: the next QK runs while SLNV waits for its softmax, so a specialised kernel is faster."""
    specialised = case("h100-sxm", "flash-attention-3-decode", queries=1, keys=65536, heads=32)
    kernel = specialised.kernel.model_copy(update={"overlap": "plain"})
    plain = AttentionCase(**{**vars(specialised), "kernel": kernel})
    early, late = (run(program(one)).unit("tensor") for one in (specialised, plain))
    assert early.busy_cycles == late.busy_cycles
    assert early.stalled_cycles <= late.stalled_cycles


def test_blocks_of_an_sm_take_turns_after_their_latency() -> None:
    """16 heads x 32 query tiles over 132 SMs: 4 blocks on the SM that ends last; the closed form's tiles, no fewer."""
    one = case("h100-sxm", "flash-attention-3")
    found = residents(one)
    assert (found.blocks, found.together, found.groups) == (4, 1, 2)
    walked = sum(each.times * each.blocks * each.key_tiles for each in found.rounds())
    assert 0 <= walked - tiles_of_last_sm(one)[0] < found.together + 1
    assert run(program(one)).tiles == 1 + 2 * walked  # the launch, and two groups a key tile
    latency = ceil(one.constants.block_latency_s * one.device.clock_hz * 0.3)  # persistent
    turns = [piece for piece in record(program(one), 400) if piece.task == "turn" and piece.tile % 2 == 1]
    first = {piece.tile: piece.start for piece in record(program(one), 400) if piece.task == "QK"}
    assert turns
    assert all(first[turn.tile] >= turn.finish + latency for turn in turns)


@settings(max_examples=200, deadline=None)
@given(blocks=st.integers(1, 40), together=st.integers(1, 4), tiles=st.floats(1, 500))
def test_blocks_walk_over_whole_key_tiles(blocks: int, together: int, tiles: float) -> None:
    """As many as there are, and less than one more a block."""
    found = Residents(blocks, min(together, blocks), 1, max(tiles, blocks))
    rounds = found.rounds()
    assert sum(one.times * one.blocks for one in rounds) == blocks
    walked = sum(one.times * one.blocks * one.key_tiles for one in rounds)
    assert found.key_tiles <= walked < found.key_tiles + blocks + together


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@example(queries=1025, earlier=0, heads=32, head_dim=80, name="b200", causal=False)  # bound by products
@given(
    queries=st.integers(1, 3000), earlier=st.integers(0, 3000), heads=st.sampled_from([1, 4, 32]),
    head_dim=st.sampled_from([64, 80, 128, 256]), name=st.sampled_from(["a100-sxm", "h100-sxm", "b200", "l40s"]),
    causal=st.booleans(),
)  # fmt: skip
def test_no_schedule_beats_its_busiest_unit_nor_exceeds_one_thing_after_another(
    queries: int, earlier: int, heads: int, head_dim: int, name: str, causal: bool
) -> None:
    for kernel in kernels().values():
        one = case(name, kernel.name, heads=heads, queries=queries, keys=queries + earlier,
                   head_dim=576 if kernel.absorbed else head_dim, causal=causal)  # fmt: skip
        if one.device.generation not in kernel.generations or not one.tiles.supported[0]:
            continue
        made = program(one)
        schedule = run(made)
        assert bound_cycles(one) * (1 - 1e-9) <= schedule.cycles, kernel.name
        lags = sum(edge.lag_cycles for task in made.tasks for edge in task.after)
        assert schedule.cycles <= sum(made.busy_cycles().values()) + lags * schedule.tiles, kernel.name
        for unit in schedule.units:
            assert unit.busy_cycles + unit.stalled_cycles + unit.idle_cycles == schedule.cycles


def decode(batch: int, heads: int, keys: int) -> AttentionCase:
    on = device()
    asked = shape(batch, heads, heads, 1, keys, 128)
    return case_of(on, load_kernel("triton-decode"), constants(on.generation), asked, "bf16", "bf16")


def test_what_dram_reads_is_spread_over_the_rounds_of_blocks() -> None:
    """640 heads in two parts over 132 SMs: 10 blocks on the SM that ends last, 4 at once, 4 more, then 2.

    SMs are not in step, so each round has a third of the time: of 2 blocks a key tile takes twice as long as of 4.
    What of it is not its own arrival, at 64 B a clock, is that of other SMs.
    """
    one = decode(80, 8, 2048)
    assert [(each.times, each.blocks) for each in residents(one).rounds()] == [(2, 4), (1, 2)]
    four, two = (cycles_of(program(one), tile_class) for tile_class in (LOADS, LOADS + OF_A_ROUND))
    assert four["fetch"] == two["fetch"] == 32 * (128 + 128) * 2 / 64
    assert two["fetch"] + two["fetch of others"] == pytest.approx(2 * (four["fetch"] + four["fetch of others"]), abs=2)
    schedule = run(program(one))
    assert schedule.unit("dram").busy_cycles == pytest.approx(attention_timing(one).dram_s[0] * 1.83e9, rel=1e-3)
    assert schedule.unit("dram").stalled_cycles < 0.01 * schedule.cycles


def test_a_block_alone_waits_for_its_own_loads_and_not_for_those_of_other_sms() -> None:
    """8 blocks: a trip to DRAM, the arrival, then products, maxima, exponentials and products, for each key tile."""
    one = decode(1, 1, 65536)
    assert residents(one).rounds()[0].blocks == 1
    part = cycles_of(program(one))
    softmax = part["LM"] + max(part["SLN"], part["SLD"] + part["SPNV"])
    trip = ceil(0.6e-6 * 1.83e9)
    in_turn = trip + part["fetch"] + max(part["K"], part["QK"]) + softmax + max(part["V"], part["SLNV"])
    assert steady_per_tile(run(program(one))) == in_turn


@pytest.mark.parametrize("keys", [2048, 65536])
def test_where_dram_dominates_the_schedule_is_dram_with_its_ends(keys: int) -> None:
    """Decode of 128 heads with keys of their own: before its first byte the launch, after its last one key tile."""
    one = case("h100-sxm", "flash-attention-3-decode", heads=128, queries=1, keys=keys)
    schedule = run(program(one))
    part = cycles_of(program(one))
    assert schedule.bound_by == "dram"
    assert schedule.unit("dram").stalled_cycles == 0
    assert schedule.fill_cycles == cycles_of(program(one), 0)["launch"]
    assert schedule.drain_cycles <= sum(part.values()) * one.kernel.stages
    ends = schedule.fill_cycles + schedule.drain_cycles
    rounding = schedule.tiles
    assert schedule.cycles - ends - rounding <= attention_timing(one).dram_s[0] * one.device.clock_hz


@pytest.mark.parametrize("kernel", ["flash-attention-3", "flash-attention-2", "triton-extend"])
def test_repeated_periods_are_what_every_tile_stepped_through_gives(kernel: str) -> None:
    made = program(case("h100-sxm", kernel, queries=2048, keys=2048, causal=True))
    assert max(piece.finish for piece in record(made, made.tiles)) == run(made).cycles


def product(rows: int, outputs: int, depth: int, name: str = "h100-sxm", dtype: Dtype = "bf16") -> Program:
    on, sizes = device(name), (rows, outputs, depth, 1)
    timing = gemm_timing(on, constants(on.generation), *sizes, dtype)
    return product_program(on, constants(on.generation), choice_of(timing, sizes), timing, "Z")


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
    assert step["fetch"] > step["Z"] > step["load"]  # of the first block, DRAM takes longest
    first = parts(one, 0)["launch"] + steps * step["fetch"] + step["Z"]
    assert run(one).cycles == first + blocks * last["store"]


def test_the_steps_of_a_product_of_few_rows_wait_for_dram() -> None:
    one = product(1, 14336, 4096)
    step = parts(one, 1)
    schedule = run(one)
    assert step["fetch"] > step["Z"]
    assert schedule.bound_by == "dram"
    assert schedule.unit("dram").stalled_cycles == 0


def test_a_split_depth_ends_with_the_sum_of_its_parts() -> None:
    """1024 x 2048 over 8192 is split in two (closed form); a second kernel, 1.3 and 1.2 us at 1.83 GHz."""
    split = product(1024, 2048, 8192)
    assert split.drain_cycles == parts(split, 0)["launch"] == ceil(2.5e-6 * 1.83e9) == 4575
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
