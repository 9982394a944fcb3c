"""Seconds of many shapes at once: attention, latent attention, streams and copies, held against their ceilings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from preset_devices import device

from cascadesim.accelerators.gpu.batch import (
    Before,
    LatentLibrary,
    attention_seconds,
    elementwise_seconds,
    mla_seconds,
)
from cascadesim.accelerators.gpu.cache_writes import cast_seconds, converted_seconds, latent_stored_seconds
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.kernel import Kernel, KernelPhase, kernels, load_kernel
from cascadesim.accelerators.gpu.memory import copy_seconds, small_kernel_s, stream_seconds
from cascadesim.accelerators.gpu.spec import Dtype


def test_splitting_keys_pays_where_heads_do_not_fill_the_device() -> None:
    """One sequence of 8 key heads leaves 124 of 132 SMs idle without it; 256 sequences fill them all the same."""
    kernel = load_kernel("flash-attention-3-decode")
    whole = kernel.model_copy(update={"most_splits": 1})
    def seconds(using: Kernel, batch: int) -> float:
        return float(attention_seconds(device("h100-sxm"), using, batch=batch, heads=32, heads_kv=8, queries=1,
                                       keys=65536, head_dim=128)[0])  # fmt: skip

    assert seconds(kernel, 1) < 0.4 * seconds(whole, 1)
    assert seconds(kernel, 256) == seconds(whole, 256)


def test_decode_reads_the_cache_at_the_measured_ceiling() -> None:
    """64 x 8 heads x 8192 keys x 512 bytes = 2.1 GB a layer; at 3.04 TB/s 0.71 ms, at most a third more in all."""
    seconds = attention_seconds(device("h100-sxm"), load_kernel("flash-attention-3-decode"), batch=64, heads=32,
                                heads_kv=8, queries=1, keys=8192, head_dim=128)[0]  # fmt: skip
    bound = 64 * 8 * 8192 * 512 / 3.039e12
    assert bound <= seconds <= 1.35 * bound


def at_lengths(name: str, kernel: str, lengths: ArrayLike, prefill: bool) -> list[float]:
    found = attention_seconds(device(name), load_kernel(kernel), batch=4, heads=16, heads_kv=4, keys=lengths,
                              queries=lengths if prefill else 1, head_dim=128, causal=prefill)  # fmt: skip
    return [float(seconds) for seconds in found]


def test_many_shapes_at_once_are_each_shape_alone() -> None:
    keys = np.array([512, 3000, 8192])
    for name, kernel, prefill in (("h100-sxm", "flash-attention-3", True), ("b200", "trtllm-gen-decode", False)):
        alone = [at_lengths(name, kernel, length, prefill)[0] for length in keys]
        assert at_lengths(name, kernel, keys, prefill) == alone


@pytest.mark.slow
def test_a_hundred_thousand_shapes_have_seconds() -> None:
    keys = np.arange(100_000) % 30_000 + 16
    seconds = attention_seconds(device("h100-sxm"), load_kernel("flash-attention-3"), batch=2, heads=32, heads_kv=8,
                                queries=keys, keys=keys, head_dim=128, causal=True)  # fmt: skip
    assert seconds.shape == (100_000,)
    assert np.isfinite(seconds).all()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    keys=st.integers(64, 20_000), batch=st.integers(1, 64), head_dim=st.sampled_from([64, 80, 128, 256]),
    name=st.sampled_from(["a100-sxm", "h100-sxm", "b200", "l40s", "rtx4090"]),
)  # fmt: skip
def test_a_longer_or_larger_batch_never_takes_less_by_much(keys: int, batch: int, head_dim: int, name: str) -> None:
    """assumed: 10% and 4 us; waves and what L2 keeps make steps, and splits that are not needed save a kernel."""
    on = device(name)
    for kernel in kernels().values():
        phase: KernelPhase = "decode" if "decode" in kernel.phases else "prefill"
        if kernel.problem(on, phase, head_dim, "bf16") is not None:
            continue
        queries = 1 if phase == "decode" else keys
        first, longer, larger = (
            attention_seconds(on, kernel, batch=b, heads=8, heads_kv=2, queries=queries if phase == "decode" else m,
                              keys=m, head_dim=head_dim, causal=phase == "prefill")[0]
            for b, m in ((batch, keys), (batch, 2 * keys), (2 * batch, keys))
        )  # fmt: skip
        saved_s = 4e-6 + kernel.combines_afterwards * constants(on.generation).kernel_latency_s
        assert first > 0
        assert longer >= 0.9 * first - saved_s, kernel.name
        assert larger >= 0.9 * first - saved_s, kernel.name


def test_a_head_dimension_without_a_tile_has_no_time() -> None:
    seconds = attention_seconds(device("h100-sxm"), load_kernel("flash-attention-3"), batch=1, heads=1, heads_kv=1,
                                queries=128, keys=128, head_dim=[256, 512])  # fmt: skip
    assert np.isfinite(seconds).tolist() == [True, False]


def test_absorbed_latent_attention_reads_one_latent_key_for_all_heads() -> None:
    """32 x 32768 x 576 x 2 bytes = 1.2 GB: 0.40 ms at 3.04 TB/s whether 1 or 16 heads share it."""
    one, many = (
        mla_seconds(device("h100-sxm"), load_kernel("mla-absorbed"), batch=32, heads=heads, queries=1, keys=32768,
                    absorbed=True)[0]
        for heads in (1, 16)
    )  # fmt: skip
    assert many < 1.1 * one
    assert one >= 32 * 32768 * 576 * 2 / 3.35e12


def test_unfolded_latent_attention_in_eight_bits_converts_its_operands() -> None:
    """Keys are put together of two parts; for 8-bit products queries, keys and values are copied besides, narrower."""
    on, rows = device("h100-sxm"), 2 * 16 * 4096
    sizes: dict[str, Any] = {"batch": 2, "heads": 16, "queries": 4096, "keys": 4096}
    kernel = load_kernel("trtllm-fmha-hopper")
    widths: dict[Dtype, int] = {"bf16": 2, "fp8": 1}
    for cached, width in widths.items():
        alone = attention_seconds(on, kernel, **sizes, heads_kv=16, head_dim=192, value_dim=128, causal=True,
                                  kv_dtype=cached)  # fmt: skip
        whole = mla_seconds(on, kernel, **sizes, absorbed=False, kv_dtype=cached)
        keys = stream_seconds(on, constants("hopper"), rows * 192 * 2, rows * 192 * 2)
        each = copy_seconds(on, constants("hopper"), rows * 512 * 2, rows * 512 * width)
        assert whole[0] - alone[0] == pytest.approx((keys if cached == "bf16" else keys + each)[0])


def test_sglang_stores_latent_keys_and_casts_what_its_kernels_multiply() -> None:
    """In 8 bits trtllm-gen multiplies queries that were cast; FlashAttention-3 a cache that was cast back."""
    sizes: dict[str, Any] = {"batch": 2, "heads": 16, "queries": 4096, "keys": 4096, "absorbed": False}
    tokens, rows = np.array([8192.0]), np.array([8192.0 * 16])
    for name, kernel, depth, casts in (("b200", "trtllm-gen", 192, [rows * 192]),
                                       ("h100-sxm", "flash-attention-3-latent", 576, [tokens * 576] * 2)):  # fmt: skip
        on = device(name)
        known = constants(on.generation)
        libraries: tuple[LatentLibrary, LatentLibrary] = ("sglang", "tensorrt-llm")
        whole, other = (mla_seconds(on, load_kernel(kernel), **sizes, kv_dtype="fp8", library=library)[0]
                        for library in libraries)  # fmt: skip
        stored = latent_stored_seconds(on, tokens, np.array([float(depth)]), tokens * depth * 3)
        own = stored + sum(cast_seconds(on, known, each) for each in casts)
        copied = copy_seconds(on, known, rows * 512 * 2, rows * 512) if kernel == "trtllm-gen" else 0 * rows
        assert whole - other == pytest.approx((own - copied)[0])


def test_8_bit_queries_are_cast_beside_their_cache() -> None:
    """SGLang, trtllm-gen: a kernel converts what is new, another one the queries."""
    on, known = device("b200"), constants("blackwell")
    tokens, heads_kv, depth = (np.array([size]) for size in (4096.0, 2.0, 128.0))
    sizes: dict[str, Any] = {"batch": 4, "heads": 16, "heads_kv": 2, "queries": 1024, "keys": 1024, "head_dim": 128}
    ways: tuple[Before, Before] = ("nothing", "cache_converted")
    alone, whole = (attention_seconds(on, load_kernel("trtllm-gen"), **sizes, causal=True, dtype="fp8", before=way)[0]
                    for way in ways)  # fmt: skip
    moved = 3 * tokens * 2 * 256
    ahead = converted_seconds(on, tokens, heads_kv, depth, moved) + cast_seconds(on, known, tokens * 16 * 128)
    assert whole - alone == pytest.approx(ahead[0])


def test_streams_take_their_bytes_over_the_ceiling() -> None:
    seconds = elementwise_seconds(device("h100-sxm"), read_bytes=[2e9, 4e9], write_bytes=0)
    assert seconds[0] >= 2e9 / 3.35e12
    assert 1.9 < seconds[1] / seconds[0] <= 2.0


def test_what_the_operation_before_has_written_is_read_from_l2() -> None:
    """H100, 25 MiB a partition: of two operands and a result of 4 MB one was just written, and 8 MB passed since; of 30
    MB each, 60 MB did."""
    on = device("h100-sxm")
    for size, kept in ((4e6, 1.0), (30e6, 0.0)):
        cold, warm = (elementwise_seconds(on, read_bytes=2 * size, write_bytes=size, warm=False,
                                          just_written_bytes=new)[0] for new in (0.0, size))  # fmt: skip
        assert cold - warm == pytest.approx(kept * size / on.dram_ceiling_bytes_per_s)


def test_heads_apart_are_three_copies() -> None:
    """Queries, keys and values of 16 x 4096 x 16 x 128 elements: 268 MB each are read and written, far beyond L2."""
    a100 = device("a100-sxm")
    without, copied = (
        attention_seconds(a100, load_kernel("unfused-pytorch"), batch=16, heads=16, heads_kv=16, queries=4096,
                          keys=4096, head_dim=128, before=before)[0]
        for before in ("nothing", "heads_apart")
    )  # fmt: skip
    bytes_each = 2 * 16 * 4096 * 16 * 128 * 2
    assert copied - without == pytest.approx(3 * (bytes_each / 1.86e12 + 2.6e-6))


def test_copies_by_index_are_bound_by_sms_or_by_turns_of_dram() -> None:
    """2 GB each way. B200: so many bytes a clock of each SM; L40S: 80 % of its DRAM, as reads and writes balance."""
    b200, l40s = device("b200"), device("l40s")
    per_clock = constants("blackwell").copied_bytes_per_clock
    rates = (b200.sms * per_clock * b200.clock_hz, 0.8 * l40s.dram_ceiling_bytes_per_s)
    for on, rate in zip((b200, l40s), rates, strict=True):
        seconds = copy_seconds(on, constants(on.generation), 2e9, 2e9)[0]
        assert seconds - small_kernel_s(on) == pytest.approx(4e9 / rate)
