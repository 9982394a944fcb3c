"""Energy and area of SpAtten from its published breakdown (HPCA'21, 40 nm): what was not published is None.

DRAM by the bit; logic and SRAM at their published mean power for as long as the closed form says (assumed: the mean
over the publication's benchmarks holds for any work). The figures hold for the published sizes only.
"""

from __future__ import annotations

from collections.abc import Mapping

from cascadesim.accelerators.spatten.spec import SpattenSpec

UM2_PER_MM2 = 1e6
JOULES_PER_PJ = 1e-12


def dynamic_energy_j(dram_bytes: float, cycles: float, spec: SpattenSpec) -> Mapping[str, float] | None:
    """Component -> joules; None where the breakdown of this size is not published."""
    figures = spec.published
    if not spec.as_published or figures.logic_w is None or figures.sram_w is None:
        return None
    seconds = cycles / spec.clock_hz
    return {
        "dram": 8 * dram_bytes * spec.dram.energy_pj_per_bit * JOULES_PER_PJ,
        "logic": figures.logic_w * seconds,
        "sram": figures.sram_w * seconds,
    }


def area_um2(spec: SpattenSpec) -> Mapping[str, float] | None:
    """Component -> area."""
    figures = spec.published
    if not spec.as_published or figures.area_mm2 is None:
        return None
    total = figures.area_mm2 * UM2_PER_MM2
    if figures.topk_area_share is None:
        return {"chip": total}
    return {"top_k": figures.topk_area_share * total, "rest_of_chip": (1 - figures.topk_area_share) * total}
