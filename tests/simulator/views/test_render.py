"""Tables fit 80 columns, are plain when piped, and say what a reader asks first."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.simulator.report import EinsumTime, Report, Uncertainty
from cascadesim.simulator.simulate import simulate
from cascadesim.simulator.views.render import DETAILS, MORE, SCREEN, details, error_of, headline, print_reports

if TYPE_CHECKING:
    from conftest import Toy


def printed(*reports: Report) -> str:
    stream = io.StringIO()
    print_reports(reports, stream)
    return stream.getvalue()


def line(text: str, start: str) -> str:
    """The words of the first line that starts so, single-spaced."""
    return " ".join(next(row for row in text.splitlines() if row.startswith(start)).split())


def test_one_report_says_how_long_what_it_costs_and_what_bounds_it(toy: Toy, tiny: Workload) -> None:
    text = printed(*simulate(tiny, toy, scope="attention"))
    assert text.startswith("tiny on toy: prefill of 16 tokens x 2 sequences, one decoder layer's attention\n")
    assert line(text, "latency") == "latency 43 ns 43 cycles"
    assert line(text, "DRAM traffic") == "DRAM traffic 144 B 128 B read, 16 B written"
    assert line(text, "energy") == "energy 3 J 67% dram, 33% mac"
    assert line(text, "area") == "area 4.0 mm² 75% array, 25% buffer"
    assert line(text, "bound by") == "bound by array busy 93.0% of the time"  # 40 of 43 cycles
    assert line(text, "units") == "units busy: array 93.0%, dram 27.9%"
    assert line(text, "time") == "time QK 93.0%"


def test_the_cycle_level_explains_its_difference_to_the_closed_form(toy: Toy, tiny: Workload) -> None:
    text = " ".join(printed(*simulate(tiny, toy, scope="attention")).split())
    assert "cycle level +7.50% above a closed form of 40 cycles: fill 3, drain 0, waiting 0" in text
    assert "cycle level +" not in printed(*simulate(tiny, toy, scope="attention", fidelity="analytical"))


def test_a_model_lists_its_operations_and_tokens_per_second(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy)
    text = printed(report)
    assert "tokens/s" in text
    assert "first new token after" in text
    assert "attn_norm 7.7%, " in " ".join(text.split())  # 2 x 43 of 26 x 43 cycles, as others
    operations = "\n".join(details(report, "operations"))
    assert line(operations, "lm_head").startswith("lm_head 1 43")
    assert line(operations, "attention ").startswith("attention 2 86")


def test_details_have_every_unit_einsum_and_note_in_full(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    found = {what: "\n".join(details(report, what)) for what in DETAILS}
    assert line(found["units"], "array ").startswith("array 93.0% 0.0% 7.0% 46.5%")
    assert line(found["einsums"], "QK").startswith("QK array 160 mac 40 93.0%")
    assert "nothing that was published is compared" in found["error"]
    assert found["notes"].endswith("no notes")
    assert all(text.startswith(headline(report)) for text in found.values())


def test_an_answer_fits_a_terminal_of_24_lines(toy: Toy, tiny: Workload) -> None:
    """Notes that take too much of it are cut to a line each; `--show notes` has them."""
    (report,) = simulate(tiny, toy)
    long = replace(report, notes=tuple(f"{number} {'word ' * 60}" for number in range(5)))
    text = printed(long).splitlines()
    assert len(text) <= SCREEN
    assert text[-1] == MORE
    assert text[-2] == "3 more notes"
    assert text[-4].startswith("note: 0 word word")
    assert text[-4].endswith(" …")
    few = printed(replace(report, notes=("a " * 60,))).splitlines()
    assert "…" not in "".join(few)
    assert "4 word word" in "\n".join(details(long, "notes"))


def test_known_uncertainty_and_notes_are_shown(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    known = Uncertainty(0.03, "published calls of toys", 0.2, 13, True)
    text = " ".join(printed(replace(report, uncertainty=known, notes=("read this",))).split())
    assert "error 3% half of 13 published calls of toys were within 3%, nine of ten within 20%" in text
    assert "note: read this" in text


def test_an_error_that_does_not_hold_for_the_run_is_no_figure(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    outside = Uncertainty(0.03, "whole models are not validated; nearest: calls of toys", 0.2, 13, False)
    text = " ".join(printed(replace(report, uncertainty=outside)).split())
    assert "error unknown whole models are not validated; half of the nearest were within 3%, nine of ten" in text
    (_, words) = error_of(replace(report, uncertainty=outside))
    assert words.endswith("; nearest: calls of toys: half of 13 were within 3%, nine of ten within 20%")
    assert "error unknown nothing that was published is compared" in " ".join(printed(report).split())


def test_brackets_of_a_setting_are_no_markup(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    outside = Uncertainty(0.03, "measured without layers=[bold]", 0.2, 13, False)
    assert "measured without layers=[bold]" in " ".join(printed(replace(report, uncertainty=outside)).split())


def test_tables_of_several_runs_have_a_column_of_errors(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    known = replace(report, sequence_length=32, uncertainty=Uncertainty(0.03, "calls", 0.2, 13, True))
    outside = replace(report, sequence_length=64, uncertainty=Uncertainty(0.03, "calls", 0.2, 13, False))
    text = printed(report, known, outside)
    assert line(text, "32 tokens").split()[4:6] == ["3%,", "20%"]
    assert line(text, "64 tokens").split()[4] == line(text, "16 tokens").split()[4] == "unknown"
    assert "half, nine tenths of published calls" in text


def test_what_a_model_lacks_is_left_out(toy: Toy, tiny: Workload) -> None:
    (report,) = simulate(tiny, toy, scope="attention")
    text = printed(replace(report, energy_j=None, area_um2=None, bound_by=None))
    assert not {"energy", "area", "bound by"} & {row.split("  ")[0] for row in text.splitlines()}


def test_several_reports_are_compared_with_the_first_architecture(toy: Toy, tiny: Workload) -> None:
    (slow,) = simulate(tiny, replace(toy, clock_hz=5e8), scope="attention")
    (fast,) = simulate(tiny, replace(toy, name="faster"), scope="attention")
    text = printed(slow, fast)
    assert line(text, "toy") == "toy 86 ns unknown 1.00x 3 J 1.00 144 B array 93%"
    assert line(text, "faster") == "faster 43 ns unknown 2.00x 3 J 1.00 144 B array 93%"


def test_a_comparison_has_no_column_that_no_run_fills(toy: Toy, tiny: Workload) -> None:
    """GPUs have no energies; where one run has one, the others have a dash."""
    (slow,), (fast,) = (simulate(tiny, each, scope="attention") for each in (toy, replace(toy, name="faster")))
    without = [replace(report, energy_j=None) for report in (slow, fast)]
    text = printed(*without)
    assert "energy" not in text
    assert "ratio" not in text
    assert line(text, "faster") == "faster 43 ns unknown 1.00x 144 B array 93%"
    assert "energy" not in printed(*(replace(report, architecture="toy") for report in without))
    assert line(printed(slow, without[1]), "faster") == "faster 43 ns unknown 1.00x – – 144 B array 93%"


def test_lengths_of_one_architecture_are_rows(toy: Toy, tiny: Workload) -> None:
    reports = [simulate(tiny, toy, sequence_length=length)[0] for length in (16, 1024)]
    text = printed(*reports)
    assert line(text, "16 tokens").split()[2:4] == ["1.118", "µs"]  # 26 operations x 43 ns
    assert line(text, "1K tokens")


@pytest.mark.parametrize("scope", ["attention", "linear", "model"])
def test_no_line_is_wider_than_80_columns_or_ends_in_blanks(toy: Toy, two_kinds: Workload, scope: str) -> None:
    reports = simulate(two_kinds, replace(toy, name="a-name-of-20-letters"), scope=scope)  # type: ignore[arg-type]
    other = simulate(two_kinds, toy, scope=scope)  # type: ignore[arg-type]
    for text in (*map(printed, reports), printed(*reports, *other), printed(*reports)):
        assert all(len(row) <= 80 and row == row.rstrip() for row in text.splitlines())
        assert "\x1b" not in text


def test_work_of_equal_counts_is_said_once() -> None:
    from cascadesim.simulator.views.render import work

    assert work(EinsumTime("SLN", "a", "u", {"exp": 805_000_000, "add": 805_000_000}, 1, 1.0, 1.0)) == "805 M exp, add"
    assert work(EinsumTime("Y", "a", "u", {"add": 1000, "mac": 2000}, 1, 1.0, 1.0)) == "1 k add + 2 k mac"
