"""How errors and verdicts are worded, for people and for programs."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.claim import Cell, Claim, Errors, Verdict
from cascadesim.validation.render import document, draw, error, outcome, print_table, summary, tolerance
from cascadesim.validation.table import Row

ROW = Row((("architecture", "fusemax"), ("sequence_length", 65536)), "rows.csv", 7)
HELD = Verdict(
    "toy", Claim("latency", "latency_s", 0.01, "a reason"), "rows.csv", Errors(1, 1, 0.002, 0.002, 0.002, 0.002),
    Cell(ROW, "latency_s", 1.0, 1.002), (), (Cell(ROW, "latency_s", 1.0, 1.002),),
)  # fmt: skip
UNKNOWN = Errors(1, 1, math.inf, math.inf, math.inf, math.inf)
FAILED = replace(HELD, errors=UNKNOWN, worst=Cell(ROW, "latency_s", 1.0, None))
REPORTED = replace(HELD, claim=replace(HELD.claim, tolerance=None))


@pytest.mark.parametrize(
    ("relative", "words"),
    [(0.0, "0"), (2.2e-16, "<1e-12"), (4.3e-9, "4.3e-09"), (0.0057, "0.57%"), (0.5, "50.00%"), (math.inf, "∞")],
)
def test_an_error_is_worded_by_its_size(relative: float, words: str) -> None:
    assert error(relative) == words


def test_a_verdict_holds_fails_or_is_reported() -> None:
    assert [outcome(verdict) for verdict in (HELD, FAILED, REPORTED)] == ["yes", "NO", "reported"]
    assert [tolerance(verdict) for verdict in (HELD, REPORTED)] == ["1%", "–"]
    assert summary([HELD, FAILED, REPORTED]) == "1 of 2 claims hold; 1 more comparisons are reported only"


def test_the_table_says_where_it_is_worst() -> None:
    stream = io.StringIO()
    print_table([HELD], stream)
    assert "fusemax 64K (latency_s, line 7)" in stream.getvalue()


def test_claims_have_room_beside_their_figures() -> None:
    """In 80 columns a gate of many words takes two lines, and no word of a claim is broken."""
    long = Claim("fusemax-architecture: latency against +Architecture", "latency_s", 0.1, "a reason", gate="ranking")
    stream = io.StringIO()
    print_table([replace(HELD, claim=long, figures={"ranking": 0.07})], stream)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert any("fusemax-architecture:" in line for line in lines)
    assert any(line.endswith("is 0.07") for line in lines)


def test_what_was_not_predicted_is_null_in_json() -> None:
    (claim,) = json.loads(json.dumps(document([FAILED]), allow_nan=False))["claims"]
    assert claim["max_abs_relative_error"] is None
    assert claim["worst"]["predicted"] is None
    assert claim["holds"] is False


def test_a_picture_has_a_panel_for_each_suite_that_has_figures_to_show(tmp_path: Path) -> None:
    assert draw([HELD, replace(HELD, suite="other"), REPORTED], tmp_path / "two.svg") == 2
    nothing = replace(FAILED, cells=(Cell(ROW, "latency_s", 1.0, None),))
    assert draw([HELD, replace(nothing, suite="empty")], tmp_path / "one.svg") == 1
    with pytest.raises(CascadeSimError, match="to draw"):
        draw([nothing], tmp_path / "none.svg")
