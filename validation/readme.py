"""Keeps the generated tables of the pages true: `python -m cascadesim.validation.readme` rewrites them in place.

Each stands between two comment lines: in the README a row for each family of models, in `docs/validation.md` every
claim (a test compares both with what the suites find), in `docs/constants.md` every number of the GPU model that no
document gives, in `docs/claims.md` the systems of the ledger, whose pictures are drawn beside it, in `docs/speed.md`
designs per second of this and of what a user would take otherwise. `... readme --speed RUN.json` keeps, of what
`pytest --benchmark-json=RUN.json` wrote for `tests/benchmarks`, figures, versions, cores and date in `tool-speed.json`
beside this module: no host and no path. Prints nothing on success.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.claim import Verdict
from cascadesim.validation.gpu import ledger
from cascadesim.validation.gpu.verdict import STRATUM, equal_weights, weighted_quantile
from cascadesim.validation.render import ROUNDING, error, outcome, summary, tolerance
from cascadesim.validation.suites import verdicts_of
from cascadesim.validation.systems import views

# names of tables: each stands between the marks <!-- NAME:begin --> and <!-- NAME:end -->
SUMMARY, ERRORS, SPEED, NUMBERS, CLAIMS = "summary", "validation", "speed", "numbers", "claims"
PAGES = {SUMMARY: "README.md", ERRORS: "docs/validation.md", SPEED: "docs/speed.md", NUMBERS: "docs/constants.md",
         CLAIMS: "docs/claims.md"}  # fmt: skip
FOLDER = Path(__file__).resolve().parents[1]  # a checkout's; an installed package has no pages there
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
_GPU_TIME = "time of a call, 20 us and more"
_GPU_SHORT = "time of a call below 20 us, reported only"


@dataclass(frozen=True)
class SummaryRow:
    """One row of the summary: the claims, as (suite, claim), whose errors it gives together, and in a few words what is
    reported beside them and not judged, as (words, suite, claim)."""

    name: str
    claims: tuple[tuple[str, str], ...]
    reported: tuple[tuple[str, str, str], ...]


SUMMARY_ROWS = (
    SummaryRow("FuseMax, cycles", (
        ("fusemax-cycle", "fusemax: latency against +Binding"),
        ("fusemax-cycle", "fusemax-architecture: latency against +Architecture"),
        ("fusemax-cycle", "fusemax-cascade: latency against +Cascade")),
        (("energy, of FLAT and unfused too", "fusemax-cycle", "energy, reported only"),)),
    SummaryRow("FLAT and unfused, latency", (
        ("fusemax-cycle", "flat: latency against FLAT"), ("fusemax-cycle", "unfused: latency, free of calibration"),
        ("flat-dataflow", "cloud: latency")), (
        ("edge traffic", "flat-dataflow", "edge: DRAM traffic, reported only"),
        ("gain of our search", "flat-search", "how much faster it is, reported only"))),
    SummaryRow("SpAtten layers and runs, cycles", (
        ("spatten-behavioural", "cycles of a layer"), ("spatten-behavioural", "cycles of a run")),
        (("reductions, speedups of the paper", "spatten-paper", "reductions, steps and speedups, reported only"),)),
    SummaryRow("SpAtten heads in RTL, cycles", (
        ("spatten-rtl-heads", "latency of a head, on average"),
        ("spatten-rtl-streams", "completion of a head, median")), ()),
    SummaryRow("GNA, speedup of the kernel", (("gna-measured", "kernel speedup over measured dense attention"),), (
        ("dense time predicted too", "gna-measured", "kernel speedup, dense time predicted too, reported only"),
        ("token permutation", "gna-measured", "time with token permutation, reported only"))),
    SummaryRow("GPU attention, prefill and encoder", (("gpu-prefill", _GPU_TIME), ("gpu-encoder", _GPU_TIME)), (
        ("prefill below 20 us", "gpu-prefill", _GPU_SHORT), ("papers", "gpu-papers", _GPU_TIME))),
    SummaryRow("GPU attention, decode and latent (MLA)", (("gpu-decode", _GPU_TIME), ("gpu-mla", _GPU_TIME)), (
        ("below 20 us", "gpu-decode", _GPU_SHORT), ("latent below 20 us", "gpu-mla", _GPU_SHORT),
        ("cycle level", "gpu-cycle", "decode: time of a call, 20 us and more, reported only"))),
    SummaryRow("GPU products", (("gpu-gemm", _GPU_TIME),), (("below 20 us", "gpu-gemm", _GPU_SHORT),)),
    SummaryRow("GPU norms, activations, sums", (("gpu-ops", _GPU_TIME),), (
        ("all of this row", "gpu-ops", _GPU_TIME), ("below 20 us", "gpu-ops", _GPU_SHORT),
        ("norms of vidur", "gpu-ops", "norms of a serving engine (vidur), 20 us and more, reported only"))),
    SummaryRow("Whole models (`generate`), batches and serving", (
        ("models", "tokens/s of one batch (TensorRT-LLM 0.5 to 0.9, gpt-fast, lmdeploy)"),
        ("models", "time to the first token of one batch (TensorRT-LLM 0.5 to 0.9, lmdeploy)"),
        ("models", "tokens/s of requests that come and go (InferenceMAX and NIM on NVIDIA)"),
        ("models", "time of a token of requests that come and go (the same)")), (
        ("serving on AMD", "models", "tokens/s of requests that come and go on AMD"),)),
)  # fmt: skip
SUMMARY_HEADER = ("model", "rows", "median", "90%", "only reported, with its 90%")


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table of errors of every claim."""
    lines = [_row(HEADER), _row(["---", "---", *["---:"] * 6, "---"])]
    previous = None
    for verdict in verdicts:
        errors = verdict.errors
        found = map(_error, (errors.mean, errors.median, errors.p90, errors.maximum))
        lines.append(_row(["" if verdict.suite == previous else f"`{verdict.suite}`", verdict.claim.name,
                           f"{errors.rows:,}", *found, tolerance(verdict), outcome(verdict)]))  # fmt: skip
        previous = verdict.suite
    return "\n".join([INTRODUCTION, "", *lines, "", f"{summary(verdicts)}."])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _error(relative: float) -> str:
    """Errors of rounding read as exact, because the last bits depend on the machine."""
    return "exact" if relative < ROUNDING else error(relative)


def families_table(verdicts: Sequence[Verdict]) -> str:
    """The summary: a row for each family. Raises CascadeSimError if a claim that it names was not judged."""
    judged = {(verdict.suite, verdict.claim.name): verdict for verdict in verdicts}

    def found(suite: str, claim: str) -> Verdict:
        if (suite, claim) not in judged:
            raise CascadeSimError(f"the summary names a claim that {suite} does not have: '{claim}'")
        return judged[suite, claim]

    lines = [_row(SUMMARY_HEADER), _row(["---", *["---:"] * 3, "---"])]
    for family in SUMMARY_ROWS:
        chosen = [found(*claim) for claim in family.claims]
        beside = [f"{words} {_error(found(suite, claim).errors.p90)}" for words, suite, claim in family.reported]
        lines.append(_row([family.name, f"{sum(verdict.errors.rows for verdict in chosen):,}",
                           *map(_error, together(chosen)), "; ".join(beside) or "–"]))  # fmt: skip
    return "\n".join(lines)


def together(verdicts: Sequence[Verdict]) -> tuple[float, float]:
    """Median and 90th percentile of the errors of several claims, of one as it states them: each cell counts alike,
    those of GPU suites so that each stratum weighs the same."""
    if len(verdicts) == 1:
        return verdicts[0].errors.median, verdicts[0].errors.p90
    cells = [(verdict, cell) for verdict in verdicts for cell in verdict.cells]
    errors = np.array([cell.error(verdict.claim.measure) for verdict, cell in cells])
    strata = [cell.row.get(STRATUM) for _, cell in cells]
    weights = np.ones(len(cells)) if None in strata else equal_weights(
        [f"{verdict.suite} {stratum}" for (verdict, _), stratum in zip(cells, strata, strict=True)])  # fmt: skip
    return weighted_quantile(errors, weights, 0.5), weighted_quantile(errors, weights, 0.9)


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
    """The run whose figures stand in `docs/speed.md`."""
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


def rewrite(folder: Path) -> None:
    """Writes each table in its page below `folder`, once all of them are made. Raises CascadeSimError or OSError."""
    texts = {name: (folder / page).read_text(encoding="utf-8") for name, page in PAGES.items()}
    verdicts = verdicts_of(())
    tables = {SUMMARY: families_table(verdicts), ERRORS: markdown(verdicts), SPEED: speed_table(stored_speeds()),
              NUMBERS: ledger.page(), CLAIMS: views.page(views.draw_all((folder / PAGES[CLAIMS]).parent))}  # fmt: skip
    made = {name: with_table(text, tables[name], name) for name, text in texts.items()}
    for name, text in made.items():
        (folder / PAGES[name]).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """The exit code: 2, with one line on standard error, for a file that cannot be read or rewritten."""
    speed = list(arguments[:1]) == ["--speed"]
    speaker, wanted = (
        ("tool_speed", "one file that pytest --benchmark-json wrote") if speed
        else ("readme", f"the folder that has {', '.join(PAGES.values())}, or nothing in a checkout")
    )  # fmt: skip
    try:
        (path,) = map(Path, arguments[1:] if speed else arguments or [str(FOLDER)])
        if speed:
            found = speeds_of(json.loads(path.read_text(encoding="utf-8")))
            SPEED_FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        else:
            rewrite(path)
    except (CascadeSimError, OSError, ValueError) as error:
        print(f"{speaker}: {error}; give {wanted}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
