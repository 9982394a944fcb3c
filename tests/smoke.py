"""An installed cascadesim does what its README promises: every command once, small, far from the checkout.

Needs nothing but Python: `python smoke.py FOLDER`, where FOLDER holds the programs (`bin` of an environment). Prints
what failed, and a count at the end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST_S = 600  # of one command; the first one of an architecture may compile an engine


@dataclass(frozen=True)
class Case:
    """One command and what must be true of its standard output."""

    name: str
    command: tuple[str, ...]
    holds: Callable[[str], bool]


def cases(programs: Path) -> Iterator[Case]:
    cascadesim, simulate = str(programs / "cascadesim"), str(programs / "simulate")
    yield Case("list", (cascadesim, "list"), lambda out: "fusemax" in out and "attention-1pass" in out)
    yield Case("passes", (cascadesim, "passes", "attention-1pass", "--rank", "m", "--format", "json"),
               lambda out: json.loads(out)["passes"] == {"m": 1})  # fmt: skip
    gna = ("gna", "--layout", "30x48x80", "--window", "18x24x24", "--q-tile", "4x8x8", "--kv-tile", "2x8x8")
    yield Case("gna", (cascadesim, *gna, "--format", "json"), lambda out: 11 < json.loads(out)["flop_bound"] < 11.2)
    yield Case("validate", (cascadesim, "validate", "fusemax-pareto", "--format", "json"),
               lambda out: all(claim["holds"] for claim in json.loads(out)["claims"]))  # fmt: skip
    yield Case("map", (cascadesim, "map", "linear-attention", "--arch", "flat", "--seq-len", "512", "--format", "json"),
               lambda out: "mapping searched for linear-attention" in json.loads(out)["mapping"])  # fmt: skip
    attention = ("--workload", "bert", "--scope", "attention", "--seq-len", "512", "--format", "json")
    yield Case("mapping", (simulate, "--arch", "fusemax", "--mapping", "fusemax", *attention), is_a_report)
    yield Case("flat", (simulate, "--arch", "flat", "--workload", "bert"), lambda out: "latency" in out)
    for name in architectures(cascadesim):
        run = ("--arch", name, "--workload", "bert", "--seq-len", "512", "--batch", "1", "--scope", "attention")
        yield Case(f"simulate {name}", (simulate, *run, "--format", "json"), is_a_report)


def architectures(cascadesim: str) -> list[str]:
    listed = subprocess.run([cascadesim, "list", "architectures"], capture_output=True, text=True, check=True, cwd="/")
    return [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]


def is_a_report(out: str) -> bool:
    reports = json.loads(out)["reports"]
    return all(report["cycles"] > 0 and report["latency_s"] > 0 and report["bound_by"] for report in reports)


def problem(case: Case) -> str | None:
    """Why it failed, with what it said; None where it did not. Run from the root folder."""
    try:
        done = subprocess.run(case.command, capture_output=True, text=True, check=False, cwd="/", timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        return f"not done after {LONGEST_S} s"
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}"
    if "Traceback" in done.stderr:
        return done.stderr.strip()[-2000:]
    try:
        return None if case.holds(done.stdout) else f"another answer than expected: {done.stdout[:2000]}"
    except (ValueError, LookupError) as error:
        return f"{type(error).__name__} in reading its answer: {error}: {done.stdout[:2000]}"


def main(programs: Path) -> int:
    passed, failed, start = 0, 0, time.monotonic()
    for case in cases(programs):
        found = problem(case)
        passed, failed = passed + (found is None), failed + (found is not None)
        if found is not None:
            print(f"FAILED {case.name}: {' '.join(case.command)}\n    {found}")
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    print(f"smoke test on Python {version}, {time.monotonic() - start:.0f} s:\n{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
