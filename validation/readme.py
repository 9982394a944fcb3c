"""Keeps the README's table of errors true: `python -m cascadesim.validation.readme README.md` rewrites it in place.

The table stands between two comment lines; a test compares it with what the suites find. Prints nothing on success.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.validation.compare import Verdict
from cascadesim.validation.render import ROUNDING, error, outcome, summary, tolerance

BEGIN, END = "<!-- validation:begin -->", "<!-- validation:end -->"
INTRODUCTION = (
    "Relative error of each claim that `cascadesim validate` checks, over the rows in `validation/published/`\n"
    "(sources there; why each tolerance is what it is: `validation/claims*.py`). Exact: below 1e-12."
)
HEADER = ("suite", "claim", "rows", "median", "max", "tolerance", "holds")


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The text between the marks."""
    lines = [_row(HEADER), _row(["---", "---", *["---:"] * 4, "---"])]
    previous = None
    for verdict in verdicts:
        lines.append(_row(_cells(verdict, named=verdict.suite != previous)))
        previous = verdict.suite
    return "\n".join([INTRODUCTION, "", *lines, "", f"{summary(verdicts)}."])


def _cells(verdict: Verdict, named: bool) -> list[str]:
    errors = verdict.errors
    return [
        f"`{verdict.suite}`" if named else "", verdict.claim.name, f"{errors.rows:,}", _error(errors.median),
        _error(errors.maximum), tolerance(verdict), outcome(verdict),
    ]  # fmt: skip


def _error(relative: float) -> str:
    """The last bits depend on the machine."""
    return "exact" if relative < ROUNDING else error(relative)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_table(text: str, table: str) -> str:
    """`text` with `table` between the marks. Raises CascadeSimError unless each mark is there once, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in before + after:
        raise CascadeSimError(f"expected one line {BEGIN} and below it one line {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    from cascadesim.validation.cli import verdicts_of

    try:
        (name,) = arguments
        path = Path(name)
        path.write_text(with_table(path.read_text(encoding="utf-8"), markdown(verdicts_of(()))), encoding="utf-8")
    except (CascadeSimError, OSError, ValueError) as error:
        print(f"readme: {error}; give one file with the two marks", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
