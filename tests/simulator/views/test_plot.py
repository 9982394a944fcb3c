"""Figures: a panel for each question, every label in it, equal runs give equal files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.simulator.report import Report
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import reports, simulate
from cascadesim.simulator.views.plot import comparison_figure, draw, grid
from cascadesim.simulator.views.run_plot import single_figure

if TYPE_CHECKING:
    from conftest import Toy


@pytest.fixture
def sweep(toy: Toy, tiny: Workload, two_kinds: Workload) -> list[Report]:
    """Two architectures, two models (one with two kinds of layer), two lengths."""
    return [
        report
        for workload in (tiny, two_kinds)
        for length in (16, 1024)
        for name in ("toy", "other")
        for report in simulate(workload, replace(toy, name=name), sequence_length=length, scope="attention")
    ]


def test_one_report_shows_units_einsums_and_energy(toy: Toy, tiny: Workload) -> None:
    figure = single_figure(simulate(tiny, toy, scope="attention")[0])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Where every cycle of each unit went", "Activity by Einsum", "Energy by component: 3 J"]
    units = figure.axes[0]
    assert [text.get_text() for text in units.get_yticklabels()] == ["array", "dram"]
    assert units.patches[0].get_width() == 40 / 43  # type: ignore[attr-defined]


def test_a_sweep_has_a_column_for_each_model_and_kind_of_layer(sweep: list[Report]) -> None:
    figure = comparison_figure(sweep)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["tiny, decoder layer", "two-kinds, sliding layer", "two-kinds, global layer"]
    assert len(figure.axes) == 3 * 6 + 1  # utilisation and activity of two units, speedup, energy; latency/area
    (legend, einsums) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["toy", "other"]
    assert [text.get_text() for text in einsums.get_texts()] == ["QK", "load"]


@pytest.mark.slow
def test_layers_that_compare_with_nothing_have_no_column(sweep: list[Report]) -> None:
    """Layers that one architecture alone makes, on units of its own: only areas show them."""
    units = tuple(replace(unit, name=f"own {unit.name}") for unit in sweep[0].units)
    alone = replace(sweep[0], architecture="alone", layer="own", units=units)
    titles = [axes.get_title() for axes in comparison_figure([*sweep, alone]).axes if axes.get_title()]
    assert titles == [axes.get_title() for axes in comparison_figure(sweep).axes if axes.get_title()]


def test_a_panel_without_bars_says_so_and_keeps_the_label_of_its_row(sweep: list[Report]) -> None:
    """Energy of the first column is not modelled: no bar in the row's first panel, but for other columns."""
    first = [replace(report, energy_j=None) if report.workload == "tiny" else report for report in sweep]
    panels = comparison_figure(first).axes[15:18]
    assert panels[0].get_ylabel() == "energy relative\nto toy"
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [["nothing to show"], [], []]
    assert panels[0].axison


def test_the_baseline_is_unfused_where_there_is_one(toy: Toy, tiny: Workload) -> None:
    reports = [simulate(tiny, replace(toy, name=name))[0] for name in ("toy", "unfused")]
    assert grid(reports).baseline == "unfused"
    assert grid(reports[:1]).baseline == "toy"
    labels = [axes.get_ylabel() for axes in comparison_figure(reports).axes]
    assert "speedup over\nunfused" in labels
    faster = replace(reports[0], latency_s=reports[1].latency_s / 2)
    axes = comparison_figure([faster, reports[1]]).axes[labels.index("speedup over\nunfused")]
    assert [bar.get_height() for bar in axes.patches] == [2, 1]  # type: ignore[attr-defined]


def test_one_architecture_is_compared_over_lengths(toy: Toy, tiny: Workload) -> None:
    reports = [simulate(tiny, toy, sequence_length=length)[0] for length in (16, 1024)]
    labels = [axes.get_ylabel() for axes in comparison_figure(reports).axes]
    assert labels[-2:] == ["latency (ms)", "energy (J)"]


def test_what_a_machine_has_no_model_of_has_no_panel(sweep: list[Report]) -> None:
    bare = [replace(report, energy_j=None, area_um2=None) for report in sweep]
    comparison_figure(bare)
    assert [axes.get_title() for axes in single_figure(bare[0]).axes] == [
        "Where every cycle of each unit went", "Activity by Einsum"]  # fmt: skip


def test_a_whole_model_has_its_operations_in_milliseconds(toy: Toy, tiny: Workload) -> None:
    """26 operations of 43 ns; two layers make 2 x 43 ns of most."""
    panel = single_figure(simulate(tiny, toy)[0]).axes[1]
    assert (panel.get_title(), panel.get_xlabel()) == ("Time by operation", "time (ms)")
    assert panel.patches[0].get_width() == pytest.approx(2 * 43e-6)  # type: ignore[attr-defined]
    assert panel.texts[0].get_text() == "8.6e-05 ms (7.7%)"


@pytest.mark.slow
def test_the_roofline_has_a_dot_for_each_operation_that_uses_dram(tmp_path: Path) -> None:
    request = Request(load_workload("gpt-2-small"), load("fusemax"), 256, 1, fidelity="analytical")
    found = reports(request)
    panel = single_figure(found[0], request).axes[-1]
    assert panel.get_title() == "Roofline"
    assert len(panel.collections) == len({operation.name for operation in found[0].operations})
    assert draw(found, tmp_path / "one.svg", [request]) == 5
    assert draw(found, tmp_path / "one.svg") == 4


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_runs_give_equal_files(sweep: list[Report], tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        draw(sweep, tmp_path / f"{name}{suffix}")
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"b{suffix}").read_bytes()
    assert first.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


@pytest.mark.slow
def test_whatever_varies_is_the_axis(toy: Toy, tiny: Workload) -> None:
    """Phases and batches: a group of bars for each, no bar above another."""
    reports = [simulate(tiny, replace(toy, name=name), phase=phase, batch=batch)[0]
               for phase in ("prefill", "decode") for batch in (8, 1) for name in ("toy", "other")]  # fmt: skip
    axes = comparison_figure(reports).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "prefill\nx 1", "prefill\nx 8", "decode\nx 1", "decode\nx 8"]  # fmt: skip
    assert len({bar.get_x() for bar in axes.patches}) == len(axes.patches) == 8  # type: ignore[attr-defined]
    lengths = [simulate(tiny, toy, sequence_length=length)[0] for length in (16, 1024)]
    assert [tick.get_text() for tick in comparison_figure(lengths).axes[0].get_xticklabels()] == ["16", "1K"]


def test_no_panel_is_empty_where_nothing_has_energy_or_area(toy: Toy, tiny: Workload) -> None:
    reports = [replace(simulate(tiny, replace(toy, name=name))[0], energy_j=None, area_um2=None)
               for name in ("toy", "other")]  # fmt: skip
    panels = [axes for axes in comparison_figure(reports).axes if axes.axison]
    assert all(axes.patches for axes in panels)
    assert [panel.get_ylabel() for panel in panels[-2:]] == ["latency (ms)", "tokens/s"]


def test_the_unit_that_binds_is_shown(toy: Toy, tiny: Workload) -> None:
    report = simulate(tiny, toy)[0]
    third = replace(report.units[0], name="third")
    bound = replace(report, units=(*report.units, third), bound_by="third")
    assert "utilisation of\nthird" in [axes.get_ylabel() for axes in comparison_figure([bound, bound]).axes]


def test_the_number_of_panels_is_told(toy: Toy, tiny: Workload, tmp_path: Path) -> None:
    report = simulate(tiny, toy, scope="attention")[0]
    assert draw([report], tmp_path / "one.svg") == 3
    assert draw([replace(report, energy_j=None)], tmp_path / "two.svg") == 2
