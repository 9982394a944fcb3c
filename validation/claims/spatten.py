"""The table of claims about SpAtten (HPCA 2021): its public simulators and RTL, draw by draw, cycle by cycle.

Repository mit-han-lab/spatten, commit a0f1388; ramulator2, commit 8279985. Reading it runs nothing.
"""

from __future__ import annotations

from functools import partial

from cascadesim.validation.claim import Claim, Suite
from cascadesim.validation.spatten import exact as spatten_exact
from cascadesim.validation.spatten import paper as spatten_paper
from cascadesim.validation.spatten import rtl as spatten_rtl

SAME_FORMULAS = "whole numbers by the same formulas, from the same draws"
SAME_COMMANDS = "the same commands in the same cycles"

SPATTEN_BEHAVIOURAL = Suite(
    "spatten-behavioural",
    "the public behavioural simulator, layer by layer",
    "spatten-behavioural.csv", spatten_exact.BEHAVIOURAL, spatten_exact.behavioural,
    (
        Claim("cycles of a layer", "cycles", 0.0, SAME_FORMULAS, where={"part": ("layer",)}),
        Claim("cycles of a run", "cycles", 0.0, SAME_FORMULAS, where={"part": ("total",)}),
        Claim("layers and runs that the original leaves undefined", "undefined", 0.0, "a yes or a no"),
    ),
    ("kind",),
    spatten_exact.parse_behavioural,
)  # fmt: skip

SPATTEN_TOPK = Suite(
    "spatten-topk",
    "latency of the top-k engine as the RTL's model draws it, and its mean",
    "spatten-topk.csv", spatten_exact.TOPK, spatten_exact.topk,
    (
        Claim("draws that share one generator", "cycles", 0.0, SAME_FORMULAS, where={"kind": ("draw",)}),
        Claim("share of means of 200 calls within two standard errors of the exact mean", "within", 0.04,
              "95.4 % by chance, give or take 1.8 % (130 means)", where={"kind": ("share of means",)}),
        Claim("means of 200 calls, reported only", "mean", None, "each scatters by its own standard error",
              where={"kind": ("mean",)}),
    ),
    ("parallelism",),
    spatten_exact.parse_topk,
)  # fmt: skip

SPATTEN_DRAM = Suite(
    "spatten-dram",
    "one HBM2 channel under streams of reads, against ramulator2 behind the RTL's driver",
    "spatten-dram.csv", spatten_exact.DRAM, spatten_exact.dram,
    (
        Claim("cycles until the last read is taken", "cycles", 0.0, SAME_COMMANDS),
        Claim("cycle of the first read", "first", 0.0, SAME_COMMANDS),
        Claim("reads taken out of order", "out_of_order", 0.0, SAME_COMMANDS),
    ),
    ("pattern",),
)  # fmt: skip

PIPELINE = "registers, queues and arbiters by the description of the RTL; what it leaves open is a few cycles a stage"
COUNTED = "whole numbers: every transaction and every line that a head asks for"
A_FEW_CYCLES = 6  # of a head: short ones are judged by these

SPATTEN_RTL_HEADS = Suite(
    "spatten-rtl-heads",
    "heads that run alone in the public RTL: latency, transactions, lines multiplied",
    "spatten-rtl-heads.csv", spatten_rtl.HEADS, spatten_rtl.heads,
    (
        Claim("latency of a head, on average", "latency", 0.005, PIPELINE, gate="mean"),
        Claim("latency of a head that misses by more than 6 cycles", "latency", 0.02, PIPELINE,
              where={"history": ("yes",)}, gate="tail"),
        Claim("the same where the head before is not known, reported only", "latency", None,
              "it leaves DRAM rows open, and its scores may still drain: up to as many cycles as it had keys",
              where={"history": ("no",)}, gate="tail"),
        Claim("DRAM transactions of a head or a pair", "own_reads", 0.0, COUNTED),
        Claim("lines multiplied with keys, of a head or a pair", "own_lines", 0.0, COUNTED),
        Claim("scores after the first pass, reported only", "t_report1", None, "part of the latency above"),
        Claim("scores after the low bits, reported only", "t_report2", None, "part of the latency above"),
    ),
    ("config", "key_bit", "requantized"),
    spatten_rtl.parse_heads,
    judge=partial(spatten_rtl.judge, A_FEW_CYCLES),
)  # fmt: skip

SPATTEN_RTL_STREAMS = Suite(
    "spatten-rtl-streams",
    "heads sent back to back through the public RTL: completion of each, totals",
    "spatten-rtl-streams.csv", spatten_rtl.STREAMS, spatten_rtl.streams,
    (
        Claim("cycles of a stream", "total", 0.01, PIPELINE),
        Claim("completion of a head, median", "t_done", 0.02, PIPELINE, gate="median"),
        Claim("DRAM transactions of a stream", "total_reads", 0.0, COUNTED),
        Claim("lines multiplied with keys, of a stream", "total_lines", 0.0, COUNTED),
        Claim("completion of a head, reported only", "t_done", None, "few rows at the start of a stream weigh most"),
    ),
    ("config", "workload"),
    spatten_rtl.parse_streams,
    judge=partial(spatten_rtl.judge, 0),
)  # fmt: skip

SPATTEN_PAPER = Suite(
    "spatten-paper",
    "the paper's figures beside ours: sizes, reductions, steps of the ablation ladder, throughput, speedups",
    "spatten-paper.csv", spatten_paper.LAYOUT, spatten_paper.paper,
    (
        Claim("figures that follow from the configuration", "figure", 0.03,
              "exact but for 2.048 TFLOPS, which the paper prints as 2.0", where={"kind": (spatten_paper.COUNTED,)}),
        Claim(
            "figures that the presets repeat (no evidence)", "figure", 1e-9, "the same numbers, read from the presets",
            where={"kind": (spatten_paper.GIVEN,)},
        ),
        Claim("reductions, steps and speedups, reported only", "figure", None,
              "the paper's 30 benchmarks are not public: two workload files and one assumed schedule stand for them",
              where={"kind": (spatten_paper.PREDICTED,)}, listed=True),
    ),
    ("certainty",),
    spatten_paper.parse_paper,
    spatten_paper.explain,
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    SPATTEN_BEHAVIOURAL, SPATTEN_TOPK, SPATTEN_DRAM, SPATTEN_RTL_HEADS, SPATTEN_RTL_STREAMS, SPATTEN_PAPER,
)  # fmt: skip
