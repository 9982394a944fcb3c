"""The table of claims about neighborhood attention: counts of tiles, the paper's simulator, published kernel times.

GNA (arXiv 2504.16922), FNA (arXiv 2403.04690), NATTEN's documentation. Reading it runs nothing.
"""

from __future__ import annotations

from cascadesim.validation.claim import Claim, Selection, Suite
from cascadesim.validation.gna import measured as gna_measured
from cascadesim.validation.gna import oracle as gna_oracle
from cascadesim.validation.gna import paper as gna_paper

SAME_COUNTS = "both count whole tiles"
SAME_RATIOS = "ratios of the same whole numbers; what is left is the last bit of a division"

GNA_ORACLE = Suite(
    "gna-oracle",
    "pairs and tiles of neighborhood patterns, against enumeration of every pair",
    "gna-oracle.json", gna_oracle.LAYOUT, gna_oracle.counts,
    (
        Claim("attended pairs and tile counts, four tiling modes", "count", 0.0, SAME_COUNTS, gna_oracle.COUNTS),
        Claim("tiles of every single query tile", "differing", 0.0, SAME_COUNTS, gna_oracle.LISTS),
        Claim("bounds and efficiencies", "bound", 1e-12, SAME_RATIOS, gna_oracle.BOUNDS),
        Claim("block-sparse or not", "block_sparse", 0.0, "a yes or a no"),
    ),
    ("dimensions",),
    gna_oracle.parse_oracle,
)  # fmt: skip

PRINTED = "printed to two decimals: 0.005, and as much again where the share of attention is printed to three"
AS_PRINTED = "rounded as the source prints it"

GNA_PAPER = Suite(
    "gna-paper",
    "the paper's analytical figures: bounds end to end, sparsity, lists of strides, block-sparse layers",
    "gna-paper.csv", gna_paper.LAYOUT, gna_paper.bounds,
    (
        Claim("end-to-end bound by tiles", "value", 0.011, PRINTED, where={"kind": ("end-to-end, tiles",)},
              gate="absolute"),
        Claim("end-to-end bound by FLOPs", "value", 0.011, PRINTED, where={"kind": ("end-to-end, FLOPs",)},
              gate="absolute"),
        Claim("bounds of attention alone", "value", 0.011, AS_PRINTED, where={"kind": ("attention",)},
              gate="absolute"),
        Claim("sparsity", "value", 0.011, AS_PRINTED, where={"kind": ("sparsity",)}, gate="absolute"),
        Claim("share of the time that sparse steps attend", "value", 0.011, AS_PRINTED, where={"kind": ("share",)},
              gate="absolute"),
        Claim("strides recommended, and the bound of each", "value", 0.011, "bounds to two decimals",
              where={"kind": ("stride",)}, gate="absolute"),
        Claim("no stride recommended besides, and how coarse the last one is", "value", 0.0, "whole numbers",
              where={"kind": ("strides", "coarsest stride")}),
        Claim("layers of Cosmos-Predict2 without a masked tile", "value", 0.0, "a yes or a no",
              where={"kind": ("block-sparse",)}),
        Claim("known exception, reported only: Cosmos 16x32x48 at stride 1", "value", None,
              "our bound is 1.746; the printed end-to-end figure needs 1.8, which is 1.746 rounded twice",
              where={"kind": (gna_paper.TWICE_ROUNDED,)}),
        Claim("known exception, reported only: HunyuanVideo blocked by 18x24x24", "value", None,
              "printed 2.06, from the counts 2.07: rounded down or from a bound below ours",
              where={"kind": (gna_paper.BLOCKED,)}),
    ),
    ("use_case", "certainty"),
    gna_paper.parse_paper,
)  # fmt: skip

FITTED: Selection = {"calibration": ("yes",)}
SPLIT = ("device", "kernel", "dimensions", "dense_time")

GNA_MEASURED = Suite(
    "gna-measured",
    "published kernel times of NATTEN on H100 and B200, against the time model",
    gna_measured.FILE, gna_measured.LAYOUT, gna_measured.speedups,
    (
        Claim("kernel speedup over measured dense attention", "kernel_speedup", 0.15,
              "one cost per kind of tile, taken from 1-D and 2-D kernels; 3-D ones are about a tenth slower",
              where={"kind": (gna_measured.KERNEL,)}, unless=FITTED, gate="median"),
        Claim("kernel speedup, dense time predicted too, reported only", "kernel_speedup_own_dense", None,
              "dense attention by the model of the device; measured rates spread over 0.54-0.70 and 1.21-1.29 PFLOP/s",
              where={"kind": (gna_measured.KERNEL,)}, unless=FITTED),
        Claim(
            "time with token permutation, reported only", "total_s", None,
            "holds the permutation, whose rate came from the same measurements", where={"kind": (gna_measured.TOTAL,)},
            unless=FITTED,
        ),
        Claim("end-to-end speedup", "end_to_end_speedup", 0.1,
              "a tenth of the kernel's time is half of that of the run; how often tokens are permuted is not published",
              where={"kind": (gna_measured.END_TO_END,)}, gate="median"),
        Claim("three kernels a device: the constants still fit (calibration, no evidence)", "kernel_speedup", 0.005,
              "constants are kept to four digits", where={**FITTED, "kind": (gna_measured.KERNEL,)}, fitted=True),
        Claim("token permutation: the copy rate still fits (calibration, no evidence)", "permute_s", 0.19,
              "the middle of rates that spread over 1.0-1.42 TB/s", where=FITTED, fitted=True),
    ),
    SPLIT,
    gna_measured.parse_measured,
    gna_measured.why,
)  # fmt: skip

SUITES = (GNA_ORACLE, GNA_PAPER, GNA_MEASURED)
