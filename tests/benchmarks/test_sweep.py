"""The evaluation of the FuseMax paper in one process: 5 designs x 4 models x 6 lengths x 2 scopes x 2 fidelities."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, cast

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import Scope, load_workload
from cascadesim.simulator import execution
from cascadesim.simulator import simulate as pipeline
from cascadesim.simulator.request import Fidelity

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ARCHITECTURES = ("unfused", "flat", "fusemax-cascade", "fusemax-architecture", "fusemax")
WORKLOADS = ("bert", "trxl", "t5", "xlm")
LENGTHS = tuple(1024 * 4**step for step in range(6))


def forget() -> None:
    execution._execution.cache_clear()
    execution._plan.cache_clear()


def test_the_whole_evaluation(benchmark: BenchmarkFixture) -> None:
    designs = [catalogue.load(name) for name in ARCHITECTURES]
    models = [load_workload(name) for name in WORKLOADS]

    def sweep() -> int:
        found = (
            pipeline.simulate(model, design, sequence_length=length, scope=cast(Scope, scope),
                              fidelity=cast(Fidelity, fidelity))
            for scope, fidelity, model, length, design in product(
                ("attention", "linear"), ("analytical", "cycle"), models, LENGTHS, designs)
        )
        return sum(map(len, found))

    assert benchmark.pedantic(sweep, setup=forget, rounds=1) == 480


def test_a_million_tokens_at_cycle_level(benchmark: BenchmarkFixture) -> None:
    design, model = catalogue.load("fusemax"), load_workload("bert")
    pipeline.simulate(model, design, sequence_length=1024, scope="attention")  # the engine is compiled

    def run() -> int:
        (report,) = pipeline.simulate(model, design, sequence_length=2**20, scope="attention")
        return report.cycles

    assert benchmark.pedantic(run, setup=forget, rounds=3) > 0
