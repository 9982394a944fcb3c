"""Rows of the public files become rows of one kind; what cannot be predicted is counted with its reason."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.gpu.layouts import RAW, tensors
from cascadesim.validation.gpu.rows import kernel_of, read_rows
from cascadesim.validation.table import Row, Table

DECODE = "gpu,impl,dtype,kv_dtype,batch,kv_len,heads_q,heads_kv,head_dim,window,latency_ms\n"
VIDUR = "gpu,impl,dtype,phase,batch,seqlen_q,kv_cache,heads_q,heads_kv,head_dim,latency_ms\n"
SERVING = ("gpu,impl,dtype,phase,heads_q,heads_kv,head_dim,prefill_q,prefill_kv_cache,n_decode,kv_decode,"
           "latency_ms\n")
PAPERS = "paper,gpu,impl,dtype,pass,batch,heads,seqlen,head_dim,causal,latency_ms\n"
MISC = "kind,gpu,impl,dtype,pass,batch,seqlen_q,seqlen_k,heads_q,heads_kv,head_dim,causal,m,n,k,value,unit,source\n"


def read(text: str) -> Table:
    return read_rows(text, "test.csv", tuple(RAW), lambda operation: True)


def only(text: str) -> Row:
    (row,) = read(text).rows
    return row


def test_a_decoding_step_is_one_query_over_its_cache() -> None:
    row = only(DECODE + "H100-SXM5-80GB,sglang:fa3,bfloat16,fp8,8,4096,32,8,128,0,0.05\n")
    assert (row.get("operation"), row.get("seqlen_q"), row.get("kv_len"), row.get("causal")) == ("decode", 1, 4096, 0)
    assert (row.get("dtype"), row.get("kv_dtype"), row.get("latency_s")) == ("bf16", "fp8", pytest.approx(5e-5))
    assert (row.get("device"), row.get("architecture")) == ("h100-sxm", "hopper")
    assert row.text("stratum").startswith("aiconfigurator sglang / h100-sxm / flash-attention-3-decode / 20 us to 1 ms")


def test_a_chunk_of_a_prompt_sees_what_was_cached_and_itself() -> None:
    row = only(VIDUR + "A100-80GB,sarathi:flash_attn_paged,float16,prefill,1,512,1024,32,4,128,0.4\n")
    assert (row.get("seqlen_q"), row.get("kv_len"), row.get("causal")) == (512, 1536, 1)


def test_a_table_of_tflops_gives_seconds_by_its_own_convention() -> None:
    """4 x 16 heads x 1024 x 1024 x 128 x batch 2, halved when causal, at 100 TFLOPS."""
    row = only(MISC + "attention,A100,flash_attn_2,float16,fwd,2,1024,1024,16,16,128,1,,,,100,TFLOPS,somewhere\n")
    assert row.get("latency_s") == pytest.approx(2 * 16 * 4 * 1024 * 1024 * 128 / 2 / 100e12)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("FA2,A100-SXM4-80GB,FlashAttention-2,fp16/bf16,bwd,1,16,16384,128,1,30", "it has a backward pass"),
        ("FA2,A100-SXM4-80GB,xformers,fp16/bf16,fwd,1,16,16384,128,1,30", "no descriptor of xformers"),
        ("FA3,A100-SXM4-80GB,FlashAttention-3,fp16/bf16,fwd,1,16,16384,128,1,30", "flash-attention-3 does not run on"),
        ("FA2,Abacus,FlashAttention-2,fp16/bf16,fwd,1,16,16384,128,1,30", "no device Abacus"),
    ],
)
def test_what_cannot_be_predicted_is_left_out_with_its_reason(line: str, reason: str) -> None:
    table = read(PAPERS + line + "\n")
    ((why, count),) = table.left_out
    assert not table.rows
    assert why.startswith(reason)
    assert count == 1


@pytest.mark.parametrize(("line", "problem"), [
    ("H100-SXM5-80GB,sglang:fa3,bf17,fp8,8,4096,32,8,128,0,0.05", "column 'dtype': no type 'bf17'; known: bfloat16"),
    ("H100-SXM5-80GB,sglang:fa3,bfloat16,fp7,8,4096,32,8,128,0,0.05", "column 'kv_dtype': no type 'fp7'; did you mean"),
])  # fmt: skip
def test_an_unknown_type_is_refused_where_it_stands(line: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(DECODE + line + "\n")
    assert str(caught.value).startswith(f"test.csv, line 2, {problem}")


def test_a_call_of_nothing_is_not_judged() -> None:
    table = read(SERVING + "RTX4090,vllm-0.19.0:flash_attn,bfloat16,decode,32,8,128,0,0,4,0,0.4\n")
    assert table.left_out == (("kv_len is 0", 1),)


def test_a_call_without_a_type_is_not_judged() -> None:
    table = read(MISC + "attention,A100,flash_attn_2,,fwd,2,1024,1024,16,16,128,1,,,,100,TFLOPS,somewhere\n")
    assert table.left_out == (("its type is not stated", 1),)


def test_a_short_call_is_not_scored_and_a_long_one_is() -> None:
    """19 and 21 us; of four lengths at least one is not among the calibration fifth."""
    lines = [f"H100-SXM5-80GB,sglang:fa3,bfloat16,fp8,8,{length},32,8,128,0,{ms}\n"
             for length in (128, 256, 384, 512) for ms in (0.019,)]  # fmt: skip
    lines += [line.replace("0.019", "0.021").replace(",8,128,0", ",4,128,0") for line in lines]
    rows = read(DECODE + "".join(lines)).rows
    scored = {(row.get("scored"), row.get("latency_s") == pytest.approx(2.1e-5)) for row in rows}
    assert ("short", False) in scored
    assert ("scored", True) in scored
    assert not {("short", True), ("scored", False)} & scored


def test_a_file_without_a_needed_column_names_it() -> None:
    with pytest.raises(SpecError, match="no column 'latency_ms'"):
        read_rows("gpu,impl,dtype,m,n,k\nB200-SXM,trtllm:torch_flow,fp8,1,2,3\n", "test.csv", ("gemm",), lambda _: True)


@pytest.mark.parametrize(
    ("device", "group", "kernel"),
    [
        ("h100-sxm", 8, "trtllm-xqa"), ("h100-sxm", 32, "trtllm-xqa"), ("h100-sxm", 48, "trtllm-mmha"),
        ("h100-sxm", 1, "trtllm-mmha"), ("b200", 1, "trtllm-gen-decode"), ("b200", 64, "trtllm-mmha"),
    ],
)  # fmt: skip
def test_tensorrt_llm_decodes_by_group(device: str, group: int, kernel: str) -> None:
    assert kernel_of("trtllm:torch_flow", "decode", device, group) == kernel


def test_other_libraries_and_phases_know_no_groups() -> None:
    assert kernel_of("sglang:trtllm_mha", "decode", "b200", 64) == "trtllm-gen-decode"
    assert kernel_of("trtllm:torch_flow", "prefill", "h100-sxm", 64) == "trtllm-fmha-hopper"
    assert kernel_of("sglang:flashinfer", "prefill", "b200") == "cutlass-fmha"  # flashinfer_backend.py
    assert kernel_of("sglang:flashinfer", "prefill", "l40s") == "flashinfer"
    assert kernel_of("nobody's", "decode", "h100-sxm") is None


def test_a_depth_or_a_missing_group_may_take_a_kernel_of_its_own() -> None:
    """TensorRT-LLM has no tcgen05 kernel at a depth of 72; vLLM splits no keys of heads without a group."""
    assert kernel_of("trtllm:torch_flow", "encoder", "b200", 1, 72) == "trtllm-fmha"
    assert kernel_of("trtllm:torch_flow", "encoder", "b200", 1, 80) == "trtllm-gen"
    assert kernel_of("vllm:vllm_flash_attn", "decode", "a100-sxm", 1) == "flash-attention-2-aligned"
    assert kernel_of("vllm:vllm_flash_attn", "decode", "a100-sxm", 8) == "flash-attention-2-decode"


@pytest.mark.parametrize(("library", "group", "cache", "kernel"), [
    ("sglang:flashinfer", 1, "bf16", "flashinfer-decode-lanes"), ("sglang:flashinfer", 1, "fp8", "flashinfer-decode"),
    ("sglang:flashinfer", 8, "bf16", "flashinfer-decode"),
    ("vllm:vllm_flashinfer_fidecode", 1, "bf16", "flashinfer-decode"),
])  # fmt: skip
def test_sglang_leaves_heads_without_a_group_to_fp32_units(library: str, group: int, cache: str, kernel: str) -> None:
    """flashinfer_backend.py, should_use_tensor_core: not where the cache has 8 bits."""
    assert kernel_of(library, "decode", "l40s", group, 128, cache) == kernel


def test_parallel_blocks_add_twice() -> None:
    """vidur: attention and feed-forward and residual, three tensors by two kernels; elsewhere one sum of two."""
    assert tensors("add", "add phi-2 tp1") == 6
    assert tensors("add", "add Llama-2-7b-hf tp1") == 3
