"""The picture of a cascade: every Einsum in the row of its pass, every dependence with its tensor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascadesim.einsum_cascades.analysis.footprint import analyse
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.views.graph_plot import draw

TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
PLACED = re.compile(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>')


def drawn(name: str, target: Path) -> str:
    found = analyse(find(name))
    draw(found.cascade, found.main, target)
    return target.read_text(encoding="utf-8")


def heights(svg: str) -> dict[str, float]:
    """Text -> distance from the top of the picture."""
    return {text: float(y) for y, text in PLACED.findall(svg)}


def test_einsums_stand_in_the_rows_of_their_passes(tmp_path: Path) -> None:
    places = heights(drawn("softmax", tmp_path / "softmax.svg"))
    assert places["GM[r]"] < places["SN[r,d]"] == places["SD[r]"] < places["Y[r,d]"]


def test_every_dependence_is_an_arrow_with_its_tensor(tmp_path: Path) -> None:
    texts = TEXT.findall(drawn("attention-1pass", tmp_path / "one.svg"))
    assert {"BK", "QK", "LM", "SLNV", "RM (m1-1)", "RD (m1-1)", "RNV (m1-1)", "pass 1"} <= set(texts)
    assert texts.count("QK") == 2  # the maximum and the exponentials read it
    assert [text for text in texts if text.startswith("RM[")] == ["RM[h,0,p]", "RM[h,m1+1,p]"]


@pytest.mark.slow
def test_equal_cascades_give_equal_files(tmp_path: Path) -> None:
    assert drawn("attention-2pass", tmp_path / "a.svg") == drawn("attention-2pass", tmp_path / "b.svg")


@pytest.mark.slow
def test_single_numbers_and_long_cascades_can_be_drawn(tmp_path: Path) -> None:
    for number, text in enumerate(("Y = A[] + B[]", "\n".join(f"T{n + 1}[i] = T{n}[i]" for n in range(100)))):
        found = analyse(cascade("mine", text))
        draw(found.cascade, found.main, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_draws_beside_its_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "graph.svg"
    assert exit_code(cascadesim, "cascadesim", ("passes", "softmax", "--plot", str(target))) == 0
    assert "3-pass over d" in capsys.readouterr().out
    assert "SN[r,d]" in target.read_text(encoding="utf-8")
    assert exit_code(cascadesim, "cascadesim", ("passes", "softmax", "--plot", "graph.pdf")) == 2
    assert capsys.readouterr().err.count("\n") == 1
