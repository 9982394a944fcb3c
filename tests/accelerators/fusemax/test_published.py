"""Rows of the FuseMax evaluation (micro24-fusemax-artifact, commit f543beb, workspace/outputs/pregenerated/results).

A few rows of each file; the validation suites run all of them. Traffic, latency, utilisation: 1e-9, energy: 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascadesim.accelerators.energy import area_um2
from cascadesim.accelerators.fusemax.accelerator import FuseMax, plan_attention
from cascadesim.accelerators.fusemax.exploration import square_spec, total_area_um2
from cascadesim.accelerators.protocol import Plan
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]
K = 1024

# preset, model, length, traffic B, latency s, energy pJ, util 2D, util 1D
ROWS = [
    # attn-binding.csv
    ("fusemax", "BERT", K, 402653184, 0.002013140425531915, 1950645149855.2659, 0.8896103896103895, 1.0),
    ("fusemax", "BERT", 256 * K, 463856467968, 118.2793728, 1.2658834632312842e17, 0.9923042100497962, 1.0),
    ("fusemax", "BERT", K * K, 6803228196864, 1891.8274331234043, 2.0288129992244227e18, 0.9926412317445941, 1.0),
    # attn-arch.csv
    ("fusemax-architecture", "BERT", K, 402653184, 0.005987131914893616, 1950645149855.2659,
     0.2991266375545852, 0.3362445414847162),
    ("fusemax-architecture", "BERT", 16 * K, 6442450944, 1.5327057702127658, 493109111891647.44,
     0.2991266375545852, 0.3034934497816595),
    # attn-cascade.csv
    ("fusemax-cascade", "BERT", K, 402653184, 0.015333855319148937, 2241395704198.6035, 0.10912190963341858, 1.0),
    ("fusemax-cascade", "BERT", 16 * K, 9663676416, 3.8752691744680856, 565636061643253.6, 0.11053540587219343, 1.0),
    ("fusemax-cascade", "BERT", K * K, 26594437496832, 15859.609373412768, 2.492732321515212e18,
     0.11062944806817107, 1.0),
]  # fmt: skip


def utilization(plan: Plan, unit: str) -> float:
    phase = plan.phases[0]
    used = sum(activity.cycles * activity.occupancy for activity in phase.activities if activity.unit == unit)
    return used / phase.analytical_cycles


def energy_pj(plan: Plan) -> float:
    assert plan.dynamic_energy_j is not None
    return sum(plan.dynamic_energy_j.values()) * 1e12


@pytest.mark.parametrize(("preset", "name", "length", "traffic", "latency", "energy", "util_2d", "util_1d"), ROWS)
def test_the_artifact_accounting_gives_the_published_row(
    preset: str, name: str, length: int, traffic: float, latency: float, energy: float, util_2d: float, util_1d: float,
    model: Make, design: Design,
) -> None:  # fmt: skip
    accelerator = design(preset)
    plan = accelerator.plan(model(name, length), "artifact")
    assert plan.traffic.total_bytes == pytest.approx(traffic, rel=1e-9)
    assert plan.phases[0].analytical_cycles / accelerator.clock_hz == pytest.approx(latency, rel=1e-9)
    assert energy_pj(plan) == pytest.approx(energy, rel=1e-6)
    assert utilization(plan, "array_2d") == pytest.approx(util_2d, rel=1e-9)
    assert utilization(plan, "array_1d") == pytest.approx(util_1d, rel=1e-9)


def test_the_published_share_of_each_einsum(model: Make, design: Design) -> None:
    """attn-binding.csv, BERT 1K: share of the run time on the 2D array."""
    phase = design().plan(model("BERT", K), "artifact").phases[0]
    shares = {activity.name: activity.cycles / phase.analytical_cycles for activity in phase.activities}
    published = {
        "QK": 0.4155844155844156, "LM": 0.006493506493506494, "SLN": 0.045454545454545456,
        "SLD": 0.006493506493506494, "SLNV": 0.4155844155844156,
    }  # fmt: skip
    assert {name: shares[name] for name in published} == pytest.approx(published, rel=1e-9)


# pareto.csv, BERT at 256K: side, traffic B, 1D latency s, area of the 2D array um^2, total area um^2
FRONT = [
    (16, 422264004673536, 30266.668803268087, 4712617.37472, 5441230.48908),
    (64, 105604655874048, 1891.8274331234045, 75401685.99552, 78369596.31228),
    (256, 26439818674176, 118.2793728, 1207951209.6768, 1220894441.8412402),
    (512, 6648609374208, 29.58322927659275, 4834854330.20416, 4885081008.9724),
]


@pytest.mark.parametrize(("side", "traffic", "latency", "area_2d", "area"), FRONT)
def test_square_arrays_are_sized_as_on_the_published_front(
    side: int, traffic: float, latency: float, area_2d: float, area: float, model: Make, design: Design
) -> None:
    operation = model("BERT", 256 * K)
    spec = square_spec(design().spec, side, operation)
    plan = plan_attention(operation, spec, "artifact")
    assert plan.traffic.total_bytes == pytest.approx(traffic, rel=1e-9)
    assert plan.phases[0].analytical_cycles / spec.clock_hz == pytest.approx(latency, rel=1e-9)
    assert area_um2(spec)["array_2d"] == pytest.approx(area_2d, rel=1e-9)
    assert total_area_um2(spec) == pytest.approx(area, rel=1e-9)


def test_no_buffer_makes_the_slowest_channel_fast_enough(model: Make, design: Design) -> None:
    slow = design("fusemax", "dram.bandwidth_bytes_per_s=1000000.0").spec
    with pytest.raises(CascadeSimError, match="no buffer up to"):
        square_spec(slow, 256, model("BERT", 1024))


@pytest.mark.parametrize("preset", ["fusemax", "fusemax-architecture"])
def test_physical_accounting_has_the_published_latency_and_traffic(preset: str, model: Make, design: Design) -> None:
    for name in ("BERT", "XLM"):
        physical, artifact = (design(preset).plan(model(name, 4 * K), how) for how in ("physical", "artifact"))
        assert physical.phases[0].analytical_cycles == pytest.approx(artifact.phases[0].analytical_cycles, rel=1e-12)
        assert physical.traffic == artifact.traffic


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mask": CAUSAL}, "a mask"),
        ({"h": 4, "g": 2}, "2 query heads"),
        ({"p": 512}, "512 queries on 1024 keys"),
        ({"m": 1000}, "no multiple of 256"),
    ],
)
def test_the_artifact_accounting_refuses_what_was_never_published(
    changes: dict[str, object], named: str, attention: Make, design: Design
) -> None:
    operation = attention(**{"m": 1024, **changes})
    with pytest.raises(CascadeSimError, match=named):
        design().plan(operation, "artifact")
