"""The one exception family of cascadesim: what a user can cause.

The command line turns each of these into one line on standard error and exit code 2. Everything else is a bug
and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CascadeSimError(Exception):
    """Something the user gave cannot be used: says what is wrong, what was given, what is allowed."""


class NotationError(CascadeSimError):
    """A cascade's text is wrong; the message shows the line and points at the column."""


class SpecError(CascadeSimError):
    """A file or a setting holds wrong values; all problems of one file are in one message."""


class UnknownNameError(CascadeSimError):
    """A name that is not in its catalogue."""

    def __init__(self, what: str, given: str, known: Iterable[str]) -> None:
        super().__init__(f"no {what} '{given}'{suggestion(given, known)}")


def suggestion(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, otherwise the list of what is known."""
    names = sorted(known)
    close = get_close_matches(given, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""
