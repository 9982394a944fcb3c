"""Where results leave the program: standard streams, files that appear whole or not at all, tables, progress, numbers.

A closed stream is occupied, so that no later file gets its number. What cannot be written to standard output is told at
the end, after files asked for beside it. Files are written beside the target and renamed over it when the work has
succeeded; what ends the work takes the half-written file away. Numbers are as a person reads them: 2.013 ms, 375.0 MiB.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

if TYPE_CHECKING:  # rich is not for --help
    from rich.console import Console, RenderableType
    from rich.table import Table

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OUTSIDE_ASCII = re.compile(r"[^\n -~]")
_FORMULA = ("=", "+", "-", "@", "\t")  # what spreadsheets take for the start of a formula (OWASP, CSV injection)
FEWEST_COLUMNS = 80  # what every table fits in; below it figures would lose digits, so that lines wrap instead


class Outlet(io.FileIO):
    """This descriptor keeps its first failure; what is written after it goes nowhere."""

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
    """Keep standard output and error from failing during the block; yield where standard output goes.

    Streams that others have put in place (a test, a notebook) stay."""
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:  # occupies a closed one; writing to it goes on failing
        pass
    os.close(descriptor)
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


def _over(outlet: Outlet, current: TextIO | None, own: TextIO | None) -> TextIO:
    """Wrap an outlet; a character that the terminal's encoding lacks becomes a question mark."""
    if current is not own or not (own is None or isinstance(own, io.TextIOWrapper)):
        return current if current is not None else io.StringIO()
    if own is not None:
        own.flush()
    encoding = own.encoding if own is not None else "utf-8"
    lines = outlet.fileno() == 2 or outlet.isatty()
    return io.TextIOWrapper(io.BufferedWriter(outlet), encoding, errors="replace", line_buffering=lines)


def printable(text: str) -> str:
    """Write everything in `text` that could move a cursor, ring, recolour or reverse a line as an escape.

    Line ends and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape", "surrogatepass").decode("ascii")
        for each in text
    )


def cell(value: object) -> object:
    """Make a cell of a CSV file. A spreadsheet runs text that begins like a formula, unless it is quoted."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def json_text(content: object) -> str:
    """Write a document with every control character in a string as JSON's own escape."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    return _OUTSIDE_ASCII.sub(lambda each: each[0] if each[0].isprintable() else json.dumps(each[0])[1:-1], text) + "\n"


@contextmanager
def pending_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `target` when the block ends well and vanishes when it does not.

    Raises CascadeSimError at once, before any work, if `target` cannot be written, and later if it turns out that it
    cannot. What is no regular file (a pipe, /dev/null) is written in place.
    """
    given, target = target, Path(os.path.realpath(target))  # a link keeps pointing at its file
    if target.exists() and not target.is_file() and not target.is_dir():
        with _named(given, target):
            yield target
        return
    pending: Path | None = None
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)  # until whoever is interrupted knows of the file
    try:
        pending = _beside(target, given)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        with _named(given, pending):
            yield pending
            os.replace(pending, target)
    finally:
        if pending is not None:
            pending.unlink(missing_ok=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


@contextmanager
def _named(given: Path, written: Path) -> Iterator[None]:
    """Say what fails in writing of the file that was asked for: a full disk does not name its file."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(written)):
            raise
        raise CascadeSimError(f"{given}: cannot be written: {error.strerror or error}") from None


def written_to(pending: Path | None) -> AbstractContextManager[TextIO]:
    """Open a pending file to write text to; None is standard output."""
    return nullcontext(sys.stdout) if pending is None else pending.open("w", encoding="utf-8")


@contextmanager
def pending_files(targets: Sequence[Path | None]) -> Iterator[tuple[Path | None, ...]]:
    """Yield a `pending_file` for each target; None stays None. All of them appear, or none."""
    given = [os.path.realpath(target) for target in targets if target is not None]
    for target in given:
        if given.count(target) > 1:
            raise CascadeSimError(f"{target}: asked for twice; give each output a file of its own")
    with ExitStack() as files:
        yield tuple(target and files.enter_context(pending_file(target)) for target in targets)


def _beside(target: Path, given: Path) -> Path:
    """Make an empty file in `target`'s folder with the permissions that the target has or would get."""
    if target.is_dir():
        raise CascadeSimError(f"{given}: is a folder, give a file")
    if not target.parent.is_dir():
        raise CascadeSimError(f"{given}: no folder '{given.parent}'")
    if target.exists() and not os.access(target, os.W_OK):
        raise CascadeSimError(f"{given}: cannot be written: permission denied")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".pending-", suffix=target.suffix)
    except OSError as error:
        raise CascadeSimError(f"{given}: cannot be written: {error.strerror}") from None
    umask = os.umask(0o022)  # which can only be read by setting it
    os.umask(umask)
    os.fchmod(handle, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask)
    os.close(handle)
    return Path(name)


def aligned(rows: Sequence[Sequence[str]], names: int = 0) -> Iterator[str]:
    """Write cells below each other, two blanks apart: the first `names` columns to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) if place < names else cell.rjust(width)
                        for place, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()  # fmt: skip


def console(stream: TextIO) -> Console:
    """Make a console as wide as the terminal or COLUMNS says, and never narrower than a table is (COLUMNS=0)."""
    from rich.console import Console

    terminal = False if isinstance(stream, io.StringIO) else None  # FORCE_COLOR is about terminals, not about texts
    found = Console(file=stream, highlight=False, force_jupyter=False, force_terminal=terminal)  # not to a notebook
    found.width = max(found.width, FEWEST_COLUMNS)
    return found


def print_styled(content: RenderableType, on: Console, width: int | None = None) -> None:
    """Print `content` with control characters of what it shows as escapes; in files without blanks at ends of lines."""
    from rich.segment import Segment, Segments

    options = on.options if width is None else on.options.update_width(width)
    shown = [Segment(printable(each.text), each.style) for each in on.render(content, options)]
    with nullcontext() if on.is_terminal else on.capture() as text:
        on.print(Segments(shown), end="", soft_wrap=True)
    if text is not None:
        on.file.writelines(f"{line.rstrip()}\n" for line in text.get().splitlines())


def table(title: str | None, columns: Sequence[str], names: int = 1, gap: int = 1) -> Table:
    """Make a table of columns of numbers, `gap` blanks apart; the first `names` of them hold names."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, gap, 0, 0),
                 pad_edge=False)  # fmt: skip
    for position, column in enumerate(columns):
        made.add_column(column, justify="left" if position < names else "right", header_style="dim", no_wrap=True,
                        style="cyan" if position < names else None)  # fmt: skip
    return made


def figures_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Make a table with a name, a figure and a remark in each row."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="cyan", no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    made.add_column(overflow="fold")
    for name, figure, remark in rows:
        made.add_row(name, figure, Text(remark, style="dim"))  # what it says of a user's settings is no markup
    return made


@contextmanager
def passing(text: str, stays: bool = False) -> Iterator[None]:
    """Show a line on a terminal for as long as the block takes: somebody waits, and nothing else is said yet.

    One that `stays` is printed wherever standard error goes.
    """
    shown = sys.stderr.isatty() and not stays
    print(f"{text} …" if shown or stays else "", end="\r" if shown else "\n" * stays, file=sys.stderr, flush=True)
    yield
    print("\x1b[2K" if shown else "", end="\r" if shown else "", file=sys.stderr, flush=True)


@contextmanager
def progress(stages: Sequence[str], shown: bool = True) -> Iterator[dict[str, Callable[[int, int], None]]]:
    """Show a bar on standard error for each stage that has begun; yield what each stage calls with (done, total).

    Nothing is yielded where nobody looks, which is where standard error is no terminal. No thread runs, so that
    processes may fork.
    """
    if not shown or not sys.stderr.isatty():
        yield {}
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    bars, begun = Progress(console=Console(file=sys.stderr), auto_refresh=False), dict[str, TaskID]()

    def watch(stage: str) -> Callable[[int, int], None]:
        def step(done: int, total: int) -> None:
            if not begun:
                bars.start()
            if stage not in begun:
                begun[stage] = bars.add_task(stage, total=total)
            bars.update(begun[stage], completed=done, total=total, refresh=True)

        return step

    try:
        yield {stage: watch(stage) for stage in stages}
    finally:
        if begun:
            bars.stop()


Scale = Sequence[tuple[float, str]]  # (size of the unit, its name), largest first

_SECONDS: Scale = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_JOULES: Scale = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))
_BYTES: Scale = tuple(
    (float(2**power), f"{prefix}B") for power, prefix in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki"), (0, ""))
)
_COUNTS: Scale = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_HERTZ: Scale = ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz"), (1.0, "Hz"))


def _scaled(amount: float, scale: Scale) -> str:
    """Write `amount` in the largest unit in which it is at least 1, with four significant digits."""
    size, name = next((unit for unit in scale if abs(amount) >= unit[0]), scale[-1])
    value = amount / size
    digits = max(0, 3 - len(str(int(abs(value)))) + 1) if value != int(value) else 0
    return f"{value:,.{digits}f} {name}"


seconds = partial(_scaled, scale=_SECONDS)
joules = partial(_scaled, scale=_JOULES)
bytes_of = partial(_scaled, scale=_BYTES)
hertz = partial(_scaled, scale=_HERTZ)


def gigabytes(amount_bytes: float) -> str:
    """Count 10^9 bytes each, as capacities of memory are sold."""
    return f"{amount_bytes / 1e9:,.2f} GB"


def square_millimetres(area_um2: float) -> str:
    return f"{area_um2 * 1e-6:,.1f} mm²"


def count(amount: float) -> str:
    """Write a metric prefix: 805 G."""
    return _scaled(amount, _COUNTS).strip()


def whole(amount: float) -> str:
    return f"{round(amount):,}"


def rate(per_second: float) -> str:
    """Keep three significant digits of a rate below 100: 0.4 tokens/s is not 0."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def shares(by_component: Mapping[str, float], most: int = 3) -> str:
    """Name the largest components with their part of the sum: 61% mac_2d, 20% dram, 9% registers_2d."""
    total = sum(by_component.values())
    largest = sorted(by_component.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{amount / total:.0%} {name}" for name, amount in largest if amount > 0)


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def error(relative: float) -> str:
    """Keep two significant digits: an error of 0.045% is not 0.0%."""
    return f"{100 * relative:.2g}%"


def length(tokens: int) -> str:
    """Write a length as `--seq-len` takes it: 4096 is 4K, powers of 1024."""
    for factor, suffix in ((2**20, "M"), (2**10, "K")):
        if tokens >= factor and tokens % factor == 0:
            return f"{tokens // factor}{suffix}"
    return str(tokens)
