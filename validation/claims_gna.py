"""The table of claims about neighborhood attention: counts of tiles, the paper's simulator, published kernel times.

GNA (arXiv 2504.16922), FNA (arXiv 2403.04690), NATTEN's documentation. Reading it runs nothing.
"""

from __future__ import annotations

from cascadesim.validation import gna_oracle
from cascadesim.validation.claim import Claim, Suite

SAME_COUNTS = "both count whole tiles"
SAME_RATIOS = "ratios of the same whole numbers; what is left is the last bit of a division"

GNA_ORACLE = Suite(
    "gna-oracle",
    "pairs and tiles of neighborhood patterns, against enumeration of every pair",
    "gna-oracle.json",
    gna_oracle.LAYOUT,
    gna_oracle.counts,
    (
        Claim("attended pairs and tile counts, four tiling modes", "count", 0.0, SAME_COUNTS, gna_oracle.COUNTS),
        Claim("tiles of every single query tile", "differing", 0.0, SAME_COUNTS, gna_oracle.LISTS),
        Claim("bounds and efficiencies", "bound", 1e-12, SAME_RATIOS, gna_oracle.BOUNDS),
        Claim("block-sparse or not", "block_sparse", 0.0, "a yes or a no"),
    ),
    ("dimensions",),
    gna_oracle.parse_oracle,
)

SUITES = (GNA_ORACLE,)
