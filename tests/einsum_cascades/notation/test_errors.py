"""One family of errors, one line each, with the name that was meant where there is one."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import (
    LONGEST_MESSAGE,
    CascadeSimError,
    NotationError,
    SpecError,
    UnknownNameError,
    bounded,
    excerpt,
    listed,
    shortened,
    shown,
    suggestion,
)


def test_a_close_name_is_suggested() -> None:
    error = UnknownNameError("architecture", "fusmax", ("flat", "fusemax", "unfused"))
    assert str(error) == "no architecture 'fusmax'; did you mean 'fusemax'?"


def test_without_a_close_name_all_known_ones_are_listed_in_order() -> None:
    assert suggestion("zzz", ("flat", "bert")) == "; known: bert, flat"
    assert suggestion("zzz", ()) == ""


@pytest.mark.parametrize("error", [NotationError, SpecError, UnknownNameError])
def test_every_error_of_ours_is_of_one_family(error: type[Exception]) -> None:
    assert issubclass(error, CascadeSimError)


def test_a_short_message_stays_as_it_is() -> None:
    message = "mine, line 1: syntax\n    A[i] = \n          ^\nmine, line 2: syntax"
    assert str(NotationError(message)) == message
    assert NotationError(message).problems == (message.rpartition("\n")[0], "mine, line 2: syntax")


def test_of_twenty_thousand_problems_the_first_are_shown_and_all_are_counted() -> None:
    error = SpecError("\n".join(f"space.yaml: field_{number}: unknown field" for number in range(20_000)))
    first, *_, last = str(error).splitlines()
    assert first == "space.yaml: field_0: unknown field"
    assert last == f"... and {20_000 - (len(str(error).splitlines()) - 1):,} more problems"
    assert len(error.problems) == 20_000


def test_problems_that_are_only_counted_count() -> None:
    assert str(SpecError("one", further=19_999)) == "one\n... and 19,999 more problems"
    assert str(SpecError("one", further=1)) == "one\n... and 1 more problem"


def test_later_problems_lose_their_excerpts_before_they_are_left_out() -> None:
    part = "mine, line {}: " + "x" * 40 + "\n    " + "y" * 50 + "\n    ^"
    shown_lines = str(NotationError("\n".join(part.format(number) for number in (1, 2, 3)))).splitlines()
    assert [line[:12] for line in shown_lines if not line.startswith(" ")] == [f"mine, line {n}" for n in (1, 2, 3)]
    assert len([line for line in shown_lines if line.endswith("^")]) == 2


def test_a_long_line_keeps_both_of_its_ends() -> None:
    """What is wrong stands in front, what is allowed at the end, what was given between them."""
    message = str(SpecError(f"file.yaml: field: should be a number (got {'9' * 5000}); write 12"))
    assert message.startswith("file.yaml: field: should be a number (got 999")
    assert message.endswith("999); write 12")
    assert " ... " in message


def test_no_message_commands_a_terminal() -> None:
    assert str(CascadeSimError("a\x1b[31mred\x07\u202e")) == "a\\x1b[31mred\\x07\\u202e"
    assert str(UnknownNameError("suite", "a\nb", ())) == "no suite 'a\\nb'"
    assert bounded("\udc80") == "\\udc80"


@given(st.text(max_size=1000), st.integers(0, 10**6), st.booleans())
def test_every_message_fits_a_terminal(text: str, further: int, lines: bool) -> None:
    error = CascadeSimError(text if lines else text.replace("\n", " "), further)
    for message in (str(error), *error.problems):
        assert len(message) <= LONGEST_MESSAGE
        assert message.replace("\n", "").isprintable()
    assert bounded(str(error)) == str(error)


@pytest.mark.parametrize("error", [SpecError("a\nb", further=3), UnknownNameError("suite", "flta", ("flat",))])
def test_errors_come_back_from_worker_processes(error: CascadeSimError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, CascadeSimError)
    assert str(again) == str(error)


def test_what_was_given_is_repeated_shortened() -> None:
    assert (shortened("x" * 60), shortened("x" * 61)) == ("x" * 60, "x" * 60 + "...")
    assert (shown("it"), shown(12), shown(10**5000)) == ("'it'", "12", "a value too long to print")
    assert listed(f"name{number:04}" for number in range(1000)).endswith(" ... and 984 more")  # 16 of 8 and a separator
    assert listed(["y" * 500]) == "y" * 60 + "..."


def test_an_excerpt_is_where_the_problem_is() -> None:
    assert excerpt("  A[i] = B", 7) == "\n    A[i] = B\n         ^"
    _, line, caret = excerpt("a" * 1000 + "!" + "b" * 1000, 1000).split("\n")
    assert line[caret.index("^")] == "!"
    assert len(line) < 80
