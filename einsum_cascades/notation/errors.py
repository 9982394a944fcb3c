"""The one exception family of cascadesim: what a user can cause, in a message that a terminal can show.

The command line turns each of these into one line on standard error and exit code 2. Everything else is a bug
and keeps its traceback. Whatever was given is repeated shortened and without control characters, here and nowhere
else: as text an error holds at most LONGEST_MESSAGE characters, and says how many problems it leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST_MESSAGE = 300  # characters, line ends included
_LONGEST_SHOWN = 60  # of a value that is repeated
_EXCERPT = 70  # of a line around the place of a problem
_LONGEST_LIST = 160  # of the known names
_LONGEST_NAME = 100  # of a name that is compared with known ones, which takes its length squared
_COUNT = len("\n... and 999,999,999 more problems")


class CascadeSimError(Exception):
    """Something the user gave cannot be used: says what is wrong, what was given, what is allowed.

    `message`: one problem a line; lines that begin with a space belong to the one above (an excerpt, a caret).
    `further`: problems besides those of the message. As text it shows the first few and counts the others;
    `problems` has all that the message had, each within LONGEST_MESSAGE.
    """

    def __init__(self, message: str, further: int = 0) -> None:
        lines = "\n".join(map(visible, message.split("\n")))
        self.problems = tuple(_cut(problem, LONGEST_MESSAGE - _COUNT) for problem in re.split(r"\n(?! )", lines))
        super().__init__(_summary(self.problems, further))


class NotationError(CascadeSimError):
    """A cascade's text is wrong; the message shows the line and points at the column."""


class SpecError(CascadeSimError):
    """A file or a setting holds wrong values; the problems of one file are in one message."""


class UnknownNameError(CascadeSimError):
    """A name that is not in its catalogue."""

    def __init__(self, what: str, given: str, known: Iterable[str]) -> None:
        meant = suggestion(given, known)
        more = "; `cascadesim list` names all" if meant.endswith(" more") else ""
        super().__init__(f"no {what} '{shortened(given)}'{meant}{more}")

    def __reduce__(self) -> tuple[type[CascadeSimError], tuple[str]]:
        """What goes from process to process is the message."""
        return CascadeSimError, (str(self),)


def suggestion(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, capitals or not; otherwise the list of what is known."""
    names = sorted(known)
    spelt = {name.lower(): name for name in reversed(names)}
    close = get_close_matches(given[:_LONGEST_NAME].lower(), spelt, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{shortened(spelt[close[0]])}'?"
    return f"; known: {listed(names)}" if names else ""


def listed(names: Iterable[str], longest: int = _LONGEST_LIST) -> str:
    """Names separated by commas; of a long list the first ones, and how many more there are."""
    given = list(names)
    first: list[str] = []
    while len(first) < len(given) and len(", ".join([*first, given[len(first)]])) <= longest:
        first.append(given[len(first)])
    first = first or [shortened(name) for name in given[:1]]
    more = len(given) - len(first)
    return ", ".join(first) + (f" ... and {more:,} more" if more else "")


def shortened(text: str, longest: int = _LONGEST_SHOWN) -> str:
    """What a user gave as an error repeats it: its beginning, on one line, control characters as escapes."""
    start = visible(text[: longest + 1])
    return start if len(start) <= longest and len(text) <= longest else f"{start[:longest]}..."


def shown(value: object) -> str:
    """A wrong value as an error repeats it: texts in quotes."""
    if isinstance(value, str):
        return f"'{shortened(value)}'"
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # Python refuses to print an integer of thousands of digits
        return "a value too long to print"


def excerpt(line: str, column: int) -> str:
    """Two indented lines that follow a problem: the part of `line` around `column`, and a caret under it."""
    tidy = "".join(each if each.isprintable() else " " for each in line)
    start = len(line) - len(line.lstrip()) if len(line.strip()) <= _EXCERPT else max(column - _EXCERPT // 2, 0)
    return f"\n    {tidy[start : start + _EXCERPT].rstrip()}\n    {' ' * (column - start)}^"


def visible(text: str) -> str:
    """`text` with what no terminal should get (escape, line ends, marks of direction) written as Python escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def bounded(message: str) -> str:
    """A message of another family, such as the command line's own, held to the same limits."""
    return str(CascadeSimError(message))


def _summary(problems: Sequence[str], further: int) -> str:
    """The first problems, as many as go: later ones without their excerpts where that makes room."""
    first = [problems[0]]
    for number, problem in enumerate(problems[1:], start=2):
        room = LONGEST_MESSAGE - (_COUNT if len(problems) - number + further else 0) - len("\n".join([*first, ""]))
        fitting = [form for form in (problem, problem.split("\n", 1)[0]) if len(form) <= room]
        if not fitting:
            break
        first.append(fitting[0])
    more = len(problems) - len(first) + further
    return "\n".join([*first, *([f"... and {more:,} more problem{'s' * (more > 1)}"] if more else [])])


def _cut(problem: str, longest: int) -> str:
    """What is said stands at both ends of a line, what was given between them; an excerpt goes whole or not at all."""
    if len(problem) <= longest:
        return problem
    heading = problem.split("\n", 1)[0]
    if len(heading) <= longest:
        return heading
    end = (longest - len(" ... ")) // 2
    return f"{heading[:end]} ... {heading[-end:]}"
