"""Which design: fronts that are exact, figures that are those of `simulate`, files that say what they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.explore import explore
from cascadesim.simulator.explore.models import ArchitectureModel
from cascadesim.simulator.explore.problem import SearchProblem, problem
from cascadesim.simulator.explore.space import space_from
from cascadesim.simulator.simulate import simulate

PUBLISHED = Path(__file__).parents[3] / "validation" / "published" / "fusemax-pareto.csv"
SMALL: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("small_space.yaml").read_text(encoding="utf-8"))


def small(**changes: object) -> SearchProblem:
    return problem(space_from({**SMALL, **changes}, "space"), "space")


def model(made: SearchProblem) -> ArchitectureModel:
    assert isinstance(made.model, ArchitectureModel)
    return made.model


@pytest.mark.slow
def test_a_small_space() -> None:
    frame = explore(SMALL, workers=1)
    assert frame.counts.designs == 3 * 2 * 2 * 3 * 4
    assert frame.counts.allowed == frame.counts.designs * 3 // 4  # of two by two, 32 lanes with 64 columns is out
    assert len(frame) > 3
    assert (np.diff(frame["latency_s"].astype(float)) >= 0).all()
    assert (frame["cycle_difference"].astype(float) >= 0).all()  # the closed form is a lower bound
    assert "pe_array." in repr(frame)  # long names are broken after their dots
    assert "bandwidth_" in repr(frame)


@pytest.mark.slow
def test_the_front_is_that_of_all_designs_one_by_one() -> None:
    """Planned one by one, each compared with every other one."""
    made = small()
    digits = made.digits_of(0, made.size)
    columns = made.columns(digits)
    costs = []
    for row in range(made.size):
        if columns["vector_array.lanes"][row] >= columns["pe_array.columns"][row]:
            point = {name: column[row].item() for name, column in columns.items()}
            figures = model(made)._figures(point)
            costs.append((figures[0], figures[1], figures[3]))
    beaten = [any(all(a <= b for a, b in zip(other, cost, strict=True)) and other != cost for other in costs)
              for cost in costs]
    expected = {cost for cost, out in zip(costs, beaten, strict=True) if not out and np.isfinite(cost[0])}
    frame = explore(SMALL, workers=1, cycle_level=False)
    found = list(zip(*(frame[name].tolist() for name in ("latency_s", "energy_j", "area_um2")), strict=True))
    assert len(found) == len(expected)
    assert np.array(sorted(found)) == pytest.approx(np.array(sorted(expected)), rel=1e-9)


def test_the_published_points_come_out_of_one_command() -> None:
    """FuseMax artifact, pareto.csv: latency and area of BERT at 256K for every side."""
    frame = explore("fusemax-front-256k-published", workers=1)
    found = {side: [row for row in frame.rows() if row["pe_array.rows"] == side] for side in (16, 32, 64, 256, 512)}
    with PUBLISHED.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(line for line in stream if not line.startswith("#"))
                if row["workload"] == "bert"]
    assert len(rows) == 5
    for row in rows:
        same = [design for design in found[int(row["pe_array_dim"])]
                if design["latency_s"] == pytest.approx(float(row["latency_s"]), rel=1e-9)
                and design["area_um2"] == pytest.approx(float(row["area_um2"]), rel=1e-9)
                and design["dram_bytes"] == pytest.approx(float(row["traffic_bytes"]), rel=1e-9)]
        assert len(same) == 1


DESIGN = st.fixed_dictionaries({
    "pe_array.rows": st.sampled_from([8, 32, 48]), "pe_array.columns": st.sampled_from([8, 32, 40]),
    "vector_array.lanes": st.sampled_from([8, 64]), "global_buffer.row_bytes": st.sampled_from([16, 4096]),
    "global_buffer.capacity_bytes": st.sampled_from([2048, 65_536, 2**20]),
    "global_buffer.ports": st.sampled_from([1, 4]), "pe_array.register_words_per_pe": st.sampled_from([12, 100]),
    "binding.policy": st.sampled_from(["epochs", "serial"]), "leakage_w_per_um2": st.sampled_from([0.0, 1e-8]),
    "clock_hz": st.sampled_from([9.4e8, 2.0e9]), "dram.bandwidth_bytes_per_s": st.sampled_from([1.0e9, 1.0e12]),
})  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(designs=st.lists(DESIGN, min_size=1, max_size=4), scope=st.sampled_from(["prefill", "decode"]))
def test_many_designs_at_once_have_the_figures_of_each_one(designs: list[dict[str, object]], scope: str) -> None:
    use = {"bert": "prefill", "llama-3.1-8b": "decode"}
    name = next(workload for workload, phase in use.items() if phase == scope)
    made = small(workloads=[{"workload": name, "scope": "attention", "phase": scope, "sequence_length": 1024,
                             "weight": 3.0}])
    assert model(made).is_vectorised
    columns = {field: np.array([design[field] for design in designs]) for field in designs[0]}
    found = model(made).quantities(columns)
    for row, design in enumerate(designs):
        expected = model(made)._figures(design)
        for quantity, value in zip(("latency_s", "energy_j", "dram_bytes", "area_um2"), expected, strict=True):
            if np.isfinite(expected[0]):
                assert found[quantity][row] == pytest.approx(value, rel=1e-9)
            else:
                assert np.isnan(found[quantity][row])


def test_work_that_has_no_vectorised_form_is_planned_one_by_one() -> None:
    """A causal prompt and its first token: weighted sums of what `simulate` says; tokens per second of both."""
    made = small(workloads=[{"workload": "gpt-2-small", "sequence_length": 256},
                            {"workload": "gpt-2-small", "sequence_length": 256, "phase": "decode", "weight": 10}])
    assert not model(made).is_vectorised
    found = made.figures(made.digits_of(5, 6))
    changes = [f"{name}={column[0]}" for name, column in made.columns(made.digits_of(5, 6)).items()]
    accelerator = catalogue.load("fusemax", changes)
    workload = load_workload("gpt-2-small")
    (prompt,) = simulate(workload, accelerator, sequence_length=256, fidelity="analytical")
    (token,) = simulate(workload, accelerator, sequence_length=256, phase="decode", fidelity="analytical")
    latency_s = prompt.latency_s + 10 * token.latency_s
    assert found["latency_s"][0] == pytest.approx(latency_s)
    assert found["tokens_per_s"][0] == pytest.approx((256 + 10) * workload.batch / latency_s)
    assert found["energy_delay_j_s"][0] == pytest.approx(found["energy_j"][0] * latency_s)


@pytest.mark.parametrize("architecture", ["flat", "unfused", "fusemax-architecture"])
def test_any_architecture_can_be_explored(architecture: str) -> None:
    frame = explore({**SMALL, "architecture": architecture, "conditions": [], "derive": {},
                     "vary": {"clock_hz": [9.4e8, 1.2e9]}, "objectives": ["latency_s"]}, workers=1)
    assert frame["clock_hz"].tolist() == [1.2e9]
    assert [reference.name for reference in frame.references if reference.name == architecture]


def test_cycle_level_fronts_are_exact() -> None:
    """Every design simulated, compared with the few that the refinement simulates; a constraint on top."""
    changes: dict[str, Any] = {
        "vary": {**SMALL["vary"], "dram.bandwidth_bytes_per_s": [1.0e10], "vector_array.lanes": [64]},
        "constraints": ["latency_s <= 2"], "objectives": ["latency_s", "area_mm2"],
    }  # fmt: skip
    made = small(**changes)
    columns = made.columns(made.digits_of(0, made.size))
    every = []
    for row in range(made.size):
        figures = model(made)._figures({name: column[row].item() for name, column in columns.items()}, "cycle")
        every.append((figures[0], figures[3] * 1e-6))
    good = [cost for cost in every if cost[0] <= 2]
    expected = sorted(cost for cost in set(good) if not any(a <= cost[0] and b <= cost[1] and (a, b) != cost
                                                            for a, b in good))
    frame = explore({**SMALL, **changes, "search": {"fidelity": "cycle"}}, workers=1)
    found = list(zip(frame["latency_s"].tolist(), frame["area_mm2"].tolist(), strict=True))
    assert np.array(sorted(found)) == pytest.approx(np.array(expected))
    assert 0 < len(expected) < len(good) < made.size


@pytest.mark.slow
def test_a_tolerance_simulates_less_and_misses_no_more_than_it_says() -> None:
    found, simulated = [], []
    for tolerance in (0.0, 0.1):
        seen: list[tuple[int, int]] = []
        search = {"fidelity": "cycle", "tolerance": tolerance}
        frame = explore({**SMALL, "objectives": ["latency_s", "area_mm2"], "search": search}, workers=1,
                        watches={"refining": lambda *counts, seen=seen: seen.append(counts)})
        found.append(np.stack([frame["latency_s"], frame["area_mm2"]], axis=1).astype(np.float64))
        simulated.append(seen[-1][0])
    exact, near = found
    assert simulated[1] <= simulated[0] < 108  # designs that hold the conditions
    assert all((near * 0.9 <= best).all(axis=1).any() for best in exact)


def test_whole_numbers_among_fractions_are_whole() -> None:
    """64 / 1.5 rows are no array; 96 / 1.5 = 64 rows are, design by design and in one pass."""
    changes: dict[str, Any] = {"vary": {"side": [64, 96]}, "derive": {"pe_array.rows": "side / 1.5"}, "conditions": []}
    for workload in ("bert", "gpt-2-small"):
        uses = [{"workload": workload, "scope": "attention", "sequence_length": 256}]
        frame = explore({**SMALL, **changes, "workloads": uses}, workers=1)
        assert frame["pe_array.rows"].tolist() == [64]


def test_constraints_hold_of_every_design_found() -> None:
    frame = explore({**SMALL, "constraints": ["area_mm2 <= 40", "power_w < 5"]}, workers=1, cycle_level=False)
    assert (frame["area_mm2"].astype(float) <= 40).all()
    assert (frame["power_w"].astype(float) < 5).all()
    assert frame.counts.good < frame.counts.possible


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditions": ["pe_array.rows > 1000"]}, "none of 144 designs holds the conditions"),
        ({"constraints": ["area_um2 < 1"]}, "holds the constraints"),
        ({"vary": {"global_buffer.capacity_bytes": [512]}, "conditions": [], "derive": {}}, "hold no query tile"),
        ({"search": {"fidelity": "cycle"}, "objectives": ["power_w"]}, "gets better the longer a run takes"),
        ({"vary": {f"pe_array.{name}": {"range": [1, 100_000, 1]} for name in ("rows", "columns")}, "conditions": []},
         "too many to look at each"),
        ({"architecture": "h100-sxm", "vary": {"sms": [100, 132]}, "conditions": [], "derive": {}},
         "the model has no energy_j, area_um2 for it"),
        ({"architecture": "spatten-behavioural", "vary": {"clock_hz": [1e9, 2e9]}, "conditions": [], "derive": {},
          "objectives": ["latency_s"], "search": {"fidelity": "cycle"}}, "no design can be simulated at cycle level"),
        ({"vary": {"clock_hz": ["fast"]}, "conditions": [], "derive": {}}, "clock_hz: should be a valid number"),
        ({"derive": {"global_buffer.row_bytes": "pe_array.rows / (pe_array.rows - 64)"}, "conditions": []},
         "derive.global_buffer.row_bytes: is inf where pe_array.rows=64; a condition may leave such designs out"),
        ({"derive": {"global_buffer.row_bytes": "pe_array.rows * 2 ** 99"}, "conditions": []},
         r"is 2.02824e\+31 where"),
        ({"derive": {"name": "'a' if pe_array.rows > 64 else 'b'"}, "objectives": ["name"]}, "no objective 'name'"),
        ({"conditions": ["'text'"]}, "conditions.0: is a text; give what is true or false"),
        ({"vary": {"architecture": ["flat", "fusemax"]}}, "vary.architecture: no such field"),
        ({"set": {"architecture": "flat"}}, "set.architecture: no such field of fusemax"),
        ({"set": {"pe_array.rows": 10**320}}, "pe_array.rows: should be less than or equal to 4611686018427387904"),
    ],
)  # fmt: skip
def test_a_space_without_an_answer_says_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        explore({**SMALL, **changes}, workers=1)


def test_elasticities_of_what_is_known() -> None:
    """Where the arrays are the bound, latency goes as 1 / clock; area does not depend on the clock."""
    frame = explore({**SMALL, "vary": {"clock_hz": [1.0e8, 1.1e8]}, "conditions": [], "derive": {}}, workers=1)
    assert frame.elasticities["clock_hz", "latency_s"] == pytest.approx((-1, -1, -1))
    assert frame.elasticities["clock_hz", "area_um2"] == pytest.approx((0, 0, 0))


@pytest.mark.parametrize(("target", "message"), [("a.txt", "ends in .parquet or .csv"), ("no/a.csv", "no folder")])
def test_outputs_that_cannot_be_are_refused_before_the_work(target: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CascadeSimError, match=message):
        explore(SMALL, output=tmp_path / target)
