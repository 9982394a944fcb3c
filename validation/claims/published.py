"""The suites about published figures: the table of each, what predicts it, and what its errors are reported by.

Their claims are in claims.csv: what must agree, how closely and why. FuseMax (MICRO 2024) and FLAT (ASPLOS 2023); GNA
(arXiv 2504.16922), FNA (arXiv 2403.04690) and NATTEN's documentation; public measurements of GPUs, where every stratum
(source, device, kernel, size class) weighs the same and rows below 20 us are reported apart; what the compiler made of
our own kernels (tests/kernels compile them); SpAtten (HPCA 2021), its public simulators and RTL (mit-han-lab/spatten,
commit a0f1388; ramulator2, commit 8279985). Reading it runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cascadesim.validation.claim import Judge, Predict, Suite, claims_of
from cascadesim.validation.fusemax import layouts, predictions
from cascadesim.validation.gna import measured, oracle
from cascadesim.validation.gna import paper as gna_paper
from cascadesim.validation.gpu import selections
from cascadesim.validation.gpu.layouts import UNIFIED
from cascadesim.validation.gpu.model import predicted_cycle_level_s, predicted_unseen_s
from cascadesim.validation.gpu.verdict import judge
from cascadesim.validation.kernels.model import STATIC_COUNTS, compiled_counts
from cascadesim.validation.models import kernel_sums
from cascadesim.validation.models import predictions as predictions_of_models
from cascadesim.validation.models import rows as models
from cascadesim.validation.spatten import exact, paper, rtl
from cascadesim.validation.systems import rows as ledger
from cascadesim.validation.systems import verdict as systems
from cascadesim.validation.table import Layout, ParseTable, Row, parse_table

A_FEW_CYCLES = 6  # of a head: short ones are judged by these
CYCLE_LEVEL = "gpu-cycle"


def suite(name: str, data: str, layout: Layout, predict: Predict, strata: str, parse: ParseTable = parse_table,
          explain: Callable[[Row], str] | None = None, judge: Judge | None = None) -> Suite:  # fmt: skip
    """`strata`: columns, separated by spaces."""
    return Suite(name, data, layout, predict, claims_of(name, layout), tuple(strata.split()), parse, explain,
                 judge=judge)  # fmt: skip


def gpu(name: str, rows: selections.RowSelection, seconds_of: selections.PredictShapes | None = None) -> Suite:
    data, *more = rows.files
    predict = selections.predictor(seconds_of) if seconds_of else selections.predictor()
    return Suite(name, data, UNIFIED, predict, claims_of(name, UNIFIED), ("stratum", "device", "kernel", "size_class"),
                 selections.parser(rows), more=tuple(more), judge=judge)  # fmt: skip


POINT = "architecture workload sequence_length"
SUITES = (
    suite("fusemax-attention", "fusemax-attention.csv", layouts.ATTENTION, predictions.attention, POINT),
    suite("fusemax-linear", "fusemax-linear.csv", layouts.LINEAR, predictions.linear, POINT),
    suite("fusemax-pareto", "fusemax-pareto.csv", layouts.PARETO, predictions.pareto, "workload pe_array_dim"),
    suite("fusemax-energy", "fusemax-energy.csv", layouts.ENERGY_BY_COMPONENT, predictions.energy, POINT),
    suite("fusemax-energy-physical", "fusemax-energy.csv", layouts.ENERGY_BY_COMPONENT, predictions.physical_energy,
          POINT),
    suite("fusemax-area", "fusemax-area.csv", layouts.AREA, predictions.area, "architecture"),
    suite("fusemax-headlines", "fusemax-headlines.csv", layouts.HEADLINES, predictions.headline,
          "quantity architecture"),
    suite("fusemax-cycle", "fusemax-attention.csv", layouts.ATTENTION, predictions.attention_cycles, POINT),
    suite("mapping-texts", "fusemax-attention.csv", layouts.ATTENTION, predictions.attention_by_text, POINT),
    suite("mapping-texts-cycle", "fusemax-attention.csv", layouts.ATTENTION, predictions.attention_cycles_by_text,
          POINT),
    suite("flat-dataflow", "flat-dataflow.csv", layouts.DATAFLOW, predictions.flat_chosen,
          "platform workload sequence_length"),
    suite("flat-search", "flat-dataflow.csv", layouts.DATAFLOW, predictions.flat_searched,
          "platform workload sequence_length"),
    suite("gna-oracle", "gna-oracle.json", oracle.LAYOUT, oracle.counts, "dimensions", oracle.parse_oracle),
    suite("gna-paper", "gna-paper.csv", gna_paper.LAYOUT, gna_paper.bounds, "use_case certainty",
          gna_paper.parse_paper),
    suite("gna-measured", measured.FILE, measured.LAYOUT, measured.speedups, "device kernel dimensions dense_time",
          measured.parse_measured, measured.why),
    gpu("gpu-prefill", selections.PREFILL),
    gpu("gpu-decode", selections.DECODE),
    gpu("gpu-encoder", selections.ENCODER),
    gpu("gpu-mla", selections.MLA),
    gpu("gpu-gemm", selections.GEMM),
    gpu("gpu-papers", selections.PAPERS),
    gpu("gpu-ops", selections.OPS),
    gpu("gpu-left-out", selections.CALIBRATED, lambda shapes, _: predicted_unseen_s(shapes)),
    gpu(CYCLE_LEVEL, selections.CYCLES, lambda shapes, _: predicted_cycle_level_s(shapes)),
    suite("claims", ledger.FILE, systems.LAYOUT, systems.figures, "system", systems.parse_claims, judge=systems.judge),
    suite("models", models.FILE, models.TIDY, predictions_of_models.figures, "source device workload reason",
          models.parse_models),
    suite("models-kernels", kernel_sums.FILE, kernel_sums.LAYOUT, kernel_sums.milliseconds, "device model",
          judge=kernel_sums.judge),
    suite("kernels-static", "kernels-static.csv", STATIC_COUNTS, compiled_counts, "gpu"),
    suite("spatten-behavioural", "spatten-behavioural.csv", exact.BEHAVIOURAL, exact.behavioural, "kind",
          exact.parse_behavioural),
    suite("spatten-topk", "spatten-topk.csv", exact.TOPK, exact.topk, "parallelism", exact.parse_topk),
    suite("spatten-dram", "spatten-dram.csv", exact.DRAM, exact.dram, "pattern"),
    suite("spatten-rtl-heads", "spatten-rtl-heads.csv", rtl.HEADS, rtl.heads, "config key_bit requantized",
          rtl.parse_heads, judge=partial(rtl.judge, A_FEW_CYCLES)),
    suite("spatten-rtl-streams", "spatten-rtl-streams.csv", rtl.STREAMS, rtl.streams, "config workload",
          rtl.parse_streams, judge=partial(rtl.judge, 0)),
    suite("spatten-paper", "spatten-paper.csv", paper.LAYOUT, paper.paper, "certainty", paper.parse_paper,
          paper.explain),
)  # fmt: skip
