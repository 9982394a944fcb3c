"""Lines of records: written so that an interruption costs one line, read so that a damaged one costs no other.

Records are files that others hand in, so nothing of them is believed: a line that is no record of a known form is
counted with its place and left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, bounded

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
class Lines:
    """Of one file. `damaged`: line -> what is wrong with it."""

    path: Path
    records: tuple[Record, ...]
    damaged: Mapping[int, str]

    @property
    def complaint(self) -> str | None:
        """One line; None where nothing is damaged."""
        if not self.damaged:
            return None
        first, fault = next(iter(self.damaged.items()))
        more = f", and {len(self.damaged) - 1} more" * (len(self.damaged) > 1)
        return bounded(f"{self.path.name}: line {first}{more} left out: {fault}")


def append(path: Path, record: Record) -> None:
    """At once, as a line of its own, also after one that was cut off. Raises CascadeSimError where it cannot."""
    try:
        with path.open("ab+") as file:
            if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
                file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")
    except OSError as error:
        raise CascadeSimError(f"{path}: cannot be written: {error.strerror}") from None


def read(path: Path) -> Lines:
    """Raises CascadeSimError on a file that cannot be read."""
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise CascadeSimError(f"{path}: {path.stat().st_size} bytes are more than records have")
        texts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CascadeSimError(f"{path}: cannot be read: {error.strerror}") from None
    records: list[Record] = []
    damaged: dict[int, str] = {}
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        record = _parsed(text)
        if (problem := "no JSON object" if record is None else fault(record)) is not None:
            damaged[number] = problem
        elif record is not None:
            records.append(record)
    return Lines(path, tuple(records), damaged)


def _parsed(text: bytes) -> Record | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


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
    return _fault_of_sizes(suite, schema, record) or (
        _fault_of_times(record) if schema == TIMES else _fault_of_counters(record)
    )


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _fault_of_sizes(suite: str, schema: str, record: Record) -> str | None:
    shape, work = record.get("shape"), record.get("work", {} if schema == COUNTERS else None)
    if not isinstance(shape, dict) or not isinstance(work, dict):
        return "its shape or its work is no object"
    needed = WORK.get(suite, ()) if schema == TIMES else ()
    return _fault_of_shape(suite, shape) or _fault_of_work(suite, work, needed)


def _fault_of_shape(suite: str, shape: Mapping[str, Any]) -> str | None:
    for name in (*SHAPES[suite], *(name for name in OPTIONAL if name in shape)):
        if not _is_size(shape.get(name)):
            return f"shape: {name} is {_shown(shape.get(name))}, not a size"
    if suite == "attention" and not isinstance(shape.get("causal"), bool):
        return "shape: causal is neither true nor false"
    if suite == "neighborhood" and (wrong := _fault_of_layout(shape)) is not None:
        return wrong
    squared = [shape[name] for name in SHAPES[suite] for _ in range(1 + (name in TOKENS))]
    if math.prod(squared) > LARGEST_WORK:
        return "shape: larger than any device"
    return None


def _fault_of_work(suite: str, work: Mapping[str, Any], needed: Sequence[str]) -> str | None:
    needed = (*needed, *(PLANES if PLANES[0] in work else ()))
    for name in dict.fromkeys((*needed, *work)):
        if not _is_count(work.get(name)) or (name in needed and name != NONE_POSSIBLE and not work[name]):
            return f"work: {name[:40]} is {_shown(work.get(name))}, not a count"
    if WORK["neighborhood"][0] in needed:
        whole, visited, dense = (work[name] for name in (NONE_POSSIBLE, "key_tiles", "dense_key_tiles"))
        if not whole <= visited <= dense:
            return "work: more tiles without a mask than tiles, or more tiles than there are"
    return None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SIZE


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_WORK


def _fault_of_layout(shape: Mapping[str, Any]) -> str | None:
    for name in PER_DIMENSION:
        sizes = shape.get(name)
        if not isinstance(sizes, list) or not 0 < len(sizes) <= 3 or not all(map(_is_size, sizes)):
            return f"shape: {name} is {_shown(sizes)}, not 1 to 3 sizes"
    if len({len(shape[name]) for name in PER_DIMENSION}) > 1:
        return "shape: layout, window, stride and tiles differ in their dimensions"
    tokens = math.prod(shape["layout"])
    return "shape: larger than any device" if tokens**2 * shape["H"] * shape["D"] > LARGEST_WORK else None


def _fault_of_times(record: Record) -> str | None:
    timing, check = record.get("timing"), record.get("check", {})
    if not isinstance(timing, dict) or not isinstance(check, dict):
        return "its times or its checks are no object"
    for name, samples in timing.items():
        if not isinstance(samples, dict):
            return f"timing: {name[:40]} is no object"
        for caches in ("cold", "hot", "many"):
            if not _all(_is_time, samples.get(caches, [])):
                return f"timing: {name[:40]}, {caches}: not all are microseconds"
    wrong = [name for name, error in check.items() if error is not None and not _is_number(error)]
    return f"check: {wrong[0][:40]} is no number" if wrong else None


def _fault_of_counters(record: Record) -> str | None:
    counters = record.get("counters")
    if not isinstance(counters, dict):
        return "its counters are no object"
    for name, kernels in counters.items():
        if not _all(_is_counted, kernels):
            return f"counters: {name[:40]}: not all are kernels with counts"
    return None


def _all(is_right: Callable[[Any], bool], values: Any) -> bool:
    return isinstance(values, list) and all(map(is_right, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1e12


def _is_counted(kernel: Any) -> bool:
    return isinstance(kernel, dict) and isinstance(kernel.get("values"), dict) and all(
        _is_number(value) and value >= 0 for value in kernel["values"].values()
    )
