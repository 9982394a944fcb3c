"""`cascadesim measure`, and `python -m cascadesim.validation.measure` where nothing is installed but torch and triton:
our kernels and their baselines on the GPU of this machine, one JSON line per case.

Runs on the standard library, NumPy, torch and triton alone, from a checkout with `.src` on the path. Resumable: what
the file has for this kind of device and this code is not run again. Never touches clocks or settings. Comparing is
another program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError

COUNTED = ("attention", "decode", "neighborhood", "pruned")  # microbenchmarks count what they do themselves
SUITES = ("microbenchmarks", *COUNTED)  # in the order in which they run
SECONDS = 540.0
ABOUT_OUTPUT = "Folder for the records: DIR/<device>-<kind>.jsonl, appended to."
ABOUT_SECONDS = "Stop before the next case once so much time is used; run again to go on."
ABOUT_COUNTERS = "Read hardware counters with ncu, in place of times."
BAD_INPUT, INTERRUPTED = 2, 130


def chosen_suites(named: Sequence[str], counters: bool) -> tuple[str, ...]:
    """The suites in their order, all if none is named. Raises CascadeSimError where none has what is asked for."""
    for name in named:
        if name not in SUITES:
            raise UnknownNameError("measurement suite", name, SUITES)
    chosen = tuple(name for name in (COUNTED if counters else SUITES) if not named or name in named)
    if not chosen:
        raise CascadeSimError(f"--counters: microbenchmarks have none; known: {', '.join(COUNTED)}")
    return chosen


def measured(suites: Sequence[str], output: Path, seconds: float, counters: bool) -> Iterator[str]:
    """Progress, line by line. Raises CascadeSimError, in one line, where nothing can be measured."""
    chosen = chosen_suites(suites, counters)
    if not seconds >= 1:
        raise CascadeSimError(f"--seconds: needs at least 1, got {seconds:g}")
    if counters:
        from cascadesim.validation.measure.counters import need_ncu

        need_ncu()
    missing = [name for name in ("torch", "triton", "numpy") if find_spec(name) is None]
    if missing:
        raise CascadeSimError(f"needs torch and triton, and has no {missing[0]}: pip install 'cascadesim[kernels]'")
    from cascadesim.validation.measure.run import count, run

    yield from (count if counters else run)(chosen, output, seconds)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CascadeSimError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = _Parser("measure", description="Measure the kernels on this machine's GPU; exit code 2 without one.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)}; all if none is named.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help=ABOUT_OUTPUT)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"{ABOUT_SECONDS} Default: {SECONDS:g}")
    parser.add_argument("--counters", action="store_true", help=ABOUT_COUNTERS)
    try:
        for line in measured(**vars(parser.parse_args(arguments))):
            print(line, file=sys.stderr, flush=True)
    except CascadeSimError as error:
        print(f"measure: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("measure: interrupted; what was measured is in the file, run again to go on", file=sys.stderr)
        return INTERRUPTED
    return 0
