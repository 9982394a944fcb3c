"""The table of claims about GPUs: predicted kernel times against public measurements, and against two baselines.

Each suite pools its strata (source, device, kernel, size class) with equal weight. Rows below 20 us are reported apart;
a fifth of all shapes calibrates the model and is never scored (`layouts.split_of`). Reading it runs nothing.
"""

from __future__ import annotations

from cascadesim.validation.claim import Claim, Predict, Selection, Suite
from cascadesim.validation.gpu.layouts import OF_ROOFLINE, POOLED, RANKING, UNIFIED
from cascadesim.validation.gpu.suites import RowSelection, parser, predict, predict_cycles, predict_unseen
from cascadesim.validation.gpu.verdict import judge

LATENCY = "latency_s"
SCORED: Selection = {"scored": ("scored",)}
SHORT: Selection = {"scored": ("short",)}
CALIBRATION: Selection = {"split": ("calibration",)}
STRATA = ("stratum", "device", "kernel", "size_class")

LIBRARIES = "libraries differ by 5 to 23 % on the same shape (medians), and a row is one run"
RANKS = "where the model orders shapes wrongly it misses a mechanism: tau of 0.85 in the worst stratum"
HALF = "a model of the kernel must be worth twice what peak and bandwidth alone say"
TWO_PASSES = "engines of that time read rows element by element, twice; the model takes one kernel at memory's speed"
APART = "launch and framework, not the kernel, decide below 20 us"


PREFILL = RowSelection(("prefill", "vidur-attention", "servingsim"), ("prefill",))
DECODE = RowSelection(("decode", "vidur-attention", "servingsim"), ("decode",))
ENCODER = RowSelection(("encoder", "papers"), ("encoder",))
MLA = RowSelection(("mla",), ("mla-context", "mla-generation"))
GEMM = RowSelection(("gemm", "vidur-linear"), ("gemm",))
PAPERS = RowSelection(("papers", "fa1", "misc"), ("encoder", "prefill"))
OPS = RowSelection(("neusight", "llmcompass", "vidur-linear"))
CALIBRATED = RowSelection(
    ("encoder", "prefill", "decode", "mla", "gemm", "vidur-attention", "servingsim", "vidur-linear"),
    ("encoder", "prefill", "decode", "mla-context", "mla-generation", "gemm"),
)  # what calibrates, all of it in one table
CYCLES = RowSelection(("encoder", "decode"), ("encoder", "decode"))


def timed(tolerance: float | None, because: str = LIBRARIES) -> tuple[Claim, ...]:
    """The claims of a suite; tolerance None: its own error is reported only, as no target is set there."""
    return (
        Claim("time of a call, 20 us and more", LATENCY, tolerance, because, where=SCORED, gate=POOLED),
        Claim("rank correlation (1 - tau) in each stratum of 30 rows and more", LATENCY, 0.15, RANKS, where=SCORED,
              gate=RANKING),
        Claim("error as a share of the plain roofline's", LATENCY, 0.5, HALF, where=SCORED, gate=OF_ROOFLINE),
        Claim("time of a call below 20 us, reported only", LATENCY, None, APART, where=SHORT, gate=POOLED),
        Claim("rows that calibrate: the constants still fit (calibration, no evidence)", LATENCY, None,
              "a fifth of all shapes, by a hash", where=CALIBRATION, fitted=True, gate=POOLED),
    )  # fmt: skip


def suite(name: str, about: str, selection: RowSelection, claims: tuple[Claim, ...], by: Predict = predict) -> Suite:
    data, *more = selection.files
    return Suite(name, about, data, UNIFIED, by, claims, STRATA, parser(selection), more=tuple(more), judge=judge)


# what a pool of all element-wise work would hide
ENGINE = tuple(
    Claim(f"{what} of a serving engine (vidur), 20 us and more, reported only", LATENCY, None, TWO_PASSES,
          where={**SCORED, "source": ("vidur",), "operation": (operation,)}, gate=POOLED)
    for what, operation in (("norms", "layernorm"), ("gated activations", "mlp_act"), ("residual sums", "add"))
)  # fmt: skip
UNSEEN = tuple(
    Claim(f"{device}: time of a call, 20 us and more", LATENCY, 0.18,
          "published models miss by about 16 % in the mean on a GPU that they were not calibrated on",
          where={**SCORED, "device": (device,)}, gate=POOLED)
    for device in ("a100-sxm", "a40", "h100-sxm", "h200-sxm", "b200", "l40s", "rtx4090")
)  # fmt: skip
BY_DEPENDENCES = tuple(
    Claim(f"{operation}: time of a call, 20 us and more, reported only", LATENCY, None,
          "no overlap is calibrated here: what groups of warps hide by their dependences alone",
          where={**SCORED, "operation": (operation,)}, gate=POOLED)
    for operation in CYCLES.operations
)  # fmt: skip
CYCLE_LEVEL = suite("gpu-cycle", "attention kernels at cycle level: one SM, its groups of warps by their dependences",
                    CYCLES, BY_DEPENDENCES, predict_cycles)  # fmt: skip

SUITES = (
    suite("gpu-prefill", "causal attention of prompts, grouped heads and windows, on A100, H100, B200, L40S, RTX 4090",
          PREFILL, timed(0.12)),
    suite("gpu-decode", "attention of one new token over a paged cache, on A100, H100, B200, L40S, RTX 4090", DECODE,
          timed(0.12)),
    suite("gpu-encoder", "full attention without a cache: FlashAttention-2, -3, -4, TensorRT-LLM, Triton, cuDNN",
          ENCODER, timed(0.10)),
    suite("gpu-mla", "DeepSeek's latent attention, prompt and absorbed generation, on H100 and B200", MLA, timed(0.15)),
    suite("gpu-gemm", "dense layers in bf16, fp16 and fp8 on A100, A40, H100, H200, B200, L40S", GEMM, timed(0.10)),
    suite("gpu-papers", "figures and tables of the FlashAttention papers, and README tables", PAPERS, timed(None)),
    suite("gpu-ops", "softmax, norms, elementwise operations, products on FP32 units, from P4 to H100", OPS,
          (*timed(None), *ENGINE)),
    suite("gpu-left-out", "each device predicted with constants from the other devices", CALIBRATED, UNSEEN,
          predict_unseen),
    CYCLE_LEVEL,
)  # fmt: skip
