"""Hardware counters of the cases that `measure` times, read by Nsight Compute (`ncu`) in a pass of its own.

Each case runs in a process under ncu (`python -m cascadesim.validation.measure.counters SUITE CASE FILE`), every
variant once, with a marker kernel before each, so that rows of ncu's table belong to a variant by their order. There
everything runs once before, so that compilation is over, and what fails then is left out; FILE receives the order as
JSON, with what failed. Times under ncu are not used. ncu is called here only; its command line and its table are data,
and both are tested without it.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.measure.cases import BenchmarkCase, case_named
from cascadesim.validation.measure.timing import Launch
from cascadesim.validation.measure.worker import one_line

MARKER = "empty"  # a kernel of kernels/microbenchmarks
NAME, GRID, BLOCK = "Kernel Name", "Grid Size", "Block Size"  # columns of ncu's raw page
CASE_SECONDS = 300.0
READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
WARPGROUP_PRODUCTS = "sm__inst_executed_pipe_tensor_op_gmma.sum"  # wgmma
WARP_PRODUCTS = "sm__inst_executed_pipe_tensor_op_hmma.sum"  # mma.sync
METRICS = (  # names of Hopper: Nsight Compute documentation, metrics; `known` leaves out what a device lacks
    READ, WRITTEN, "lts__t_sectors_op_read.sum", "lts__t_sectors_op_write.sum", "sm__inst_executed.sum",
    "sm__inst_executed_pipe_xu.sum", WARPGROUP_PRODUCTS, WARP_PRODUCTS, "sm__cycles_elapsed.max",
    "gpu__time_duration.sum",
)  # fmt: skip
OPTIONS = (
    "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none", "--cache-control", "all",
    "--replay-mode", "kernel", "--profile-from-start", "off",
)  # fmt: skip # clocks are left as they are; caches are empty before each kernel


def need_ncu() -> str:
    """Its path. Raises CascadeSimError, in one line, where there is none."""
    if (path := shutil.which("ncu")) is None:
        raise CascadeSimError("--counters: needs NVIDIA Nsight Compute, and no ncu is on the PATH")
    return path


def command(ncu: str, metrics: Sequence[str], log: Path, names: Path, suite: str, case: str) -> list[str]:
    """The process that runs one case under ncu, which writes its table to `log`."""
    counting = [sys.executable, "-m", "cascadesim.validation.measure.counters", suite, case, str(names)]
    return [ncu, *OPTIONS, "--log-file", str(log), "--metrics", ",".join(metrics), *counting]


def counted(case: BenchmarkCase, ncu: str) -> dict[str, Any]:
    """What a record says about the counters of a case: variant -> its kernels in order. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        log, names = Path(folder) / "ncu.csv", Path(folder) / "variants.json"
        metrics, version = _about(ncu)
        arguments = command(ncu, metrics, log, names, case.suite, case.name)
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=CASE_SECONDS, check=False)
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        if done.returncode or not names.exists():
            raise RuntimeError(problem(text) or done.stderr.strip()[-500:] or f"ncu: exit code {done.returncode}")
        units, kernels = table(text)
        ran = json.loads(names.read_text(encoding="utf-8"))
        variants = by_variant(kernels, ran["variants"])
    return {"tool": version, "units": units, "counters": variants, "errors": ran["errors"]}


def problem(log: str) -> str:
    """The first error that ncu reports, such as a missing permission; empty if none."""
    found = re.search(r"^==ERROR== (.*)$", log, re.MULTILINE)
    return found[1] if found else ""


def table(log: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """(units, kernels) of `--csv --page raw`: names, then units, then a line per kernel; ncu's own lines start ==."""
    lines = [line for line in log.splitlines() if line and not line.startswith("==")]
    if len(lines) < 2:
        raise RuntimeError(problem(log) or "ncu wrote no table")
    rows = csv.DictReader(lines)
    units = next(rows)
    kernels = []
    for row in rows:
        # thousands are separated; what was not counted is left out
        cells = {metric: row[metric].replace(",", "") for metric in METRICS if row.get(metric)}
        values = {metric: float(cell) for metric, cell in cells.items()
                  if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", cell)}  # fmt: skip
        kernels.append({"kernel": row[NAME], "grid": row[GRID], "block": row[BLOCK], "values": values})
    return {metric: units[metric] for metric in METRICS if metric in units}, kernels


def by_variant(kernels: Iterable[dict[str, Any]], variants: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Kernels between markers; a marker stands before each variant. Raises RuntimeError where some are missing."""
    groups: list[list[dict[str, Any]]] = []
    for each in kernels:
        if each["kernel"] == MARKER:
            groups.append([])
        elif groups:
            groups[-1].append(each)
    if len(groups) != len(variants):
        raise RuntimeError(f"ncu counted {len(groups)} variants, {len(variants)} ran")
    return dict(zip(variants, groups, strict=True))


def dram_bytes(kernels: Iterable[Mapping[str, Any]]) -> float:
    """Read and written, of all kernels of a variant."""
    return sum(float(each["values"].get(metric, 0.0)) for each in kernels for metric in (READ, WRITTEN))


@cache
def _about(ncu: str) -> tuple[tuple[str, ...], str]:
    """(metrics that it counts here, its name and version)."""
    listing, version = (
        subprocess.run([ncu, option], capture_output=True, text=True, timeout=60, check=False).stdout
        for option in ("--query-metrics", "--version")
    )
    found = re.search(r"Version (\S+)", version)
    return known(listing), f"ncu {found[1] if found else ''}".strip()


def known(listing: str) -> tuple[str, ...]:
    """Those of METRICS whose base names `ncu --query-metrics` lists. Raises RuntimeError without DRAM bytes."""
    names = {line.split()[0] for line in listing.splitlines() if line.strip()}
    found = tuple(metric for metric in METRICS if metric.split(".")[0] in names)
    if not {READ, WRITTEN} <= set(found):
        raise RuntimeError(f"ncu lists no {READ} for this device")
    return found


def sound(variants: Mapping[str, Launch], synchronize: Launch) -> tuple[list[str], dict[str, str]]:
    """(those that run, what the others failed with)."""
    errors: dict[str, str] = {}
    for name, launch in variants.items():
        try:
            launch()
            synchronize()
        except Exception as error:  # a kernel may fail in any way
            errors[name] = one_line(error)
    return [name for name in variants if name not in errors], errors


def main() -> None:
    import torch

    from cascadesim.kernels.microbenchmarks import triton

    suite, name, path = sys.argv[1:]
    profiler: Any = torch.cuda.profiler
    variants = case_named(suite, name).prepare("cuda").variants
    x = torch.zeros(16, dtype=torch.float16, device="cuda")
    triton.empty[(1,)](x)
    names, errors = sound(variants, torch.cuda.synchronize)
    profiler.start()
    for each in names:
        triton.empty[(1,)](x)
        variants[each]()
        torch.cuda.synchronize()
    profiler.stop()
    Path(path).write_text(json.dumps({"variants": names, "errors": errors}), encoding="utf-8")


if __name__ == "__main__":
    main()
