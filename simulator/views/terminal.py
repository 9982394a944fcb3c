"""Where text leaves the program: standard streams in whatever state the shell left them, width, harmless characters.

A closed stream is occupied, so that no file which is opened later gets its number. What cannot be written to standard
output is remembered and told at the end, not raised in the middle of the work: files asked for beside it are still
written. What cannot be written to standard error is lost: nobody is there to be told.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_OUTSIDE_ASCII = re.compile(r"[^\n -~]")
_FORMULA = ("=", "+", "-", "@", "\t")  # what spreadsheets take for the start of a formula (OWASP, CSV injection)
FEWEST_COLUMNS = 80  # what every table fits in; below it figures would lose digits, so that lines wrap instead


class Outlet(io.FileIO):
    """A descriptor whose first failure is kept; what is written after it goes nowhere."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: object) -> int | None:  # type: ignore[override]  # any buffer, as in FileIO
        if self.failure is None:
            try:
                return super().write(data)  # type: ignore[arg-type]
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes  # type: ignore[arg-type]


@contextmanager
def standard_streams() -> Iterator[Outlet]:
    """Standard output and error that never fail, for the block; yields where standard output goes.

    Streams that somebody else has put in place (a test, a notebook) stay as they are.
    """
    _occupy_closed()
    output, error = Outlet(1), Outlet(2)
    before = sys.stdout, sys.stderr
    sys.stdout = _over(output, sys.stdout, sys.__stdout__)
    sys.stderr = _over(error, sys.stderr, sys.__stderr__)
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _occupy_closed() -> None:
    """Reading is all that a closed descriptor gets: writing to it goes on failing, as the shell asked for."""
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(descriptor)


def _over(outlet: Outlet, current: TextIO | None, own: TextIO | None) -> TextIO:
    """A character that the terminal's encoding lacks becomes a question mark."""
    if current is not own or not (own is None or isinstance(own, io.TextIOWrapper)):
        return current if current is not None else io.StringIO()
    if own is not None:
        own.flush()
    encoding = own.encoding if own is not None else "utf-8"
    lines = outlet.fileno() == 2 or outlet.isatty()
    return io.TextIOWrapper(io.BufferedWriter(outlet), encoding, errors="replace", line_buffering=lines)


def printable(text: str) -> str:
    """`text` with everything that could move a cursor, ring, recolour or reverse a line written as an escape.

    Line ends and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _escaped(each) for each in text)


def cell(value: object) -> object:
    """A cell of a CSV file. A spreadsheet takes text that begins like a formula for one and runs it, unless quoted."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def json_text(content: object) -> str:
    """A document with every control character in a string as JSON's own escape."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    return _OUTSIDE_ASCII.sub(lambda each: each[0] if each[0].isprintable() else json.dumps(each[0])[1:-1], text) + "\n"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def console(stream: TextIO) -> Console:
    """For tables, as wide as the terminal or COLUMNS says, and never narrower than a table is (COLUMNS=0)."""
    from rich.console import Console

    found = Console(file=stream, highlight=False)
    found.width = max(found.width, FEWEST_COLUMNS)
    return found


def print_styled(content: RenderableType, on: Console, width: int | None = None) -> None:
    """`content` on a console, control characters of what it shows written as escapes; no blanks at ends of lines."""
    from rich.segment import Segment, Segments

    options = on.options if width is None else on.options.update_width(width)
    shown = [Segment(printable(each.text), each.style) for each in on.render(content, options)]
    on.print(Segments(shown), end="", soft_wrap=True)
