"""The table of claims about GPUs: predicted kernel times against public measurements, and against two baselines; and
what the compiler made of our own kernels against the work derived for them (tests/kernels compile them).

Each suite pools its strata (source, device, kernel, size class) with equal weight. Rows below 20 us are reported apart;
a fifth of all shapes calibrates the model and is never scored (`layouts.split_of`). A
file's rows are predicted all at once and remembered; a row finds its own by its place. Reading it runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from cascadesim.validation.claim import Claim, Predict, PredictedFigures, Selection, Settings, Suite
from cascadesim.validation.gpu.layouts import OF_ROOFLINE, POOLED, RANKING, UNIFIED, Floats, Shapes, shapes_of
from cascadesim.validation.gpu.model import (
    neighbour_s,
    predicted_cycle_level_s,
    predicted_s,
    predicted_unseen_s,
    roofline_s,
)
from cascadesim.validation.gpu.rows import read_rows
from cascadesim.validation.gpu.verdict import judge
from cascadesim.validation.kernels.model import counted
from cascadesim.validation.table import (
    Column,
    Layout,
    ParseTable,
    Row,
    RowGroup,
    Table,
    count,
    member,
    members,
    not_negative,
    published_text,
)

PUBLISHED = {
    "prefill": "gpu/attn_prefill_aic.csv", "decode": "gpu/attn_decode_aic.csv", "encoder": "gpu/attn_encoder_aic.csv",
    "gemm": "gpu/gemm_aic.csv", "mla": "gpu/mla_aic.csv", "vidur-attention": "gpu/vidur_attn_a100.csv",
    "vidur-linear": "gpu/vidur_linear.csv", "servingsim": "gpu/attn_rtx4090_llmservingsim.csv",
    "papers": "gpu/fa2_fa3_papers.csv", "fa1": "gpu/fa1_tables.csv", "llmcompass": "gpu/llmcompass.csv",
    "neusight": "gpu/neusight_ops.csv", "misc": "gpu/published_misc.csv",
}  # fmt: skip
NOT_OPERATORS = ("prefill", "decode", "encoder", "mla-context", "mla-generation", "gemm")
# of every row, NaN where nothing is predicted; settings change the device
PredictShapes = Callable[[Shapes, tuple[str, ...]], Floats]


@dataclass(frozen=True)
class RowSelection:
    """The layouts that a suite reads, our own files of them, and the operations that it takes from their rows."""

    layouts: tuple[str, ...]
    operations: tuple[str, ...] = ()  # none: every operator that has no suite of its own

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(PUBLISHED[name] for name in self.layouts)

    def takes(self, operation: str) -> bool:
        return operation in self.operations if self.operations else operation not in NOT_OPERATORS


def parser(selection: RowSelection) -> ParseTable:
    """Text of a file -> rows of the suite, each with its baselines."""
    return lambda text, layout, source: _parsed(selection, text, source)


@lru_cache(maxsize=64)
def _parsed(selection: RowSelection, text: str, source: str) -> Table:
    table = read_rows(text, source, selection.layouts, selection.takes)
    if not table.rows:
        return table
    shapes = shapes_of(table.rows)
    rooflines, neighbours = roofline_s(shapes).tolist(), neighbour_s(shapes, own_shapes(selection)).tolist()
    rows = [replace(row, cells=(*row.cells, ("roofline_s", roofline),
                                ("neighbour_s", None if math.isnan(neighbour) else neighbour)))
            for row, roofline, neighbour in zip(table.rows, rooflines, neighbours, strict=True)]  # fmt: skip
    return replace(table, rows=members(rows))


@cache
def own_shapes(selection: RowSelection) -> Shapes:
    """Every row of the selection that ships with the project."""
    files = zip(selection.layouts, selection.files, strict=True)
    tables = [read_rows(published_text(path), path, (name,), selection.takes) for name, path in files]
    return shapes_of([row for table in tables for row in table.rows])


def predictor(seconds_of: PredictShapes) -> Predict:
    """The time of one row as `seconds_of` has it; the row's whole file is predicted the first time."""

    @lru_cache(maxsize=64)
    def predicted(group: RowGroup, settings: tuple[str, ...]) -> Floats:
        return seconds_of(shapes_of(group.rows), settings)

    def predict(row: Row, settings: Settings = ()) -> PredictedFigures:
        seconds = float(predicted(member(row).group, tuple(settings))[member(row).position])
        return {LATENCY: None if math.isnan(seconds) else seconds}

    return predict


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


def suite(name: str, about: str, selection: RowSelection, claims: tuple[Claim, ...],
          seconds_of: PredictShapes = predicted_s) -> Suite:
    data, *more = selection.files
    return Suite(name, about, data, UNIFIED, predictor(seconds_of), claims, STRATA, parser(selection),
                 more=tuple(more), judge=judge)


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
                    CYCLES, BY_DEPENDENCES, lambda shapes, _: predicted_cycle_level_s(shapes))  # fmt: skip

TRITON = "3.9.0"  # whose counts ship, kernels/static_counts.json; the gates hold with 3.6, too
COUNTED_EXACTLY = "instructions are counted one by one; a tile done twice, or a score too many, would show"

STATIC_COUNTS = Layout(
    (
        Column("case", str), Column("gpu", count), Column("loop", count), Column("matrix_flop", not_negative),
        Column("exponentials", not_negative),
    ),
    key=("case", "gpu", "loop"),
)  # fmt: skip


def compiled_counts(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Counts one loop of the kernel, all warps of a program together."""
    kernel = counted().get((row.text("case"), row.count("gpu")))
    loops = kernel["loops"] if kernel else []
    place = row.count("loop") - 1
    if place >= len(loops):
        return {"matrix_flop": None, "exponentials": None}
    return {name: float(loops[place][name]) for name in ("matrix_flop", "exponentials")}


KERNELS_STATIC = Suite(
    "kernels-static",
    f"our kernels as Triton {TRITON} compiles them for A100, H100 and B200: products and exponentials of a tile, "
    "against their derivation",
    "kernels-static.csv", STATIC_COUNTS, compiled_counts,
    (
        Claim("FLOP of the matrix instructions, per tile", "matrix_flop", 0.0, COUNTED_EXACTLY),
        Claim("exponentials, per tile", "exponentials", 0.0, COUNTED_EXACTLY),
    ),
    ("gpu",),
)  # fmt: skip

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
          lambda shapes, _: predicted_unseen_s(shapes)),
    CYCLE_LEVEL,
    KERNELS_STATIC,
)  # fmt: skip
