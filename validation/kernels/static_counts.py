"""Static counts of every kernel: `python -m cascadesim.validation.kernels.static_counts [FILE [TARGET]]`.

Registers, shared memory, and instructions of one iteration of each loop by class, for compute capabilities 8.0, 9.0
and 10.0, or for one TARGET such as 90. Written to kernels/static_counts.json, which models of GPUs read. Needs torch
and triton, no GPU; compiles anew.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import resources
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cascadesim.kernels.catalogue import LoopWork, Variant, variants
from cascadesim.kernels.cuda.compiler import available
from cascadesim.validation.kernels import gates
from cascadesim.validation.kernels.compile import TARGETS, Compiled, compiled, toolchain

SCHEMA = "cascadesim.kernels/1"
FILE = "static_counts.json"
WORKERS, MOST_WORKERS = 2, 8  # processes that compile: all targets, or one for `measure` on a machine of its own
PART = 10  # kernels of one run of the disassembler


def built(workers: int = WORKERS, targets: tuple[int, ...] = TARGETS) -> dict[str, Any]:
    """Compiles everything for these compute capabilities; what takes longest first."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = [(target, part) for target, each in zip(targets, pool.map(_parts, targets), strict=True)
                 for part in each]  # fmt: skip
        rows = list(chain.from_iterable(pool.map(_rows_of, reversed(parts))))
        order = [(target, name) for target, each in zip(targets, pool.map(names, targets), strict=True)
                 for name in each]  # fmt: skip
    by_name = {(each["target"], each["name"]): each for each in rows}
    return {"schema": SCHEMA, "toolchain": toolchain(), "kernels": [by_name[case] for case in order]}


def names(target: int) -> tuple[str, ...]:
    """Names of all variants, but those in CUDA C++ where nothing compiles it."""
    return tuple(name for name, variant in _variants(target).items() if available() or not variant.is_cuda)


def _parts(target: int) -> list[tuple[str, ...]]:
    """What one process compiles at a time: few of Triton's, all in CUDA C++, whose sources hold several each."""
    cuda = tuple(name for name in names(target) if _variants(target)[name].is_cuda)
    others = [name for name in names(target) if name not in cuda]
    return [*(tuple(others[start : start + PART]) for start in range(0, len(others), PART)), *([cuda] if cuda else [])]


@cache
def _variants(target: int) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants(target)}


def _rows_of(part: tuple[int, tuple[str, ...]]) -> list[dict[str, Any]]:
    target, chosen = part
    return [row(result) for result in compiled([_variants(target)[name] for name in chosen], target)]


def row(result: Compiled) -> dict[str, Any]:
    """One kernel: `faults` and `conservation` are empty where it may ship."""
    variant = result.variant
    faults, wrong = (*gates.resource_faults(result), *gates.serial_faults(result)), gates.conservation_faults(result)
    return {
        "name": variant.name, "family": variant.family, "target": result.target,
        "constants": {key: value for key, value in variant.constants.items() if not isinstance(value, str)},
        "warps": result.warps, "stages": variant.stages, **({"language": "cuda"} if variant.is_cuda else {}),
        "registers": result.registers, "shared_bytes": result.shared_bytes,
        "instructions": len(gates.instructions(result.sass)),
        "loops": [
            {"matrix_flop": gates.matrix_flop(loop, work, result.warps),
             "exponentials": gates.exponentials_of(loop, result.warps),
             "instructions_per_warp": len(loop.instructions), "classes": loop.classes}
            for loop, work in (() if wrong else _one_of_each(result))
        ],
        "faults": list(faults), "conservation": list(wrong),
    }  # fmt: skip


def _one_of_each(result: Compiled) -> Iterator[tuple[gates.SassLoop, LoopWork]]:
    """A loop with its work; of several copies the longest."""
    found = iter(gates.counted_loops(result))
    for work in result.variant.loops:
        yield max(islice(found, work.copies), key=lambda loop: len(loop.instructions)), work


def as_text(counts: dict[str, Any]) -> str:
    """JSON, one kernel per line, so that a change of one is a change of one line."""
    kernels = ",\n".join(json.dumps(each) for each in counts["kernels"])
    head = {key: value for key, value in counts.items() if key != "kernels"}
    return re.sub(r"\}$", f', "kernels": [\n{kernels}\n]}}\n', json.dumps(head))


def main() -> None:
    if len(sys.argv) == 1 and not available():
        sys.exit("kernel_static: the counts that ship need NVRTC: pip install nvidia-cuda-nvrtc")
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(str(resources.files("cascadesim.kernels"))) / FILE
    if len(sys.argv) > 2:
        workers = max(1, min(MOST_WORKERS, (os.cpu_count() or 2) // 2))
        counts = built(workers, (int(sys.argv[2]),))
    else:
        counts = built()
    path.write_text(as_text(counts), encoding="utf-8")


if __name__ == "__main__":
    main()
