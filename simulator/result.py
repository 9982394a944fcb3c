"""What a command found, as the command line prints it and as Python gets it: one value with text, JSON, rows, figure.

Knows no command. A command makes a Result; the shell prints it, and `cascadesim.simulate(...)` returns it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TextIO, TypeVar

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.views.output import json_text, pending_file, pending_files, printable, written_to

Found = TypeVar("Found")
Formats = Mapping[str, Callable[[TextIO], object]]


@dataclass(frozen=True)
class Picture:
    """A figure that a notebook shows: the content of a .png or .svg file."""

    content: bytes
    suffix: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        if self.suffix == ".svg":
            return {"image/svg+xml": self.content.decode("utf-8")}
        return {"image/png": self.content}


@dataclass(frozen=True, repr=False, eq=False)
class Result(Generic[Found]):
    """What was found, printed as the command prints it.

    It has the length, the items and the attributes of what was found (a tuple of one: of that one). `table` writes
    what a person reads; `others` are further formats by name; `draw` writes a figure to a file and returns its number
    of panels, `trace` the schedule, `page` is all of it as HTML. `problems`: what of a sweep could not be answered;
    `remarks`: what else standard error gets.
    """

    found: Found
    document: Callable[[], Mapping[str, object]]
    rows: Callable[[], Iterable[Mapping[str, object]]]
    table: Callable[[TextIO], object]
    draw: Callable[[Path], int] | None = None
    trace: Callable[[Path], object] | None = None
    page: Callable[[], str] | None = None
    others: Formats | None = None
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    exit_code: int = 0
    printed: str = ""

    def write(self, stream: TextIO, format_: str = "table") -> None:
        """Write `table`, `json` or another format that the command has."""
        if format_ == "json":
            stream.write(json_text(self.to_dict()))
        else:
            {"table": self.table, **(self.others or {})}[format_](stream)

    def drawn(self, target: Path | None) -> int:
        """Draw to a file that is open, if one is; returns the number of panels."""
        return 0 if target is None or self.draw is None else self.draw(target)

    def to_dict(self) -> dict[str, object]:
        """The object that `--format json` prints."""
        return dict(self.document())

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row for each thing found, units in the names of columns.

        Raises CascadeSimError where pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise CascadeSimError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame(list(self.rows()))

    def plot(self, file: str | Path | None = None) -> Picture:
        """Draw what the command's `--plot` draws, to a .png or .svg file if one is named; a notebook shows it."""
        if self.draw is None:
            raise CascadeSimError("there is no figure of this")
        with TemporaryDirectory() as folder:
            target = Path(folder, "figure.png") if file is None else Path(file)
            if target.suffix.lower() not in (".png", ".svg"):
                raise CascadeSimError(f"'{target}': give a file that ends in .png or .svg")
            with pending_file(target) as written:
                self.draw(written)
            return Picture(target.read_bytes(), target.suffix.lower())

    def report(self, file: str | Path) -> None:
        """Write the page that the command's `--report` writes: one .html file to look at in a browser."""
        if self.page is None:
            raise CascadeSimError("there is no page of this")
        if Path(file).suffix.lower() != ".html":
            raise CascadeSimError(f"'{file}': give a file that ends in .html")
        with pending_file(Path(file)) as written:
            written.write_text(self.page(), encoding="utf-8")

    def __repr__(self) -> str:
        if self.printed:
            return self.printed.rstrip("\n")
        with StringIO() as stream:
            self.table(stream)
            return stream.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        """What is printed, and below it, folded, every figure with its unit: a column for each row of `rows`."""
        rows = list(self.rows())
        names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
        lines = (f"<tr><th>{escape(name)}</th>{''.join(_html_cell(row.get(name)) for row in rows)}</tr>"
                 for name in names)  # fmt: skip
        return (f'<pre style="line-height: 1.25; overflow-x: auto">{escape(repr(self))}</pre>'
                f"<details><summary>all figures</summary><table>{''.join(lines)}</table></details>")

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.found)  # type: ignore[arg-type]  # of what has no length: the TypeError that Python gives

    def __iter__(self) -> Iterator[Any]:
        return iter(self.found)  # type: ignore[call-overload, no-any-return]

    def __getitem__(self, key: object) -> Any:
        return self.found[key]  # type: ignore[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what pickle and notebooks ask for
            raise AttributeError(name)
        only = self.found[0] if isinstance(self.found, tuple) and len(self.found) == 1 else self.found
        return getattr(only, name)


def _html_cell(value: object) -> str:
    shape = {int: ",", float: ".6g"}.get(type(value), "")
    return f"<td>{'' if value is None else escape(format(value, shape))}</td>"


def write_lines(lines: Iterable[str], stream: TextIO) -> None:
    """Write lines with control characters as escapes: the `table` of a command that needs no styles."""
    stream.writelines(f"{printable(line)}\n" for line in lines)


def delivered(
    work: Callable[[], Result[Found]], format_: str, output: Path | None = None, plot: Path | None = None,
    trace: Path | None = None, report: Path | None = None,
) -> Result[Found]:  # fmt: skip
    """Print what `work` finds, or write it to `output`, and draw it; files are open before the work starts."""
    with pending_files((output, plot, trace, report)) as (text_file, picture, schedule, page):
        result = work()
        with written_to(text_file) as stream:
            result.write(stream, format_)
        panels = result.drawn(picture)
        if schedule is not None and result.trace is not None:
            result.trace(schedule)
        if page is not None and result.page is not None:
            page.write_text(result.page(), encoding="utf-8")
    say_panels(plot, panels)
    if report is not None:
        print(printable(f"wrote {report}"), file=sys.stderr)
    return result


def say_panels(file: Path | None, panels: int) -> None:
    """Say on standard error which figure has been written, and how much there is to see in it."""
    if panels:
        print(printable(f"wrote {file} ({panels} panel{'s' * (panels > 1)})"), file=sys.stderr)
