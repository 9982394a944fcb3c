"""Runs cases and appends one JSON line for each at once: what was run, on what, all samples, and that it was right.

Times and counters are separate passes, into separate files.

A case that is in the file already, with the same code and device, is skipped; one that fails is recorded with its
error.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from cascadesim.kernels.cuda.launch import available
from cascadesim.validation.measure_cases import Case, cases
from cascadesim.validation.measure_counters import counted, dram_bytes, need_ncu
from cascadesim.validation.measure_device import SAMPLED, device, environment, sampled, slug
from cascadesim.validation.measure_estimate import seconds_of
from cascadesim.validation.measure_timing import CudaTimer, Launch, Samples

SCHEMA = "cascadesim.measurement/1"
TIMES = ".jsonl"  # how a file of times ends; of counters, .counters.jsonl
Look: TypeAlias = Callable[[Case], Mapping[str, Any]]  # what is found out about a case


class Timer(Protocol):
    def measure(self, variants: Mapping[str, Launch]) -> dict[str, Samples]: ...
    def clock_mhz(self) -> dict[str, Any]: ...


def run(suites: Sequence[str], output: Path, seconds: float) -> Iterator[str]:
    """Progress, a line per case; stops before the next case when the time is used."""
    timer = CudaTimer(seed=7)
    if not available("cuda"):
        yield "kernels in CUDA C++ are left out: they need NVRTC (pip install nvidia-cuda-nvrtc) or nvcc"
    yield from _recorded(suites, output, TIMES, lambda case: timed(case, timer), seconds)


def count(suites: Sequence[str], output: Path, seconds: float) -> Iterator[str]:
    """Likewise for counters."""
    ncu = need_ncu()
    yield from _recorded(suites, output, ".counters.jsonl", lambda case: counted(case, ncu), seconds)


def _recorded(suites: Sequence[str], output: Path, suffix: str, look: Look, seconds: float) -> Iterator[str]:
    found = device()
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{slug(found['name'])}{suffix}"
    yield f"{found['name']}: records in {path}"
    chosen = [case for case in cases("cuda") if case.suite in suites]
    if suffix == TIMES:
        yield f"{len(chosen)} cases, about {seconds_of(chosen):.0f} s on an H100"
    yield from record(chosen, path, {"device": found, "env": environment()}, look, seconds)


def record(chosen: Sequence[Case], path: Path, about: Mapping[str, Any], look: Look, seconds: float,
           now: Callable[[], float] = time.monotonic) -> Iterator[str]:  # fmt: skip
    done = known(path)
    deadline = now() + seconds
    for number, case in enumerate(chosen):
        place = f"[{number + 1}/{len(chosen)}] {case.suite}: {case.name}"
        identity = identity_of(case, about)
        if identity in done:
            yield f"{place}: already measured"
            continue
        if now() > deadline:
            yield f"time is used up: {len(chosen) - number} cases left; run again to go on"
            return
        line = {"id": identity, **about, **outcome(case, look)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        yield f"{place}: {summary(line)}"


def outcome(case: Case, look: Look) -> dict[str, Any]:
    """What a record says about the case itself."""
    described = {"schema": SCHEMA, "suite": case.suite, "case": case.name, "shape": dict(case.shape),
                 "work": dict(case.work), "code": source_hash(), "date": time.strftime("%Y-%m-%d")}  # fmt: skip
    try:
        return {**described, **look(case)}
    except Exception as error:  # a kernel may fail in any way; the record says how, and the next case runs
        return {**described, "error": f"{type(error).__name__}: {str(error)[:500]}"}


def timed(case: Case, timer: Timer) -> dict[str, Any]:
    prepared = case.prepare()
    checks = {name: check() for name, check in prepared.checks.items()}
    before = timer.clock_mhz()
    with sampled(*SAMPLED) as meanwhile:
        samples = timer.measure(prepared.variants)
    return {"check": checks, "clocks": [before, timer.clock_mhz()], "sampled": meanwhile, "unit": "us",
            "timing": {name: asdict(each) for name, each in samples.items()}}  # fmt: skip


def identity_of(case: Case, about: Mapping[str, Any]) -> str:
    content = [case.suite, case.name, sorted(case.shape.items()), source_hash(), about["device"], about["env"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def known(path: Path) -> set[str]:
    """Records without an error; a line cut off by an interruption is none."""
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "error" not in entry:
            found.add(entry["id"])
    return found


@cache
def source_hash() -> str:
    """Of all kernel sources: a changed kernel is measured again."""
    folder = resources.files("cascadesim.kernels")
    paths = [path for suffix in ("py", "cu", "cuh") for path in sorted(Path(str(folder)).rglob(f"*.{suffix}"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def summary(line: Mapping[str, Any]) -> str:
    if "error" in line:
        return str(line["error"])
    if "counters" in line:
        return ", ".join(f"{name} {dram_bytes(kernels) / 1e6:.1f} MB" for name, kernels in line["counters"].items())
    medians = {
        name: sorted(each["cold"])[len(each["cold"]) // 2] for name, each in line["timing"].items() if each["cold"]
    }
    return ", ".join(f"{name} {value:.1f} us" for name, value in medians.items())
