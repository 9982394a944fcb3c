"""Designs per second of this and of what a user would take otherwise, from one run of `tests/benchmarks`.

`python -m cascadesim.validation.tool_speed RUN.json` reads what `pytest --benchmark-json=RUN.json` wrote and writes
`tool-speed.json` beside this module: figures, versions, cores and date, no host and no path. `readme` shows it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

FILE = Path(__file__).with_name("tool-speed.json")
INTRODUCTION = (
    "Designs per second, one run each on {cores} cores, Python {python}, {date}: not the same question, but the same\n"
    "use. Made by `make speed` (`tests/benchmarks/`)."
)
_FIELDS = ("tool", "version", "designs_per_s", "one_design")


def summary(run: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run of pytest-benchmark. Raises CascadeSimError if it says nothing about tools."""
    try:
        tools = [{name: entry["extra_info"][name] for name in _FIELDS}
                 for entry in run["benchmarks"] if "tool" in entry["extra_info"]]  # fmt: skip
        machine = run["machine_info"]
        found = {"date": run["datetime"][:10], "python": machine["python_version"], "cores": machine["cpu"]["count"]}
    except (KeyError, TypeError) as error:
        raise CascadeSimError(f"expected what pytest --benchmark-json writes; it lacks {error}") from None
    if not tools:
        raise CascadeSimError("no benchmark of this run names a tool; run tests/benchmarks/test_other_tools.py")
    return {**found, "tools": sorted(tools, key=lambda tool: -float(tool["designs_per_s"]))}


def markdown(found: Mapping[str, Any]) -> str:
    """The README's table."""
    rows = ["| tool | designs per second | one design |", "| --- | ---: | --- |"]
    rows += [f"| {_name(tool)} | {_figure(tool['designs_per_s'])} | {tool['one_design']} |" for tool in found["tools"]]
    return "\n".join([INTRODUCTION.format(**found), "", *rows])


def _name(tool: Mapping[str, Any]) -> str:
    return f"{tool['tool']} {tool['version']}".strip()


def _figure(per_s: float) -> str:
    """Two digits: another run differs in the third."""
    rounded = float(f"{per_s:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def stored() -> Mapping[str, Any]:
    """The run whose figures stand in the README."""
    found: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def main(arguments: Sequence[str]) -> int:
    try:
        (name,) = arguments
        run = json.loads(Path(name).read_text(encoding="utf-8"))
        FILE.write_text(json.dumps(summary(run), indent=1) + "\n", encoding="utf-8")
    except (CascadeSimError, OSError, ValueError) as error:
        print(f"tool_speed: {error}; give one file that pytest --benchmark-json wrote", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
