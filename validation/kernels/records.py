"""Our measurements: lines of records, and the times that were predicted before any record existed.

Records are JSON lines that `cascadesim measure` writes, so that an interruption costs one line and a damaged line costs
no other; they live under measurements/<device>/ beside `predictions.csv`, or where `--data` says. Files that others
hand in are not believed: a line that is no record of a known form is counted with its place and left out. Needs the
standard library alone, since `measure` reads and writes here too; compares nothing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, bounded

MEASUREMENTS = Path(str(resources.files("cascadesim.validation"))) / "measurements"
PREDICTIONS = "predictions.csv"
FROM_COUNTERS = ("spatten-kernels", "cascade-passes")
RECORD_SUITES = ("kernels-predicted", "kernels-measured", "gna-kernels", *FROM_COUNTERS)
TIMES, COUNTERS = "cascadesim.measurement/2", "cascadesim.counters/1"
LARGEST_FILE_BYTES = 1 << 28  # assumed: a run writes a few megabytes
LARGEST_SIZE = 1 << 31
LARGEST_WORK = 1 << 60  # product of all sizes of a case
SHAPES: Mapping[str, tuple[str, ...]] = {
    "attention": ("B", "H", "L", "D"), "decode": ("B", "H", "G", "M", "D"), "neighborhood": ("H", "D"),
    "pruned": ("B", "H", "M", "D"), "microbenchmarks": (),
}  # fmt: skip # suite -> sizes that each of its cases states
OPTIONAL = ("kept", "kept_heads")
TOKENS = ("L", "M")  # each meets each, at most
PER_DIMENSION = ("layout", "window", "stride", "query_tile", "key_tile")
WORK: Mapping[str, tuple[str, ...]] = {
    "attention": ("flop",), "decode": ("bytes",), "neighborhood": ("key_tiles", "without_mask", "dense_key_tiles"),
}  # fmt: skip # suite -> work that comparisons of its times need
PLANES = ("upper_bytes", "all_bytes", "full_width_bytes")  # of keys in planes: all of them, or none
NONE_POSSIBLE = "without_mask"  # tiles: all of them may have one
Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class PredictedTime:
    """`seconds` None: nothing is predicted, `why`."""

    gpu: str
    suite: str
    case: str
    variant: str
    seconds: float | None
    why: str
    commit: str


@cache
def committed() -> Mapping[tuple[str, str, str, str], PredictedTime]:
    """(GPU, suite, case, variant) -> its row of the file that ships; `predicted_times` writes it."""
    path = MEASUREMENTS / PREDICTIONS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = (PredictedTime(each["gpu"], each["suite"], each["case"], each["variant"],
                          float(each["seconds"]) if each["seconds"] else None, each["why"], each["commit"])
            for each in csv.DictReader(lines))  # fmt: skip
    return {(row.gpu, row.suite, row.case, row.variant): row for row in rows}


@dataclass(frozen=True)
class Records:
    """What some files hold. `complaints`: one line for each file with damaged lines."""

    files: tuple[Path, ...]
    records: tuple[Record, ...] = ()
    complaints: tuple[str, ...] = ()

    def not_judged(self, name: str) -> str:
        """One line that says why the suite judges nothing."""
        if not self.records:
            options = " --counters" * (name in FROM_COUNTERS)
            return f"{name}: no records, so not passed; `cascadesim measure{options}` on a GPU writes them"
        return f"{name}: {len(self.files)} files of records, but nothing to hold against them, so not passed"


def records_of(given: Path | None) -> Records:
    """Those of a file, or of a folder with files; those that ship if none is given. Raises CascadeSimError where there
    are none."""
    path = given or MEASUREMENTS
    files = tuple(sorted(path.rglob("*.jsonl"))) if path.is_dir() else (path,) if path.exists() else ()
    if given is not None and not files:
        raise CascadeSimError(f"{path}: no file of records (.jsonl) there")
    each = [read(file) for file in files]
    return Records(files, tuple(record for one in each for record in one.records),
                   tuple(complaint for one in each for complaint in one.complaints))  # fmt: skip


def divided(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(suites of published figures, suites of records) among the named ones; all of the latter if none is named."""
    published = tuple(name for name in names if name not in RECORD_SUITES)
    recorded = tuple(name for name in dict.fromkeys(names) if name in RECORD_SUITES)
    return published, recorded if names else RECORD_SUITES


def append(path: Path, record: Record) -> None:
    """Writes a line of its own at once, also after one that was cut off. Raises CascadeSimError where it cannot."""
    try:
        with path.open("ab+") as file:
            if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
                file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")
    except OSError as error:
        raise CascadeSimError(f"{path}: cannot be written: {error.strerror}") from None


def read(path: Path) -> Records:
    """Those of one file. Raises CascadeSimError on a file that cannot be read."""
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise CascadeSimError(f"{path}: {path.stat().st_size} bytes are more than records have")
        texts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CascadeSimError(f"{path}: cannot be read: {error.strerror}") from None
    records: list[Record] = []
    damaged: dict[int, str] = {}  # line -> what is wrong with it
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        problem = fault(record) if isinstance(record, dict) else "no JSON object"
        if problem is None:
            records.append(record)
        else:
            damaged[number] = problem
    if not damaged:
        return Records((path,), tuple(records))
    first, problem = next(iter(damaged.items()))
    more = f", and {len(damaged) - 1} more" * (len(damaged) > 1)
    return Records((path,), tuple(records), (bounded(f"{path.name}: line {first}{more} left out: {problem}"),))


def fault(record: Record) -> str | None:
    """What is wrong with a record, in a few words; None if it can be compared."""
    schema, suite = record.get("schema"), record.get("suite")
    if schema not in (TIMES, COUNTERS):
        return f"schema is {_shown(schema)}, known: {TIMES}, {COUNTERS}"
    if not isinstance(suite, str) or suite not in SHAPES:
        return f"no suite {_shown(suite)}; known: {', '.join(SHAPES)}"
    device = record.get("device")
    if not isinstance(record.get("case"), str) or not isinstance(device, dict):
        return "names no case, or no device"
    if not isinstance(device.get("name"), str):
        return "its device has no name"
    if "error" in record and "timing" not in record and "counters" not in record:
        return None
    shape, work = record.get("shape"), record.get("work", {} if schema == COUNTERS else None)
    if not isinstance(shape, dict) or not isinstance(work, dict):
        return "its shape or its work is no object"
    needed = WORK.get(suite, ()) if schema == TIMES else ()
    return _fault_of_shape(suite, shape) or _fault_of_work(work, needed) or (
        _fault_of_times(record) if schema == TIMES else _fault_of_counters(record)
    )


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _fault_of_shape(suite: str, shape: Mapping[str, Any]) -> str | None:
    for name in (*SHAPES[suite], *(name for name in OPTIONAL if name in shape)):
        if not _is_size(shape.get(name)):
            return f"shape: {name} is {_shown(shape.get(name))}, not a size"
    if suite == "attention" and not isinstance(shape.get("causal"), bool):
        return "shape: causal is neither true nor false"
    if suite == "neighborhood" and (wrong := _fault_of_layout(shape)) is not None:
        return wrong
    squared = [shape[name] for name in SHAPES[suite] for _ in range(1 + (name in TOKENS))]
    return "shape: larger than any device" if math.prod(squared) > LARGEST_WORK else None


def _fault_of_layout(shape: Mapping[str, Any]) -> str | None:
    for name in PER_DIMENSION:
        sizes = shape.get(name)
        if not isinstance(sizes, list) or not 0 < len(sizes) <= 3 or not all(map(_is_size, sizes)):
            return f"shape: {name} is {_shown(sizes)}, not 1 to 3 sizes"
    if len({len(shape[name]) for name in PER_DIMENSION}) > 1:
        return "shape: layout, window, stride and tiles differ in their dimensions"
    tokens = math.prod(shape["layout"])
    return "shape: larger than any device" if tokens**2 * shape["H"] * shape["D"] > LARGEST_WORK else None


def _fault_of_work(work: Mapping[str, Any], needed: Sequence[str]) -> str | None:
    needed = (*needed, *(PLANES if PLANES[0] in work else ()))
    for name in dict.fromkeys((*needed, *work)):
        if not _is_whole(work.get(name), LARGEST_WORK) or (name in needed and name != NONE_POSSIBLE and not work[name]):
            return f"work: {name[:40]} is {_shown(work.get(name))}, not a count"
    if WORK["neighborhood"][0] in needed:
        whole, visited, dense = (work[name] for name in (NONE_POSSIBLE, "key_tiles", "dense_key_tiles"))
        if not whole <= visited <= dense:
            return "work: more tiles without a mask than tiles, or more tiles than there are"
    return None


def _is_size(value: Any) -> bool:
    return _is_whole(value, LARGEST_SIZE) and value > 0


def _is_whole(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest


def _fault_of_times(record: Record) -> str | None:
    timing, check = record.get("timing"), record.get("check", {})
    if not isinstance(timing, dict) or not isinstance(check, dict):
        return "its times or its checks are no object"
    for name, samples in timing.items():
        if not isinstance(samples, dict):
            return f"timing: {name[:40]} is no object"
        for caches in ("cold", "hot", "many"):
            if not _all(lambda time: _is_number(time) and 0 < time < 1e12, samples.get(caches, [])):
                return f"timing: {name[:40]}, {caches}: not all are microseconds"
    wrong = [name for name, error in check.items() if error is not None and not _is_number(error)]
    return f"check: {wrong[0][:40]} is no number" if wrong else None


def _fault_of_counters(record: Record) -> str | None:
    def is_counted(kernel: Any) -> bool:
        values = kernel.get("values") if isinstance(kernel, dict) else None
        return isinstance(values, dict) and all(_is_number(value) and value >= 0 for value in values.values())

    counters = record.get("counters")
    if not isinstance(counters, dict):
        return "its counters are no object"
    for name, kernels in counters.items():
        if not _all(is_counted, kernels):
            return f"counters: {name[:40]}: not all are kernels with counts"
    return None


def _all(is_right: Callable[[Any], bool], values: Any) -> bool:
    return isinstance(values, list) and all(map(is_right, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
