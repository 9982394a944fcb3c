"""The README's tables: the errors that the suites find today, the speed of the run that is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation import tool_speed
from cascadesim.validation.cli import verdicts_of
from cascadesim.validation.readme import ERRORS, SPEED, main, markdown, marks, with_table

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = marks(ERRORS)


def test_the_table_replaces_what_is_between_the_marks() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert with_table(with_table(text, "new"), "new") == with_table(text, "new")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_file_without_exactly_one_pair_of_marks_is_refused(text: str) -> None:
    with pytest.raises(CascadeSimError, match="expected one line"):
        with_table(text, "new")


def test_each_table_has_marks_of_its_own() -> None:
    first, last = marks(SPEED)
    text = f"{BEGIN}\nerrors\n{END}\n{first}\nold\n{last}\n"
    assert with_table(text, "new", SPEED) == f"{BEGIN}\nerrors\n{END}\n{first}\nnew\n{last}\n"


def test_the_readme_has_the_stored_speeds() -> None:
    """If not: python -m cascadesim.validation.readme README.md"""
    text = README.read_text(encoding="utf-8")
    assert with_table(text, tool_speed.markdown(tool_speed.stored()), SPEED) == text


@pytest.mark.slow
def test_the_readme_is_up_to_date() -> None:
    """If not: python -m cascadesim.validation.readme README.md"""
    text = README.read_text(encoding="utf-8")
    assert with_table(text, markdown(verdicts_of(()))) == text


def test_a_file_that_cannot_be_rewritten_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["absent.md"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
