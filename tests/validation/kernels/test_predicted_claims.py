"""Committed predictions against records made up here."""

from __future__ import annotations

from typing import Any

import pytest

from cascadesim.validation.kernels.predicted_times import committed
from cascadesim.validation.kernels.record_claims import judged
from cascadesim.validation.kernels.record_lines import TIMES, fault
from cascadesim.validation.measure.cases import Case, cases

H100 = "NVIDIA H100 80GB HBM3"


def record(case: Case, factor: float, device: str = H100, **check: float | None) -> dict[str, Any]:
    """Every variant takes `factor` times what was predicted of it."""
    rows = {name: committed()[H100, case.suite, case.name, name] for name in case.variants}
    us = {name: factor * 1e6 * (row.seconds or 1e-3) for name, row in rows.items()}
    made = {"schema": TIMES, "suite": case.suite, "case": case.name, "device": {"name": device},
            "shape": dict(case.shape), "work": dict(case.work), "check": {**dict.fromkeys(us, 1e-4), **check},
            "timing": {name: {"cold": [each], "hot": [], "many": []} for name, each in us.items()}}  # fmt: skip
    return made


def named(name: str) -> Case:
    return next(case for case in cases() if case.name == name)


@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (1.3, True), (1.4, False), (0.75, False)])
def test_half_of_our_kernels_must_be_within_a_quarter(factor: float, holds: bool) -> None:
    """predicted / measured - 1: 1 / 1.3 is 23 % low, 1 / 1.4 29 %, 1 / 0.75 33 % high."""
    judging, library = judged("kernels-predicted", [record(named("B4 H16 L4096 D128"), factor)])
    assert judging.holds is holds
    assert [cell.row.text("kernel") for cell in judging.cells] == [
        "attention-1pass", "attention-2pass", "attention-3pass", "attention-3pass-stored", "attention-1pass, mma.sync",
    ]  # fmt: skip
    assert not library.judged
    assert len(library.cells) == 3


def test_wrong_results_are_left_out_and_so_is_what_was_not_predicted() -> None:
    case = named("2048 of 4096 tokens")
    (judging,) = judged("kernels-predicted", [record(case, 1.0, gathered=0.5, compaction=None)])
    assert [cell.row.text("kernel") for cell in judging.cells] == ["dense", "dense after compaction"]
    assert judged("kernels-predicted", [record(case, 1.0, device="NVIDIA Other")]) == ()


def test_a_launch_is_told_by_many_in_a_row() -> None:
    made = record(named("launch"), 5.0)
    made["timing"]["empty"]["many"] = [1.3]
    assert fault(made) is None
    (rates,) = judged("kernels-predicted", [made])
    measured = {cell.row.text("kernel"): cell.measured for cell in rates.cells}
    assert measured["empty"] == pytest.approx(1.3e-6)
    assert measured["empty, CUDA C++"] == pytest.approx(5 * 1.3e-6)


def test_the_commit_of_a_prediction_stands_beside_it() -> None:
    (rates,) = judged("kernels-predicted", [record(named("launch"), 1.0)])
    assert {cell.row.text("commit") for cell in rates.cells} == {row.commit for row in committed().values()}
