"""Keeps the README's tables true: `python -m cascadesim.validation.readme README.md` rewrites them in place.

Each stands between two comment lines: errors, which a test compares with what the suites find, and the speed of tools
(`tool_speed`). Prints nothing on success.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation import tool_speed
from cascadesim.validation.compare import Verdict
from cascadesim.validation.render import ROUNDING, error, outcome, summary, tolerance

ERRORS, SPEED = "validation", "speed"  # what stands between the marks <!-- NAME:begin --> and <!-- NAME:end -->
INTRODUCTION = (
    "Relative error of each claim that `cascadesim validate` checks, over the rows in `validation/published/`\n"
    "(sources there; why each tolerance is what it is: `validation/claims*.py`). Exact: below 1e-12.\n"
    "90%: nine tenths of the rows are within. Rows of GPU suites count so that each stratum weighs the same."
)
HEADER = ("suite", "claim", "rows", "mean", "median", "90%", "max", "tolerance", "holds")


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The text between the marks."""
    lines = [_row(HEADER), _row(["---", "---", *["---:"] * 6, "---"])]
    previous = None
    for verdict in verdicts:
        lines.append(_row(_cells(verdict, named=verdict.suite != previous)))
        previous = verdict.suite
    return "\n".join([INTRODUCTION, "", *lines, "", f"{summary(verdicts)}."])


def _cells(verdict: Verdict, named: bool) -> list[str]:
    errors = verdict.errors
    return [
        f"`{verdict.suite}`" if named else "", verdict.claim.name, f"{errors.rows:,}", _error(errors.mean),
        _error(errors.median), _error(errors.p90), _error(errors.maximum), tolerance(verdict), outcome(verdict),
    ]  # fmt: skip


def _error(relative: float) -> str:
    """The last bits depend on the machine."""
    return "exact" if relative < ROUNDING else error(relative)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def with_table(text: str, table: str, name: str = ERRORS) -> str:
    """`text` with `table` between the marks. Raises CascadeSimError unless each mark is there once, in order."""
    first, last = marks(name)
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in after or last in before + after:
        raise CascadeSimError(f"expected one line {first} and below it one line {last}")
    return f"{before}{first}\n{table}\n{last}{after}"


def with_tables(text: str) -> str:
    """`text` with all tables as the data has them."""
    from cascadesim.validation.cli import verdicts_of

    text = with_table(text, tool_speed.markdown(tool_speed.stored()), SPEED)
    return with_table(text, markdown(verdicts_of(())))


def main(arguments: Sequence[str]) -> int:
    try:
        (name,) = arguments
        path = Path(name)
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
    except (CascadeSimError, OSError, ValueError) as error:
        print(f"readme: {error}; give one file with the marks", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
