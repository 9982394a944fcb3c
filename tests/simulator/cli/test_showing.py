"""`show`: fields with values, units and sources; texts; what is not read; every name that `list` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cascadesim.simulator.cli.options import entries_of
from cascadesim.simulator.cli.showing import SHOWN, lines_of

if TYPE_CHECKING:
    from conftest import Run


def test_an_architecture_has_values_units_and_sources(run: Run) -> None:
    code, out, error = run.cascadesim("show", "h100-sxm")
    assert (code, error) == (0, "")
    can, cannot = out.split("not read by the model, so that setting them is refused:")
    words = {line.split()[0]: line.split()[1:] for line in can.splitlines() if line}
    assert words["dram_bytes"] == ["80_000_000_000", "B", "datasheet,", "80", "GB", "HBM3"]
    assert words["measured.launch_graph_s"][:2] == ["1.3e-06", "s"]
    assert words["types.kv"][:3] == ["none", "one", "of"]
    assert "GPUs have no energy model" in cannot
    assert "datasheet.power_w" not in words


def test_a_workload_has_its_parameters_and_alias(run: Run) -> None:
    _, out, _ = run.cascadesim("show", "llama")
    assert out.startswith("workload llama: decoder, 8,030,261,248 parameters\n")  # the published 8.03 G
    assert "attention.kv_heads" in out


def test_texts_are_what_can_be_typed_again(run: Run, tmp_path: Path) -> None:
    _, out, _ = run.cascadesim("show", "attention-3pass")
    body = out.split("\n\n")[1]
    path = tmp_path / "mine.cascade"
    path.write_text(body)
    assert run.cascadesim("passes", str(path), "--format", "json")[0] == 0
    assert "overlap pipeline" in run.cascadesim("show", "fusemax")[1]


def test_a_name_of_two_things_shows_both(run: Run) -> None:
    _, out, _ = run.cascadesim("show", "fusemax")
    assert [line for line in out.splitlines() if line.startswith(("architecture fusemax:", "mapping fusemax:"))]
    assert "\n\nmapping fusemax: for attention-1pass\n" in out


def test_a_pattern_says_what_to_type(run: Run) -> None:
    _, out, _ = run.cascadesim("show", "moba")
    assert [line.split() for line in out.splitlines()[2:6]] == [
        ["field", "value"], ["head_dim", "N"], ["block", "512"], ["kept", "2"]]  # fmt: skip
    typed = out.rpartition("--pattern ")[2].strip().rstrip("`").replace("head_dim=N", "head_dim=128")
    code, _, error = run.cascadesim("gna", "--layout", "4096", "--q-tile", "128", "--kv-tile", "128",
                                    "--pattern", typed)  # fmt: skip
    assert (code, error) == (0, "")


def test_files_are_shown_as_what_they_hold(run: Run, tmp_path: Path) -> None:
    examples = Path(__file__).parents[3] / "examples"
    assert run.cascadesim("show", str(examples / "own_array" / "array.yaml"))[1].startswith("architecture ")
    assert run.cascadesim("show", str(examples / "log-sum-exp.cascade"))[1].startswith("cascade ")
    code, _, error = run.cascadesim("show", str(tmp_path / "none.yaml"))
    assert (code, error.count("\n")) == (2, 1)


@pytest.mark.slow
def test_every_name_of_every_section_can_be_shown() -> None:
    for section in SHOWN:
        for name, _ in entries_of(section):
            lines = list(lines_of(name))
            assert len(lines) >= 4, name
            assert any(section[:-1] in line for line in lines), name
