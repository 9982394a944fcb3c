"""Design points per second of the vectorised closed form of FuseMax, beside the scalar plan in the same run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.closed_form import Points, evaluate
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

COUNT = 300_000
SCALAR_PLANS = 20


def designs() -> Points:
    """Sides of 16 to 512, buffers of 1 to 128 MiB, 50 to 4000 GB/s, 0.5 to 2 GHz; BERT's heads."""
    random = np.random.default_rng(0)
    side, length = 2 ** random.integers(4, 10, COUNT), 2 ** random.integers(10, 19, COUNT)
    buffer = 2 ** random.integers(20, 26, COUNT) * random.integers(1, 3, COUNT)
    bandwidth, clock = random.uniform(5e10, 4e12, COUNT), random.uniform(5e8, 2e9, COUNT)
    return Points(side, side, side, buffer, 2 * side, bandwidth, clock, 768, length, length, 64, 64)


def test_hundreds_of_thousands_of_design_points(benchmark: BenchmarkFixture) -> None:
    """`points_per_second` in the extra information; the ratio to scalar plans does not depend on the machine."""
    accelerator, points = cast(FuseMax, catalogue.load("fusemax")), designs()
    found = benchmark.pedantic(evaluate, (points, accelerator.spec, ATTENTION_1PASS), rounds=2)
    assert np.isfinite(found.cycles).all()
    vectorised_s = benchmark.stats.stats.min / COUNT
    ratio = scalar_seconds_per_plan(accelerator) / vectorised_s
    benchmark.extra_info["points_per_second"] = 1 / vectorised_s
    benchmark.extra_info["times_faster_than_scalar_plans"] = ratio
    assert ratio > 100


def scalar_seconds_per_plan(accelerator: FuseMax) -> float:
    sizes = (("b", 64), ("h", 12), ("g", 1), ("m", 4096), ("p", 4096), ("e", 64), ("f", 64))
    operation = Operation("attention", "attention", ATTENTION_1PASS, sizes)
    start = time.perf_counter()
    for _ in range(SCALAR_PLANS):
        accelerator.plan(operation, "physical")
    return (time.perf_counter() - start) / SCALAR_PLANS
