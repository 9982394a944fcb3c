"""The table of claims about SpAtten (HPCA 2021): its public simulators and RTL, draw by draw, cycle by cycle.

Repository mit-han-lab/spatten, commit a0f1388; ramulator2, commit 8279985. Reading it runs nothing.
"""

from __future__ import annotations

from cascadesim.validation import spatten_exact
from cascadesim.validation.claim import Claim, Suite

SAME_FORMULAS = "whole numbers by the same formulas, from the same draws"
SAME_COMMANDS = "the same commands in the same cycles"

SPATTEN_BEHAVIOURAL = Suite(
    "spatten-behavioural",
    "the public behavioural simulator, layer by layer",
    "spatten-behavioural.csv",
    spatten_exact.BEHAVIOURAL,
    spatten_exact.behavioural,
    (
        Claim("cycles of a layer", "cycles", 0.0, SAME_FORMULAS, where={"part": ("layer",)}),
        Claim("cycles of a run", "cycles", 0.0, SAME_FORMULAS, where={"part": ("total",)}),
        Claim("layers and runs that the original leaves undefined", "undefined", 0.0, "a yes or a no"),
    ),
    ("kind",),
    spatten_exact.parse_behavioural,
)

SPATTEN_TOPK = Suite(
    "spatten-topk",
    "latency of the top-k engine as the RTL's model draws it, and its mean",
    "spatten-topk.csv",
    spatten_exact.TOPK,
    spatten_exact.topk,
    (
        Claim("draws that share one generator", "cycles", 0.0, SAME_FORMULAS, where={"kind": ("draw",)}),
        Claim(
            "share of means of 200 calls within two standard errors of the exact mean", "within", 0.04,
            "95.4 % by chance, give or take 1.8 % (130 means)", where={"kind": ("share of means",)},
        ),
        Claim(
            "means of 200 calls, reported only", "mean", None, "each scatters by its own standard error",
            where={"kind": ("mean",)},
        ),
    ),
    ("parallelism",),
    spatten_exact.parse_topk,
)  # fmt: skip

SPATTEN_DRAM = Suite(
    "spatten-dram",
    "one HBM2 channel under streams of reads, against ramulator2 behind the RTL's driver",
    "spatten-dram.csv",
    spatten_exact.DRAM,
    spatten_exact.dram,
    (
        Claim("cycles until the last read is taken", "cycles", 0.0, SAME_COMMANDS),
        Claim("cycle of the first read", "first", 0.0, SAME_COMMANDS),
        Claim("reads taken out of order", "out_of_order", 0.0, SAME_COMMANDS),
    ),
    ("pattern",),
)

SUITES: tuple[Suite, ...] = (SPATTEN_BEHAVIOURAL, SPATTEN_TOPK, SPATTEN_DRAM)
