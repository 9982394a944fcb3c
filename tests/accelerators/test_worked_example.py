"""The worked example of the docs: a folder of its own makes a new accelerator, found, checked and simulated."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascadesim import accelerators
from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import Accelerator, problems
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.simulate import simulate

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def array(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """As if the folder lay in `accelerators/`."""
    monkeypatch.setattr(catalogue, "ROOT", EXAMPLES)
    monkeypatch.setattr(accelerators, "__path__", [*accelerators.__path__, str(EXAMPLES)])
    catalogue.presets.cache_clear()
    yield catalogue.load("weight-stationary")
    catalogue.presets.cache_clear()
    for name in [name for name in sys.modules if name.startswith("cascadesim.accelerators.weight_stationary")]:
        del sys.modules[name]


def attention(cascade: str, queries: int = 128, keys: int = 256) -> Operation:
    sizes = (("b", 2), ("h", 3), ("g", 1), ("m", keys), ("p", queries), ("e", 64), ("f", 64))
    return Operation("attention", "attention", find(cascade), sizes)


def test_it_is_one_folder_of_at_most_150_lines() -> None:
    files = [path for path in (EXAMPLES / "weight_stationary").rglob("*") if path.suffix in (".py", ".yaml")]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 150


def test_scores_take_a_tile_of_weights_and_the_stream_of_queries(array: Accelerator) -> None:
    """64 x 64 of K stay: 256 keys are 4 tiles for each of 2 x 3 heads; 64 in, 128 queries past, 128 to drain."""
    scores = array.plan(attention("attention-3pass"), "physical").phases[0]
    assert scores.activities[0].cycles == 2 * 3 * 4 * (64 + 128 + 128)
    assert scores.traffic.read_bytes == 2 * 2 * 3 * 64 * (4 * 128 + 256)  # queries once for each tile of keys


@pytest.mark.parametrize("cascade", ["attention-3pass", "attention-3pass-deferred", "attention-3pass-causal"])
def test_its_plans_keep_what_every_plan_keeps(cascade: str, array: Accelerator) -> None:
    assert list(problems(array.plan(attention(cascade), "physical"), array)) == []


def test_what_it_does_not_run_it_refuses(array: Accelerator) -> None:
    with pytest.raises(CascadeSimError, match=r"walks m[01]; this array runs texts without tiles"):
        array.plan(attention("attention-1pass"), "physical")


@pytest.mark.parametrize("fidelity", ["analytical", "cycle"])
def test_a_whole_model_runs_on_it(fidelity: str, array: Accelerator) -> None:
    (report,) = simulate(load_workload("bert"), array, sequence_length=256, fidelity=fidelity)  # type: ignore[arg-type]
    assert report.latency_s > 0
    assert {unit.name for unit in report.units} == {"array", "vector", "dram"}
