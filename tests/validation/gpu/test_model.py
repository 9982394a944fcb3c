"""Work of a row, the roofline and the nearest measured neighbour, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cascadesim.validation.gpu.layouts import Shapes, shapes_of
from cascadesim.validation.gpu.model import (
    before,
    device,
    in_l2,
    library,
    neighbour_s,
    predicted_cycle_level_s,
    predicted_s,
    roofline_s,
    small_kernels,
    walked,
)
from cascadesim.validation.gpu.selections import CYCLES, GEMM, own_shapes
from cascadesim.validation.table import Row, Value

COMMON: dict[str, Value] = {
    "source": "aiconfigurator sglang", "device": "h100-sxm", "impl": "sglang:fa3", "kernel": "flash-attention-3",
    "dtype": "bf16", "kv_dtype": "bf16", "architecture": "hopper", "split": "calibration", "latency_s": 1e-3,
}  # fmt: skip


def shapes(*rows: dict[str, Value]) -> Shapes:
    return shapes_of([Row(tuple({**COMMON, **row}.items()), "test", line) for line, row in enumerate(rows)])


def attention(**cells: Value) -> dict[str, Value]:
    return {"operation": "encoder", "batch": 1, "heads_q": 2, "heads_kv": 1, "head_dim": 64, "head_dim_v": 64,
            "seqlen_q": 8, "kv_len": 8, **cells}  # fmt: skip


def gemm(m: int, n: int, k: int, **cells: Value) -> dict[str, Value]:
    return {"operation": "gemm", "kernel": "gemm", "m": m, "n": n, "k": k, **cells}


@pytest.mark.parametrize(
    ("cells", "pairs"),
    [
        ({}, 64),  # 8 x 8
        ({"causal": 1}, 36),  # 1 + 2 + ... + 8
        ({"causal": 1, "window": 3}, 21),  # 1 + 2 + 6 x 3
        ({"causal": 1, "seqlen_q": 2}, 15),  # the last two of 8: 7 + 8
        ({"causal": 1, "seqlen_q": 2, "window": 3}, 6),
        ({"seqlen_q": 1, "window": 3}, 3),  # one new token
        ({"seqlen_q": 1, "window": 100}, 8),  # a window beyond the cache masks nothing
    ],
)
def test_unmasked_pairs_are_exact(cells: dict[str, Value], pairs: int) -> None:
    assert shapes(attention(**cells)).pairs == pytest.approx([pairs])


def test_attention_reads_keys_of_each_key_head_once() -> None:
    """FLOPs 2 heads x 64 pairs x 2 products x 2 x 64; bytes: Q and O of 2 heads, K and V of one: 3 x 2 x 8 x 64 x 2."""
    row = shapes(attention())
    assert row.flops == pytest.approx([2 * 64 * 2 * 2 * 64])
    assert row.bytes == pytest.approx([3 * 2 * 8 * 64 * 2])


def test_a_latent_cache_is_read_once_for_keys_and_values() -> None:
    row = shapes(attention(operation="mla-generation", head_dim=576, head_dim_v=512, seqlen_q=1, kv_len=1000))
    assert row.bytes == pytest.approx([2 * (576 + 512) * 2 + 1000 * 576 * 2])


def test_a_large_product_is_bound_by_the_peak_and_a_thin_one_by_dram() -> None:
    """989.4 TFLOP/s and 3350 GB/s (H100 datasheet)."""
    large, thin = gemm(8192, 8192, 8192), gemm(1, 8192, 8192)
    weights = 8192 * 8192 * 2
    assert roofline_s(shapes(large, thin)) == pytest.approx(
        [2 * 8192**3 / 989.4e12, (weights + 2 * 8192 * 2) / 3350e9], rel=1e-6
    )


def test_the_neighbour_is_the_nearest_of_its_kind_scaled_by_the_roofline() -> None:
    """Twice the rows of the nearest, both bound by the peak: twice its time."""
    measured = shapes(gemm(4096, 4096, 4096), gemm(8, 4096, 4096, latency_s=5e-5),
                      gemm(4096, 4096, 4096, device="b200"))  # fmt: skip
    asked = shapes(gemm(8192, 4096, 4096))
    assert neighbour_s(asked, measured) == pytest.approx([2e-3])


def test_scored_rows_are_nobodys_neighbour() -> None:
    measured = shapes(gemm(4096, 4096, 4096, split="scored"))
    assert math.isnan(neighbour_s(shapes(gemm(8192, 4096, 4096)), measured)[0])


def some(scope_shapes: Shapes, every: int) -> Shapes:
    return scope_shapes.at(np.arange(0, len(scope_shapes), every))


def test_the_two_levels_agree_on_full_attention() -> None:
    """FlashAttention-3 and -4: each level is calibrated alone, on rows of all kernels; within what each is off by."""
    rows = own_shapes(CYCLES)
    specialised = rows.at(np.isin(rows.kernel, ["flash-attention-3", "flash-attention-4"]) & (rows.latency_s > 1e-4))
    rows = some(specialised, 10)
    closed, cycles = predicted_s(rows), predicted_cycle_level_s(rows)
    assert len(rows) > 10
    assert np.median(cycles / closed) == pytest.approx(1, abs=0.05)
    assert (np.abs(np.log(cycles / closed)) < np.log(1.4)).all()


def test_decoding_takes_as_long_either_way_where_dram_bounds() -> None:
    """16-bit caches of 500 MB and more: half of them within 5%; both wait for the same bytes, and the closed form adds
    what compute disturbs, the more the nearer the two are."""
    rows = own_shapes(CYCLES)
    decoding = (rows.kernel == "flash-attention-3-decode") & (rows.kv_dtype == "bf16")
    large = rows.at(decoding & (rows.bytes > 5e8))
    assert len(large) > 5
    ratio = predicted_cycle_level_s(large) / predicted_s(large)
    assert (np.abs(ratio - 1) < 0.2).all()
    assert np.median(np.abs(ratio - 1)) < 0.05


def test_products_have_no_prediction_here() -> None:
    assert np.isnan(predicted_cycle_level_s(some(own_shapes(GEMM), 500))).all()


@pytest.mark.parametrize(("source", "operation", "impl", "cache", "count"), [
    ("aiconfigurator sglang", "prefill", "sglang:flashinfer", "bf16", 0),  # lengths are made before the clock starts
    ("aiconfigurator sglang", "decode", "sglang:fa3", "fp8", 1),  # queries are quantised inside of the call
    ("aiconfigurator sglang", "prefill", "sglang:fa3", "fp8", 0),  # and before it in a prompt
    ("aiconfigurator vllm", "decode", "vllm:vllm_flash_attn_fa3", "fp8", 0),  # and outside of it
    ("aiconfigurator trtllm", "prefill", "trtllm:torch_flow", "bf16", 1),
    ("aiconfigurator trtllm", "decode", "trtllm:torch_flow", "fp8", 0), ("vidur", "decode", "sarathi", "fp16", 0),
    ("aiconfigurator sglang", "prefill", "sglang:trtllm_mha", "fp8", 0),  # priced by what they move
    ("aiconfigurator sglang", "mla-context", "sglang:trtllm_mla", "bf16", 1),  # keys are put together
    ("aiconfigurator sglang", "mla-context", "sglang:trtllm_mla", "fp8", 3),  # and cast, as are values
    ("aiconfigurator sglang", "mla-generation", "sglang:trtllm_mla", "fp8", 1),  # rotation to 8 bits
    ("aiconfigurator sglang", "mla-context", "sglang:flash_attention", "fp8", 1),
    ("aiconfigurator trtllm", "mla-context", "trtllm:default", "fp8", 1),
])  # fmt: skip
def test_small_kernels_are_those_of_timed_calls_of_libraries(
    source: str, operation: str, impl: str, cache: str, count: int
) -> None:
    assert small_kernels(operation, source, impl, cache) == count


@pytest.mark.parametrize(("source", "impl", "dtype", "cache", "how"), [
    ("aiconfigurator sglang", "sglang:fa3", "bf16", "bf16", "cache_stored"),
    ("aiconfigurator sglang", "sglang:fa3", "fp8", "fp8", "cache_stored"),  # 8 bits before the clock starts
    ("aiconfigurator sglang", "sglang:trtllm_mha", "bf16", "bf16", "cache_stored"),
    ("aiconfigurator sglang", "sglang:trtllm_mha", "bf16", "fp8", "scale_sought"),
    ("aiconfigurator vllm", "vllm:vllm_flash_attn_fa3", "fp8", "fp8", "cache_by_token"),
    ("aiconfigurator trtllm", "trtllm:torch_flow", "bf16", "bf16", "rotation"),
    ("aiconfigurator trtllm", "trtllm:torch_flow_flashinfer", "bf16", "bf16", "cache_appended"),
    ("vidur", "sarathi", "fp16", "fp16", "nothing"),
])  # fmt: skip
def test_each_library_writes_its_cache_in_its_own_way(source: str, impl: str, dtype: str, cache: str, how: str) -> None:
    assert before("prefill", source, impl, dtype, cache) == how


def test_in_encoders_tensorrt_llm_alone_runs_a_kernel_before_attention() -> None:
    assert before("encoder", "aiconfigurator trtllm", "trtllm:torch_flow", "bf16", "bf16") == "passed"
    assert before("encoder", "aiconfigurator vllm", "vllm:vllm_vit_flash_attn_fa4", "bf16", "bf16") == "nothing"


@pytest.mark.parametrize("impl", ["Pytorch", "Standard_attention"])
def test_pytorch_puts_the_rows_of_a_head_together_before_its_products(impl: str) -> None:
    assert before("encoder", "paper FA2", impl, "fp16", "fp16") == "heads_apart"


def test_vidur_adds_up_what_kernels_take_without_launches() -> None:
    """One kernel of 1.4 us less on A100, or two where keys are split."""
    for keys, kernels in ((64, 1), (4096, 2)):
        row = attention(operation="decode", seqlen_q=1, kv_len=keys, head_dim=128, device="a100-sxm", impl="sarathi",
                        architecture="ampere", kernel="flash-attention-2-chunked-decode")  # fmt: skip
        theirs, others = (predicted_s(shapes(row | {"source": one}))[0] for one in ("vidur", "papers"))
        assert others - theirs == pytest.approx(kernels * 1.4e-6, rel=1e-2)


def test_six_sets_of_operands_fit_l2_or_none_does() -> None:
    """SGLang, B200: 63 MiB a die. 256 x 1024 over 1024, 2 bytes each: 3.1 MB a set; 4096 cubed: 100 MB."""
    found = in_l2(device("b200"), "aiconfigurator sglang", shapes(gemm(256, 1024, 1024), gemm(4096, 4096, 4096)))
    assert found is not None
    assert found.rows.tolist() == found.weights.tolist() == found.results.tolist() == [1.0, 0.0]


def test_calls_that_share_their_rows_keep_them_and_not_their_weights() -> None:
    """TensorRT-LLM, H100: 25 MiB a partition; three matrices of 14.7 MB in turn beside 0.1 MB of rows and results."""
    found = in_l2(device("h100-sxm"), "aiconfigurator trtllm", shapes(gemm(8, 3584, 2048)))
    assert found is not None
    assert (found.rows[0], found.results[0], found.weights[0]) == (1.0, 1.0, 0.0)
    assert in_l2(device("h100-sxm"), "vidur", shapes(gemm(8, 4096, 4096))) is None
    six = in_l2(device("h100-sxm"), "aiconfigurator vllm", shapes(gemm(8, 512, 4096), gemm(8, 3584, 4096)))
    assert six is not None
    assert six.weights.tolist() == [pytest.approx((1.25 - (6 * 4_194_304 + 73_728) / 25 / 2**20) / 0.5), 0.0]


def test_weights_in_turn_are_gone_as_far_as_they_exceed_a_partition() -> None:
    """Five of 8 x 768 over 3584: 27.6 MB of the 26.2 MB that each partition of an H100 keeps."""
    found = in_l2(device("h100-sxm"), "aiconfigurator trtllm", shapes(gemm(8, 768, 3584)))
    assert found is not None
    touched = 5 * 2 * 768 * 3584 + 2 * 8 * (768 + 3584)
    assert found.weights[0] == pytest.approx((1.25 - touched / 25 / 2**20) / 0.5)


def test_tensorrt_llm_scales_a_matrix_by_four_kernels() -> None:
    """H100: each takes 2.5 us at least, so that a product of next to nothing takes 10 us longer in 8 bits."""
    wide = gemm(16, 64, 64) | {"source": "aiconfigurator trtllm", "impl": "trtllm:torch_flow"}
    first, second = predicted_s(shapes(wide, wide | {"dtype": "fp8", "kv_dtype": "fp8"}))
    assert second - first == pytest.approx(4 * (1.3e-6 + 1.2e-6), rel=2e-2)


def test_a_timed_product_has_the_tiles_of_its_library() -> None:
    assert library("vidur", "attn_pre_proj phi-2 tp1") == "cublas-12.1"
    assert library("aiconfigurator sglang", "sglang:sglang_sgl_kernel_fp8_scaled_mm") == "sgl-kernel"
    assert library("aiconfigurator sglang", "sglang:sglang_torch_linear") == "best"


def test_softmaxes_walk_three_times_where_registers_do_not_hold_a_row() -> None:
    """4,096 columns of 4 bytes are 1,024 vectors, for 512 threads; norms have 128 threads whatever the width."""
    rows = shapes(*({"operation": "softmax", "m": 8, "n": columns, "dtype": "fp32"} for columns in (1024, 4096)))
    found = walked("softmax", "NeuSight", rows)
    assert found is not None
    assert found.walks.tolist() == [1.0, 3.0]
    assert found.threads[1] == 512
    norms = walked("layernorm", "NeuSight", rows)
    assert norms is not None
    assert (norms.walks.tolist(), norms.threads.tolist()) == ([2.0, 2.0], [128.0, 128.0])
    assert walked("layernorm", "vidur", rows) is None
