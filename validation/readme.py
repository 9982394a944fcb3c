"""Keeps the README's tables true: `python -m cascadesim.validation.readme README.md` rewrites them in place.

Each stands between two comment lines: the errors, which a test compares with what the suites find, and designs per
second of this and of what a user would take otherwise. `... readme --speed RUN.json` keeps, of what
`pytest --benchmark-json=RUN.json` wrote for `tests/benchmarks`, figures, versions, cores and date in `tool-speed.json`
beside this module: no host and no path. Prints nothing on success.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.claim import Verdict
from cascadesim.validation.render import ROUNDING, error, outcome, summary, tolerance
from cascadesim.validation.suites import verdicts_of

ERRORS, SPEED = "validation", "speed"  # what stands between the marks <!-- NAME:begin --> and <!-- NAME:end -->
INTRODUCTION = (
    "Relative error of each claim that `cascadesim validate` checks, over the rows in `validation/published/`\n"
    "(sources there; why each tolerance is what it is: `validation/claims/`). Exact: below 1e-12.\n"
    "90%: nine tenths of the rows are within. Rows of GPU suites count so that each stratum weighs the same."
)
HEADER = ("suite", "claim", "rows", "mean", "median", "90%", "max", "tolerance", "holds")
SPEED_FILE = Path(__file__).with_name("tool-speed.json")
SPEED_INTRODUCTION = (
    "Designs per second, one run each on {cores} cores, Python {python}, {date}: not the same question, but the same\n"
    "use. Made by `make speed` (`tests/benchmarks/`)."
)
_SPEED_FIELDS = ("tool", "version", "designs_per_s", "one_design")


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table of errors. Errors of rounding read as exact, because the last bits depend on the machine."""

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [row(HEADER), row(["---", "---", *["---:"] * 6, "---"])]
    previous = None
    for verdict in verdicts:
        errors = verdict.errors
        found = ["exact" if relative < ROUNDING else error(relative)
                 for relative in (errors.mean, errors.median, errors.p90, errors.maximum)]  # fmt: skip
        lines.append(row(["" if verdict.suite == previous else f"`{verdict.suite}`", verdict.claim.name,
                          f"{errors.rows:,}", *found, tolerance(verdict), outcome(verdict)]))  # fmt: skip
        previous = verdict.suite
    return "\n".join([INTRODUCTION, "", *lines, "", f"{summary(verdicts)}."])


def speeds_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a run of pytest-benchmark. Raises CascadeSimError if it says nothing about tools."""
    try:
        tools = [{name: entry["extra_info"][name] for name in _SPEED_FIELDS}
                 for entry in run["benchmarks"] if "tool" in entry["extra_info"]]  # fmt: skip
        machine = run["machine_info"]
        found = {"date": run["datetime"][:10], "python": machine["python_version"], "cores": machine["cpu"]["count"]}
    except (KeyError, TypeError) as error:
        raise CascadeSimError(f"expected what pytest --benchmark-json writes; it lacks {error}") from None
    if not tools:
        raise CascadeSimError("no benchmark of this run names a tool; run tests/benchmarks/test_other_tools.py")
    return {**found, "tools": sorted(tools, key=lambda tool: -float(tool["designs_per_s"]))}


def speed_table(found: Mapping[str, Any]) -> str:
    """The table of speeds, two digits each: another run differs in the third."""
    rows = ["| tool | designs per second | one design |", "| --- | ---: | --- |"]
    for tool in found["tools"]:
        per_s = float(f"{tool['designs_per_s']:.2g}")
        figure = f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:g}"
        rows.append(f"| {tool['tool']} {tool['version']}".rstrip() + f" | {figure} | {tool['one_design']} |")
    return "\n".join([SPEED_INTRODUCTION.format(**found), "", *rows])


def stored_speeds() -> Mapping[str, Any]:
    """The run whose figures stand in the README."""
    found: Mapping[str, Any] = json.loads(SPEED_FILE.read_text(encoding="utf-8"))
    return found


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def with_table(text: str, table: str, name: str = ERRORS) -> str:
    """`text` with `table` between the marks. Raises CascadeSimError unless each mark is there once, in order."""
    first, last = marks(name)
    before, begin, below = text.partition(first)
    _, end, after = below.partition(last)
    if not begin or not end or first in after or last in before + after:
        raise CascadeSimError(f"expected one line {first} and below it one line {last}")
    return f"{before}{first}\n{table}\n{last}{after}"


def main(arguments: Sequence[str]) -> int:
    """The exit code: 2, with one line on standard error, for a file that cannot be read or rewritten."""
    speed = list(arguments[:1]) == ["--speed"]
    speaker, wanted = ("tool_speed", "that pytest --benchmark-json wrote") if speed else ("readme", "with the marks")
    try:
        (path,) = map(Path, arguments[speed:])
        text = path.read_text(encoding="utf-8")
        if speed:
            SPEED_FILE.write_text(json.dumps(speeds_of(json.loads(text)), indent=1) + "\n", encoding="utf-8")
        else:
            text = with_table(text, speed_table(stored_speeds()), SPEED)
            path.write_text(with_table(text, markdown(verdicts_of(()))), encoding="utf-8")
    except (CascadeSimError, OSError, ValueError) as error:
        print(f"{speaker}: {error}; give one file {wanted}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
