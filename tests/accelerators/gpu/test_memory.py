"""Keys and values beyond L2: resident blocks share what is fetched, later rounds fetch again what L2 has lost.

H100: 132 SMs, a block of 128 queries on each, 26,214,400 bytes kept by L2. A key with its value: 2 x 128 x 2 bytes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load, presets
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.attention.tile import case_of
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.engines.collectives import ring_timing
from cascadesim.accelerators.gpu.grid import Reals, shape
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.memory import (
    UNEVEN,
    Movement,
    WalkedRows,
    dram_seconds,
    share_in_l2,
    small_kernel_s,
    token_copy_seconds,
    waiting_s,
)
from cascadesim.accelerators.gpu.programs import ring_program
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.accelerators.gpu.timing import attention_timing
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.simulator.engine.engine import run
from cascadesim.simulator.simulate import simulate

KEPT = 26_214_400
KEY_BYTES = 512


def spec(name: str) -> Device:
    machine = load(name)
    assert isinstance(machine, Gpu)
    return machine.spec


def moved(
    lengths: list[int], kernel: str = "flash-attention-3", heads: int = 24, heads_kv: int = 24, causal: bool = False,
    device: str = "h100-sxm", cold: bool = False, batch: int = 1,
) -> Movement:  # fmt: skip
    machine = load(device)
    assert isinstance(machine, Gpu)
    asked = shape(batch, heads, heads_kv, lengths, lengths, 128, causal=causal)
    case = case_of(machine.spec, load_kernel(kernel), constants(machine.spec.generation), asked, "bf16", "bf16", cold)
    return attention_timing(case).movement


def decoding(name: str, kernel: str, types: tuple[Dtype, Dtype], window: int = 0, **sizes: int) -> Movement:
    asked = shape(sizes["batch"], sizes["heads"], sizes["heads_kv"], 1, sizes["keys"], sizes["head_dim"], window=window)
    return attention_timing(case_of(spec(name), load_kernel(kernel), constants("ada"), asked, *types)).movement


@pytest.mark.parametrize(("batch", "heads", "heads_kv", "keys", "again"), [
    (256, 4, 2, 512, 1),  # 134 MB of a key head before its second query head comes: all of it anew
    (16, 40, 8, 2048, 0),  # 142 SMs are at nine heads of 16 sequences at once, more than the five of a group
    (256, 4, 2, 64, 0),  # 17 MB: L2 has it
    (256, 2, 2, 512, 0),  # one query head
])  # fmt: skip
def test_heads_that_come_last_find_the_keys_of_all_sequences_in_between(
    batch: int, heads: int, heads_kv: int, keys: int, again: int
) -> None:
    """FlashAttention-2 with a window, which packs no heads, on an L40S: 96 MiB of L2, a depth of 256."""
    found = decoding("l40s", "flash-attention-2-decode", ("bf16", "bf16"), window=4096, batch=batch, heads=heads,
                     heads_kv=heads_kv, keys=keys, head_dim=256)  # fmt: skip
    cache = batch * heads_kv * keys * 2 * 256 * 2
    assert found.again_bytes[0] == pytest.approx(again * cache)


@pytest.mark.parametrize(("head_dim", "heads_kv", "keys", "again"), [
    (64, 2, 1024, 1),  # a line has 64 bytes of each head; 268 MB of both are fetched before the second comes
    (128, 2, 1024, 0),  # a line is one row
    (64, 1, 1024, 0),
    (64, 2, 128, 0),  # 34 MB
])  # fmt: skip
def test_lines_with_rows_of_two_heads_are_fetched_for_each(head_dim: int, heads_kv: int, keys: int, again: int) -> None:
    """FlashInfer, 1,024 sequences with an 8-bit cache on an L40S."""
    found = decoding("l40s", "flashinfer-decode", ("bf16", "fp8"), batch=1024, heads=4, heads_kv=heads_kv, keys=keys,
                     head_dim=head_dim)  # fmt: skip
    assert found.again_bytes[0] == pytest.approx(again * 1024 * heads_kv * keys * 2 * head_dim)


def test_blocks_that_are_on_the_same_sms_again_find_more_in_l2() -> None:
    """16 sequences of 8 key heads: 128 blocks. Half of their lines are at home where their SM is, half in both halves.

    So 50 MiB have room for 35 MB of them; of 256 blocks, lines have to be in both halves: 26 MB.
    """
    sizes = {"heads": 8, "heads_kv": 8, "head_dim": 128}
    few, many = (decoding("h100-sxm", "flash-attention-3-decode", ("bf16", "bf16"), batch=batch, keys=keys, **sizes)
                 for batch, keys in ((16, 480), (32, 240)))  # fmt: skip
    assert few.keys_warm[0] == pytest.approx(share_in_l2(52_428_800 / 1.5, 16 * 8 * (480 + 1) * 512))
    assert many.keys_warm[0] == pytest.approx(share_in_l2(26_214_400, 32 * 8 * (240 + 1) * 512))
    assert few.keys_warm[0] > 0.6 > 0.2 > many.keys_warm[0]


def test_one_round_of_resident_blocks_fetches_keys_once() -> None:
    """16,896 queries are 132 blocks of 128: each key of a head is read by all of them, from one fetch."""
    assert moved([16_896]).again_bytes.tolist() == [0.0]


def test_every_later_round_fetches_a_head_that_l2_cannot_hold() -> None:
    """4 x 16,896 queries in 4 rounds; K and V of a head are 34.6 MB, L2 keeps nothing of 32.8: 3 refetches."""
    tokens = 4 * 16_896
    assert tokens * KEY_BYTES > (1 + UNEVEN) * KEPT
    assert moved([tokens]).again_bytes[0] == pytest.approx(3 * 24 * tokens * KEY_BYTES)


def test_nothing_is_fetched_again_where_a_head_takes_three_quarters_of_l2() -> None:
    tokens = int((1 - UNEVEN) * KEPT / KEY_BYTES)
    assert moved([tokens], causal=True).again_bytes[0] == 0.0
    assert moved([tokens]).again_bytes[0] == 0.0


def test_l2_keeps_what_fits_and_a_half_of_what_fills_it() -> None:
    """Sizes of L2 of 100: all of 75, a half of 100, none of 125."""
    assert share_in_l2(100, [10, 75, 100, 125, 300]).tolist() == [1, 1, 0.5, 0, 0]


def test_tokens_are_copied_by_blocks_of_their_own() -> None:
    """vLLM on B200: 131,072 tokens of one key head of 256, 8 blocks of 256 threads on each of 148 SMs: 111 rounds of
    two trips, 133 us where DRAM would take 37; of 40 key heads of 64, 512 threads copy 5 elements each."""
    machine = load("b200")
    assert isinstance(machine, Gpu)

    def seconds(tokens: int, elements: int) -> float:
        sizes = (np.array([float(size)]) for size in (tokens, elements, 8 * tokens * elements))
        return float(token_copy_seconds(machine.spec, *sizes)[0]) - small_kernel_s(machine.spec)

    assert seconds(131_072, 256) == pytest.approx(111 * 2 * 0.6e-6)
    assert seconds(16_384, 40 * 64) == pytest.approx(28 * 6 * 0.6e-6)


def test_a_short_transfer_reaches_half_of_the_peak_and_a_long_one_all_of_it() -> None:
    """A transfer as long as the ramp loses half of the ramp; one a thousand times as long, nearly all of it."""
    machine, known = load("h100-sxm"), constants("hopper")
    assert isinstance(machine, Gpu)
    peak = known.dram_fraction * machine.spec.dram_ceiling_bytes_per_s
    ramp = known.dram_ramp_s
    short, equal, long = dram_seconds(machine.spec, known, np.array([1e-3, 1.0, 1e3]) * ramp * peak) / ramp
    assert short == pytest.approx(2e-3, rel=2e-3)
    assert equal == pytest.approx(1.5)
    assert long == pytest.approx(1001, rel=1e-5)
    assert dram_seconds(machine.spec, known, np.zeros(1)) == 0
    rest = dram_seconds(machine.spec, known, np.array([1e-3, 1e3]) * ramp * peak, ramp / 2) / ramp
    assert rest.tolist() == pytest.approx([1e-3, 1000.5], rel=1e-5)  # half of the ramp is counted elsewhere


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads_kv", [24, 6])
def test_traffic_rises_with_length_and_jumps_nowhere(causal: bool, heads_kv: int) -> None:
    """Every 1,024 tokens from 8K to 160K, where one head's keys are 0.16 to 3.2 times what L2 keeps."""
    lengths = list(range(8192, 160 * 1024, 1024))
    read = moved(lengths, heads_kv=heads_kv, causal=causal).dram_read_bytes
    steps = read[1:] / read[:-1]
    assert (steps >= 1).all()
    assert steps.max() < 1.25


@pytest.mark.parametrize("kernel", ["flash-attention-3", "flash-attention-2", "triton-extend"])
@pytest.mark.parametrize("causal", [False, True])
def test_traffic_lies_between_what_is_compulsory_and_a_stream_for_each_block(kernel: str, causal: bool) -> None:
    lengths = [1024, 20_000, 60_000, 120_000, 250_000]
    found = moved(lengths, kernel, causal=causal, cold=True)
    keys = 24.0 * np.array(lengths) * KEY_BYTES
    assert (found.dram_read_bytes >= keys).all()
    queries = keys / 2
    assert (found.dram_read_bytes <= np.maximum(found.l2_bytes, keys + queries)).all()


def test_a_causal_round_refetches_half_of_a_full_one() -> None:
    """Far beyond L2: rounds of n queries walk over n, 2n, 3n, 4n keys, 10 n for 16 n; the first n of each anew."""
    full, causal = (moved([16 * 16_896], causal=causal).again_bytes[0] for causal in (False, True))
    assert causal / full == pytest.approx(0.5, rel=0.05)


def test_heads_that_alternate_keep_less_of_each_in_l2() -> None:
    """SGLang's Triton kernel runs the same tile of all heads before the next tile: 24 heads of 4,096 keys are 50 MB."""
    assert moved([4096], "triton-extend", causal=True).again_bytes[0] > 0
    assert moved([4096], "flash-attention-2", causal=True).again_bytes[0] == 0


def test_heads_of_all_sequences_alternate() -> None:
    one, several = (moved([4096], "triton-extend", heads // batch, heads // batch, True, batch=batch)
                    for heads, batch in ((24, 1), (24, 4)))  # fmt: skip
    assert several.again_bytes == one.again_bytes


def test_heads_of_a_group_find_what_another_walked_over_in_all_sequences() -> None:
    """SGLang's Triton kernel: 8 sequences of one key head are 8 MB, of all key heads 67; L2 keeps 26."""
    alone, grouped = (moved([2048], "triton-extend", heads, 8, True, batch=8).again_bytes[0] for heads in (8, 64))
    assert alone > 0
    assert grouped == pytest.approx(alone)
    many = moved([2048], "triton-extend", 64, 8, True, batch=64).again_bytes[0]
    assert many > 8 * grouped  # 67 MB of one key head


def test_blocks_that_share_nothing_stream_once_each_and_no_more() -> None:
    """600 heads in turn on 132 SMs, causal: a block alone with its head, whose first stream is the compulsory one."""
    found = moved([8192], "triton-extend", 600, 600, causal=True)
    keys = 600 * 8192 * KEY_BYTES
    walked = found.l2_bytes[0] - keys  # queries in, outputs out: as many bytes as the keys and values
    assert found.again_bytes[0] == pytest.approx(walked - keys)


def test_grouped_heads_share_a_fetch() -> None:
    """8 query heads of a key head: as many rounds a head as without, but over one head's keys."""
    single, grouped = (moved([60_000], heads_kv=heads).again_bytes[0] for heads in (24, 3))
    readers = 24 * np.ceil(60_000 / 128)
    rounds_single, rounds_grouped = readers / 24 / 132 - 1, readers / 3 / 132 - 1
    assert grouped / single == pytest.approx(3 * rounds_grouped / (24 * rounds_single), rel=1e-6)


def test_hunyuan_video_is_as_published() -> None:
    """800 s of attention in 50 steps of 60 layers (Sliding Tile Attention, ICML 2025): 267 ms a layer."""
    report = simulate(load_workload("hunyuanvideo"), load("h100-sxm"), scope="attention", fidelity="analytical")[0]
    assert report.latency_s == pytest.approx(0.267, rel=0.10)
    assert report.bound_by == "tensor"
    assert report.traffic.read_bytes < 16e9


def test_flash_attention_2_does_not_fall_off_at_128k() -> None:
    """Seconds a pair of query and key, 2 sequences of 16 heads: within 2 % from 16K to 128K."""
    machine = load("a100-sxm")
    assert isinstance(machine, Gpu)
    lengths = np.array([16_384, 32_768, 65_536, 131_072])
    asked = shape(2, 16, 16, lengths, lengths, 128)
    case = case_of(machine.spec, load_kernel("flash-attention-2"), constants("ampere"), asked, "bf16", "bf16")
    each: Reals = attention_timing(case).total_s / lengths.astype(float) ** 2
    assert each.max() / each[1:].min() < 1.05


def device(name: str, count: int) -> Device:
    found = load(name, [f"parallel.tensor={count}"])
    assert isinstance(found, Gpu)
    return found.spec


def test_a_sum_over_eight_h100() -> None:
    """8192 x 4096 numbers of 2 bytes: 14 steps of 8.39 MB at 450 GB/s, each 0.6 us later; launch 1.3 + 1.2 us."""
    found = ring_timing(device("h100-sxm", 8), 8192 * 4096)
    assert found.steps == 14
    assert found.step_link_s == 8192 * 4096 * 2 / 8 / 450e9
    assert found.total_s == pytest.approx(2.5e-6 + 14 * (8192 * 4096 / 4 / 450e9 + 0.6e-6))


def test_the_bytes_of_a_device_are_twice_all_parts_but_its_own() -> None:
    """2 (n - 1) / n of the whole."""
    for count in (2, 4, 8):
        found = ring_timing(device("a100-sxm", count), 2**20)
        assert found.link_s * 300e9 == pytest.approx(2 * (count - 1) / count * 2**21)


def test_devices_without_nvlink_send_over_pcie() -> None:
    """L40S: 32 GB/s one way, 1 us a step."""
    found = ring_timing(device("l40s", 4), 2**20)
    assert found.step_link_s == 2**21 / 4 / 32e9
    assert found.step_latency_s == 1e-6


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 16), elements=st.integers(1, 10**8), name=st.sampled_from(["h100-sxm", "l40s", "mi300x"]))
def test_the_program_takes_as_long_as_the_closed_form(count: int, elements: int, name: str) -> None:
    """Each step and each lag in whole cycles; seconds are rounded to 2^-53 of themselves."""
    on = device(name, count)
    timing = ring_timing(on, elements)
    closed = timing.total_s * on.clock_hz
    assert closed * (1 - 1e-12) <= run(ring_program(on, timing)).cycles <= closed + 2 * timing.steps + 1


def test_every_device_but_one_states_its_link() -> None:
    without = []
    for name in presets():
        if name.startswith("gpu/"):
            found = load(name)
            assert isinstance(found, Gpu)
            without += [name] if found.spec.link is None else []
    assert without == ["gpu/jetson-nano"]
    with pytest.raises(SpecError, match="no link between two Jetson-Nano is known"):
        load("jetson-nano", ["parallel.tensor=2"])


def test_a_link_is_a_unit_where_there_are_peers() -> None:
    assert "link" not in [unit.name for unit in load("h100-sxm").units]
    assert "link" in [unit.name for unit in load("h100-sxm", ["parallel.tensor=2"]).units]


def test_rows_that_are_walked_over_twice_are_read_again_where_l2_has_lost_them() -> None:
    """T4: 40 SMs hold 320 rows of 128 threads. Rows of 1,024 numbers touch 320 x 6 KiB of 4 MiB, of 4,096 7.9 MB."""
    one = np.array([1.0])
    for columns, lost in ((1024, 0.0), (4096, 1.0)):
        row_bytes = 4 * columns * one
        rows = WalkedRows(131_072 * one, row_bytes, row_bytes, 2 * one, 128 * one)
        assert rows.again_bytes(spec("t4"))[0] == lost * 131_072 * row_bytes[0]


def test_few_rows_wait_for_a_trip_a_vector_of_each_thread() -> None:
    """64 rows of 65,536 16-bit numbers by 256 threads of 32 bytes: 16 vectors, 0.6 us from DRAM and 0.3 us from L2."""
    one = np.array([1.0])
    rows = WalkedRows(64 * one, 131_072 * one, 65_536 * one, 2 * one, 256 * one, 32)
    assert rows.waited_s(spec("h100-sxm"), False)[0] == pytest.approx(16 * 0.9e-6 - 0.6e-6)
    assert rows.waited_s(spec("h100-sxm"), True)[0] == pytest.approx(16 * 0.6e-6 - 0.3e-6)


def test_more_rows_than_sms_hold_wait_in_rounds() -> None:
    """132 SMs of 2,048 threads hold 8,448 rows of 32 threads; a thread has two vectors of 16 bytes."""
    one = np.array([1.0])
    rows = WalkedRows(2 * 8_448 * one, 1_024 * one, 512 * one, 2 * one, 32 * one)
    assert rows.waited_s(spec("h100-sxm"), False)[0] == pytest.approx(2 * 2 * 0.9e-6 - 0.6e-6)


def test_an_element_of_every_thread_is_in_flight_during_a_trip() -> None:
    """270,336 threads of an H100: as many 16-bit elements take a trip of 846 clocks; two more loads of each, to L2,
    half as many each. A100: as many clocks."""
    for name, threads in (("h100-sxm", 132 * 2048), ("a100-sxm", 108 * 2048)):
        on = spec(name)
        one, three = (float(waiting_s(on, 2 * threads, 2, loads)) for loads in (1, 3))
        assert one == pytest.approx(846 / on.clock_hz)
        assert three == pytest.approx(2 * one)
