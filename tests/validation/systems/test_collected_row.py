"""One row of the collected file as a row of ours: devices, sizes, certainty, roles, parts."""

from __future__ import annotations

import pytest
from collected_file import one, read

# ---- cells ----------------------------------------------------------------------------------------------------------


def test_a_row_is_in_our_terms() -> None:
    row = one(layers="32", heads="32", kv_heads="8", seq_len="64K", dtype="bf16", causal="yes", phase="prefill")
    assert (row.id, row.quantity, row.value, row.half_width) == ("some-01", "latency_s", 0.0125, 5e-5)
    assert (row.device, row.devices, row.layers, row.heads, row.kv_heads) == ("h100-sxm", None, 32, 32, 8)
    assert (row.seq_len, row.dtype, row.causal, row.printed) == (65536, "bf16", "yes", "12.5 ms")
    assert (row.role, row.certainty, row.lacks, row.note, row.source) == ("mechanism", "exact", "", "", "a paper")


@pytest.mark.parametrize(
    ("text", "device", "devices"),
    [
        ("8x A100-SXM-80GB", "a100-sxm", 8), ("A100-80GB SXM4", "a100-sxm", None), ("4 x A100 SXM", "a100-sxm", 4),
        ("A100-SXM-40GB", "a100-sxm-40gb", None), ("A100 (40 or 80 GB not stated)", "a100-sxm", None),
        ("A800-80GB", "a100-sxm", None), ("H800", "h100-sxm", None), ("1x H100-80GB", "h100-sxm", 1),
        ("H100-PCIe-80GB", "h100-pcie", None), ("H200", "h200-sxm", None), ("B200", "b200", None),
        ("8x RTX 4090, pipelined by layers", "rtx4090", 8), ("L40S", "l40s", None), ("L4", "l4", None),
        ("4 x L40", "l40", 4), ("H100 NVL", "h100-nvl", None), ("H20", "h20", None),
        ("4x GB200", "gb200", 4), ("GB300", "gb300", None), ("B300", "b300", None), ("A10", "a10", None),
        ("RTX PRO 6000", "rtx-pro-6000", None), ("MI325X", "mi325x", None), ("MI355X", "mi355x", None),
        ("V100", "v100-sxm", None), ("MI300", "mi300x", None),
        ("MI355X or MI300X (not stated in the excerpt)", "", None), ("iPhone 12", "", None), ("any", "", None),
        ("Xeon Gold 5218R, 1 thread", "", None), ("not stated", "", None), ("2x RTX 5090", "rtx5090", 2),
        ("A40-48GB", "a40", None), ("T4", "t4", None), ("MI210", "mi210", None),
    ],
)  # fmt: skip
def test_a_device_is_a_preset_and_a_count(text: str, device: str, devices: int | None) -> None:
    row = one(device=text)
    assert (row.device, row.devices) == (device, devices)
    assert ("device: " in row.note) == (not device)  # what has no preset stays readable


def test_the_count_of_devices_is_also_a_column_of_its_own() -> None:
    assert one(device="H200", count="512").devices == 512
    row = one(device="H200", count="16/32/64 (as summarised)")
    assert row.devices is None


def test_a_device_that_is_guessed_is_never_exact_but_a_size_of_memory_left_open_may_be() -> None:
    guessed, open_size = (one(device=text) for text in ("not stated (A100 fits: FA2 at 211 TFLOPS)",
                                                        "A100 (40 or 80 GB not stated)"))  # fmt: skip
    assert (guessed.device, guessed.certainty, guessed.lacks) == ("a100-sxm", "partial", "device")
    assert one(device="not in the stored text (paper: H100)").device == "h100-sxm"
    assert one(device="not in the stored text (paper: H100)").certainty == "partial"
    assert one(device="not stated (V100 in the paper, recalled)").device == "v100-sxm"
    assert one(device="not stated", certainty="exact (read from chart, +-0.1)").certainty == "partial"
    assert one(device="not stated", certainty="abstract only").certainty == "abstract"
    assert (open_size.device, open_size.certainty, open_size.lacks) == ("a100-sxm", "exact", "40 or 80 GB")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("131072", 131072), ("64K", 65536), ("64 frames (x 144 visual tokens)", 9216), ("0", None), ("224x224", None),
     ("1.5", None), ("999999999999M", None)],
)
def test_a_length_is_a_whole_number_or_stays_in_the_note(text: str, tokens: int | None) -> None:
    row = one(seq_len=text)
    assert row.seq_len == tokens
    assert row.note == ("" if tokens else f"seq_len: {text}")


def test_a_length_that_only_the_unit_states_is_read_from_it() -> None:
    found = one(quantity="flops_ratio", value="0.484", unit="mean span / N at 4K (0.492 at 8K)")
    assert (found.quantity, found.seq_len) == ("density", 4096)
    assert one(unit="ms at 4K", seq_len="8192").seq_len == 8192


@pytest.mark.parametrize("text", ["up to 32768", "64K-768K", ">64K", "6K-65K ragged", "Lout >= 4096"])
def test_no_one_length_is_not_exact(text: str) -> None:
    row = one(seq_len=text)
    assert (row.seq_len, row.certainty, row.lacks) == (None, "partial", "one length")


@pytest.mark.parametrize(
    ("text", "dtype"),
    [("FP16", "fp16"), ("bf16 (assumed)", "bf16"), ("16 bits (FlashAttention 2.7.4)", "fp16"), ("fp16/bf16", "fp16"),
     ("fp16/fp32 not stated", ""), ("mxfp4 weights, fp8 KV", "")],
)  # fmt: skip
def test_a_type_is_one_of_ours_and_the_rest_of_its_text_a_note(text: str, dtype: str) -> None:
    row = one(dtype=text)
    assert (row.dtype, row.note) == (dtype, "" if text == "FP16" else f"dtype: {text}")


def test_a_mask_that_is_more_than_causal_is_causal_with_a_note() -> None:
    row = one(causal="yes, document-packed")
    assert (row.causal, row.note) == ("yes", "causal: yes, document-packed")


@pytest.mark.parametrize(
    ("phase", "backward"),
    [("fwd", False), ("train fwd", False), ("prefill e2e", False), ("decode", False), ("bwd", True), ("fwd+bwd", True),
     ("train e2e", True), ("train fwd+bwd e2e", True), ("train (distillation)", True), ("fwd/bwd", True)],
)  # fmt: skip
def test_a_forward_pass_of_training_is_forward_and_a_step_of_it_is_not(phase: str, backward: bool) -> None:
    assert one(phase=phase).backward == backward


@pytest.mark.parametrize(
    ("text", "lacks"),
    [("any", ""), ("-", ""), ("4 x L40", ""), ("iPhone 12", "a preset of that device"), ("H200", "")],
)
def test_a_device_without_a_preset_is_lacking_unless_any_would_do(text: str, lacks: str) -> None:
    assert one(device=text).lacks == lacks


# ---- certainty ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "certainty", "lacks"),
    [
        ({"certainty": "exact"}, "exact", ""),
        ({"certainty": "exact (rank inferred from 15.6%)"}, "exact", ""),
        ({"certainty": "exact (read from chart, +-0.1)"}, "read", ""),
        ({"certainty": "exact", "note": "read from pixels, +-1 pixel = 1 % to 20 % at 8K"}, "read", ""),
        ({"certainty": "exact", "source": "assets/e2e.png, read by eye"}, "read", ""),
        ({"certainty": "exact through Table 5", "value": "5.5-6.7"}, "partial", "one number"),
        ({"certainty": "exact", "value": "~2"}, "partial", "one number"),
        ({"certainty": "exact formula; t per token on H200 needed"}, "partial", "t per token on H200"),
        ({"certainty": "exact for L >= 4096; partial below (documents per call)", "seq_len": "4096"}, "exact", ""),
        ({"certainty": "exact for L >= 4096; partial below (documents per call)", "seq_len": "2048"}, "partial",
         "documents per call"),
        ({"certainty": "partial: Quest page size (16 in its paper)"}, "partial", "Quest page size (16 in its paper)"),
        ({"certainty": "partial; lengths are in a file"}, "partial", "lengths are in a file"),
        ({"certainty": "partial", "note": "density at this length"}, "partial", "density at this length"),
        ({"certainty": "partial: heads", "note": "more"}, "partial", "heads"),
        ({"certainty": "abstract only"}, "abstract", ""),
        ({"certainty": "abstract only (heads, batch, head_dim missing)"}, "abstract", "heads, batch, head_dim missing"),
        ({"certainty": ""}, "partial", "not said"),
    ],
)  # fmt: skip
def test_certainty_is_what_its_text_says_and_no_more(cells: dict[str, str], certainty: str, lacks: str) -> None:
    row = one(**cells)
    assert (row.certainty, row.lacks) == (certainty, lacks)


def test_a_figure_read_from_a_chart_is_as_wide_as_the_reading() -> None:
    assert one(certainty="exact (read from chart, +-0.15)", value="17.9").half_width == pytest.approx(0.15e-3)
    assert one(certainty="exact (read from chart, +-0.15)", value="0.0").value == 0  # no share of it


# ---- roles and parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "role"),
    [
        ({"mechanism": "dense FlashAttention-2, tensor parallel 1"}, "dense"),
        ({"mechanism": "full attention in all 32 layers"}, "dense"),
        ({"mechanism": "block 128, segment 256"}, "mechanism"),
        ({"certainty": "abstract only", "mechanism": "dense"}, "headline"),
        ({"system": "SALE", "claim_id": "sale-t3-2k-select"}, "choice"),
        ({"system": "SALE", "claim_id": "sale-t3-2k-compute"}, "mechanism"),
        ({"system": "SALE", "claim_id": "anew", "quantity": "flops_ratio", "unit": "% of fa2"}, "choice"),
        ({"system": "SALE", "claim_id": "anew", "mechanism": "MInference settings"}, "baseline"),
        ({"system": "PBS-Attn", "claim_id": "pbs-t7-2k-permute"}, "choice"),
        ({"system": "PBS-Attn", "claim_id": "pbs-t7-2k-total"}, "total"),
        ({"system": "PBS-Attn", "claim_id": "anew", "mechanism": "block 128, no permutation (MeanPooling)"},
         "baseline"),
        ({"system": "VMoBA", "claim_id": "anew", "mechanism": "density .25; first 25 % of steps dense"}, "baseline"),
        ({"system": "VMoBA", "claim_id": "anew", "mechanism": "density .31 (72 blocks, tau .25)"}, "mechanism"),
        ({"system": "SQA", "mechanism": "16 of 16 query heads of 16", "kv_heads": "1"}, "dense"),
        ({"system": "SQA", "mechanism": "8 of 16 query heads of 16"}, "mechanism"),
        ({"system": "SQA", "mechanism": "window 128 by FlexAttention"}, "baseline"),
        ({"system": "SQA", "claim_id": "sqa-train-GQA"}, "dense"),
        ({"system": "SQA", "claim_id": "sqa-train-sSQA"}, "mechanism"),
        ({"system": "FlashBias", "mechanism": "bias B x H x N x N read from DRAM"}, "dense"),
        ({"system": "FlashBias", "mechanism": "q, k widened by 8 factor columns"}, "mechanism"),
        ({"system": "Lightning Attention", "mechanism": "dense softmax"}, "dense"),
        ({"system": "Lightning Attention", "mechanism": "TNL-LA1"}, "baseline"),
        ({"system": "TidalDecode", "mechanism": "Quest: page-wise min/max estimate"}, "baseline"),
        ({"system": "MoA", "mechanism": "vLLM PagedAttention"}, "dense"),
        ({"system": "MoA", "mechanism": "HF StreamingLLM"}, "baseline"),
        ({"system": "SLAB", "model": "Flatten-Swin-T 224x224"}, "baseline"),
        ({"system": "SLAB", "model": "SLAB-Swin-T 224x224"}, "mechanism"),
        ({"system": "SLAB", "model": "Swin-T 224x224"}, "dense"),
        ({"system": "SparseD", "mechanism": "window N/2, sink 10 % of N, FlexAttention"}, "baseline"),
        ({"system": "FlashMoBA", "mechanism": "MoBA original, block 128, top-k 8"}, "baseline"),
        ({"system": "Lightning Attention", "mechanism": "LLaMA-FA2"}, "dense"),
        ({"system": "Lightning Attention", "model": "ChatGLM2-6B"}, "baseline"),
        ({"system": "ZipVL", "mechanism": "MInference"}, "baseline"),
        ({"system": "ZipVL", "mechanism": "ZipVL tau 0.975"}, "mechanism"),
        ({"system": "SHViT", "model": "ResNet50 224x224"}, "baseline"),
        ({"system": "DistCA", "mechanism": "tp 4, cp 1"}, "dense"),
        ({"system": "DistCA", "mechanism": "DP4"}, "baseline"),
        ({"system": "Kinetics", "quantity": "memory", "unit": "GB KV at 32K"}, "dense"),
        ({"system": "FlashAttention-2", "baseline": "none (Megatron) as attention"}, "dense"),
        ({"system": "FlashAttention-2", "baseline": "FlashAttention-1 as attention"}, "baseline"),
    ],
)  # fmt: skip
def test_a_role_follows_from_what_the_columns_say(cells: dict[str, str], role: str) -> None:
    assert one(**cells).role == role


def test_a_part_of_a_table_that_only_the_id_names_is_a_column() -> None:
    assert one(system="FlashBias", claim_id="fb-fwd-2048-torch-sdpa-bias").part == "torch-sdpa-bias"
    assert one(system="Lightning Attention", claim_id="la2-speed_fwd-4096-xformers").part == "xformers"
    assert one(system="VMoBA", claim_id="vmoba-t1-81x480x832-svg-latency").part == "svg"
    assert one(system="FlashBias", claim_id="something else").part == ""
    pair = read({"system": "SALE", "claim_id": "sale-t3-8k-fa2", "value": "1 / 2", "unit": "x kernel / all"}).rows
    assert [row.part for row in pair] == ["kernel", "all"]


def test_a_pair_is_two_rows_with_ids_of_their_own() -> None:
    rows = read({"value": "6.7 / 5.3", "unit": "x attention / e2e", "quantity": "speedup"}).rows
    assert [(row.id, row.part, row.value) for row in rows] == [("some-01-attention", "attention", 6.7),
                                                               ("some-01-e2e", "e2e", 5.3)]  # fmt: skip
