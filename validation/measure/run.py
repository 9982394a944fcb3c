"""Which cases are still to be measured, how long that takes, and one JSON line for each at once, with all samples.

Times and counters are separate passes, into separate files; a kind of device, driver and libraries has files of its
own. What is in the file already is not run again, with the same code. What failed is tried once more, in a later run.
How long a run takes is told before it, at the predicted times of an H100, so that no model is needed where it is
measured; a test holds the default run to its nine minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from cascadesim.validation.kernels.compile import target_of
from cascadesim.validation.kernels.records import COUNTERS, TIMES, Record, append, committed, read
from cascadesim.validation.measure import timing
from cascadesim.validation.measure.cases import FLEX, FLEX_TILES, BenchmarkCase, cases
from cascadesim.validation.measure.counters import counted, dram_bytes, need_ncu
from cascadesim.validation.measure.device import file_stem, kind_of
from cascadesim.validation.measure.process import Runner, TimeUsedUp, environment
from cascadesim.validation.measure.timing import FEWEST, HIDE_US, ROUNDS

TIMES_SUFFIX, COUNTERS_SUFFIX, COUNTS_SUFFIX = ".jsonl", ".counters.jsonl", ".static_counts.json"
ATTEMPTS = 2  # records of a case, where a part of it fails
STATIC_COUNTS_S = 150.0  # assumed: a minute with eight processes
GRACE_S = 40.0  # in which a case may end that began in time
TIMING_CODE = ("timing", "cases", "prepare", "pruned", "rates", "worker")

GPU = "NVIDIA H100 80GB HBM3"  # whose predicted times the estimate takes
UNKNOWN_S = 1e-3  # assumed: selecting, rates without a model, what torch compiles: up to some milliseconds
FLUSH_S = HIDE_US * 1e-6 + 70e-6  # derived: flushes of 2 x 50 MiB, written and read at 3 TB/s, until HIDE_US is over
SAMPLE_S = 40e-6  # assumed: two events and a wait for the second
PREPARE_S = 0.8  # assumed: inputs, and the driver's clocks before and after
COMPILE_S = 0.6  # kernels note, 2.1: 0.25 to 0.6 s a kernel for sm_90; most variants share one with another case
COMPILED_BY_TORCH_S = 15.0  # assumed: flex_attention through the compiler of torch, the first time
START_S = 30.0  # assumed: torch and a context, and this machine's static counts
# case, variants, end of the run by time.monotonic -> what a record says of it
Look: TypeAlias = Callable[[BenchmarkCase, Sequence[str], float], Mapping[str, Any]]


def run(suites: Sequence[str], output: Path, seconds: float) -> Iterator[str]:
    """Progress, a line per case. Raises CascadeSimError where nothing can be measured."""
    begin = time.monotonic()
    runner = Runner()
    try:
        path, lines = _file(runner.about, output, TIMES_SUFFIX)
        yield from lines
        yield from _static_counts(runner.about, path.with_name(path.name.removesuffix(TIMES_SUFFIX) + COUNTS_SUFFIX))
        chosen = [case for case in cases() if case.suite in suites]
        left_over = [case for case, wanted in _wanted(chosen, path, TIMES, runner.about) if wanted]
        yield f"{len(left_over)} of {len(chosen)} cases to measure, about {estimated_s(left_over):.0f} s on an H100"
        left = seconds - (time.monotonic() - begin)
        for line in recorded(chosen, path, TIMES, runner.about, runner.run, left):
            yield line
            if runner.gone is not None:
                return
    finally:
        runner.close()


def count(suites: Sequence[str], output: Path, seconds: float) -> Iterator[str]:
    """Likewise for counters; every case has a process of its own, under ncu."""
    ncu = need_ncu()
    runner = Runner()
    runner.close()
    path, lines = _file(runner.about, output, COUNTERS_SUFFIX)
    yield from lines
    chosen = [case for case in cases() if case.suite in suites]
    yield from recorded(chosen, path, COUNTERS, runner.about, lambda case, *_: attempted(case, ncu), seconds)


def attempted(case: BenchmarkCase, ncu: str) -> Mapping[str, Any]:
    try:
        return counted(case, ncu)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}


def _file(about: Mapping[str, Any], output: Path, suffix: str) -> tuple[Path, list[str]]:
    """Where this kind of device has its records, and what to say of it."""
    kind = kind_of(about)
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{file_stem(kind)}{suffix}"
    others = [each.name for each in sorted(output.glob(f"*{suffix}"))
              if each != path and (suffix != TIMES_SUFFIX or not each.name.endswith(COUNTERS_SUFFIX))]  # fmt: skip
    named = ", ".join(str(kind[name]) for name in ("name", "driver_version", "torch", "triton"))
    if path.exists():
        lines = read(path)
        goes_on = f"{named}: goes on in {path}, {len(lines.records)} records of this kind are there"
        return path, [goes_on, *lines.complaints]
    beside = f"; of other kinds, and left as they are: {', '.join(others)}" if others else ""
    return path, [f"{named}: a new file, {path}{beside}"]


def _static_counts(about: Mapping[str, Any], path: Path) -> Iterator[str]:
    """What this machine's compilers make of our kernels, once; where that fails, measuring goes on."""
    if path.exists():
        return
    target = target_of(about["device"]["compute_capability"])
    if target is None:
        yield f"static counts: none for compute capability {about['device']['compute_capability']}"
        return
    command = [sys.executable, "-m", "cascadesim.validation.kernels.static_counts", str(path), str(target)]
    if (problem := _problem_of(command, STATIC_COUNTS_S)) is None:
        yield f"static counts of this machine's compilers: {path.name}"
        return
    path.write_text(json.dumps({"schema": "cascadesim.kernels/1", "error": problem}) + "\n", encoding="utf-8")
    yield f"static counts: none, and not tried again for this kind: {problem}"


def _problem_of(command: Sequence[str], within_s: float) -> str | None:
    """None where the program ends well in time; none of its processes outlives this."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=environment(), start_new_session=True)  # fmt: skip
    try:
        _, said = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        return f"not done within {within_s:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return None if process.returncode == 0 else "".join(said.strip().splitlines()[-1:])[:300] or "no reason given"


def recorded(
    chosen: Sequence[BenchmarkCase], path: Path, schema: str, about: Mapping[str, Any], look: Look, seconds: float,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[str]:  # fmt: skip
    """Measures what the file does not have, until the time is used."""
    ends = now() + seconds
    for number, (case, wanted) in enumerate(_wanted(chosen, path, schema, about)):
        place = f"[{number + 1}/{len(chosen)}] {case.suite}: {case.name}"
        if not wanted:
            yield f"{place}: already there"
            continue
        used_up = f"time is used up: {len(chosen) - number} cases left; run again to go on"
        if now() > ends:
            yield used_up
            return
        try:
            found = look(case, wanted, ends + GRACE_S)
        except TimeUsedUp:
            yield used_up
            return
        line = {"id": identity_of(case, schema, about), **described(case, schema), **about, **found}
        append(path, line)
        yield f"{place}: {summary(line)}"


def _wanted(
    chosen: Sequence[BenchmarkCase], path: Path, schema: str, about: Mapping[str, Any]
) -> list[tuple[BenchmarkCase, tuple[str, ...]]]:
    """Each case with the variants of which no record of the file has anything; none where it was tried too often."""
    there: dict[str, list[Record]] = {}
    for record in read(path).records if path.exists() else ():
        there.setdefault(str(record.get("id")), []).append(record)
    found = []
    for case in chosen:
        own = there.get(identity_of(case, schema, about), [])
        tried = len(own) >= ATTEMPTS or any("counters" in record for record in own)
        done = {name for record in own for name in record.get("timing", {})}
        found.append((case, () if tried else tuple(name for name in case.variants if name not in done)))
    return found


def described(case: BenchmarkCase, schema: str) -> dict[str, Any]:
    """What a record says about the case itself."""
    return {"schema": schema, "suite": case.suite, "case": case.name, "shape": dict(case.shape),
            "work": dict(case.work), "code": source_hash(), "timing_code": timing_hash(),
            "date": time.strftime("%Y-%m-%d")}  # fmt: skip


def identity_of(case: BenchmarkCase, schema: str, about: Mapping[str, Any]) -> str:
    """BenchmarkCase, code, and kind of device: another card of the kind goes on."""
    content = [schema, case.suite, case.name, sorted(case.shape.items()), source_hash(), timing_hash(), kind_of(about)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def source_hash() -> str:
    """Hashes all kernel sources: a changed kernel is measured again."""
    folder = Path(str(resources.files("cascadesim.kernels")))
    return _digest(path for suffix in ("py", "cu", "cuh") for path in sorted(folder.rglob(f"*.{suffix}")))


@cache
def timing_hash() -> str:
    """Hashes what decides what is timed, and how."""
    folder = Path(str(resources.files("cascadesim.validation.measure")))
    return _digest(folder / f"{name}.py" for name in TIMING_CODE)


def _digest(paths: Iterator[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def summary(line: Record) -> str:
    parts = [f"{name} {dram_bytes(kernels) / 1e6:.1f} MB" for name, kernels in line.get("counters", {}).items()]
    times = {name: each["cold"] or each["hot"] for name, each in line.get("timing", {}).items()}
    parts += [f"{name} {sorted(samples)[len(samples) // 2]:.1f} us" for name, samples in times.items() if samples]
    parts += [f"{name}: {text[:100]}" for name, text in line.get("errors", {}).items()]
    return ", ".join((*parts, *([str(line["error"])] if "error" in line else ())))


def estimated_s(chosen: Iterable[BenchmarkCase]) -> float:
    """Seconds of a run of these cases: what the timer does with each variant, at its predicted time."""
    each = []
    for case in chosen:
        total_s = PREPARE_S
        for variant in case.variants:
            row = committed().get((GPU, case.suite, case.name, variant))
            launch_s = row.seconds if row is not None and row.seconds is not None else UNKNOWN_S
            total_s += COMPILED_BY_TORCH_S if variant in (FLEX, FLEX_TILES) else COMPILE_S
            total_s += timed_s(launch_s)
        each.append(total_s)
    return START_S * bool(each) + sum(each)


def timed_s(launch_s: float) -> float:
    """Warm-up, rounds with cold and hot caches (hot: the call once more, ahead), and the graphs of short kernels."""
    count = ROUNDS * timing.samples_of_round(launch_s * 1e6)
    many_s = FEWEST * ROUNDS * (2 * timing.GRAPH_LAUNCHES * launch_s + FLUSH_S)
    each_s = 3 * launch_s + 2 * (FLUSH_S + SAMPLE_S)
    return timing.WARM_UP_S + count * each_s + (many_s if launch_s * 1e6 < timing.SHORT_US else 0.0)
