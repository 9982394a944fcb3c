"""Runs the variants of one case once each, for ncu: `python -m cascadesim.validation.measure.counted SUITE CASE FILE`.

Everything runs once before, so that compilation is over, and what fails then is left out; then a marker kernel and the
variant, in the order that FILE receives as JSON, with what failed. Needs a GPU; started by `counters`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cascadesim.validation.measure.cases import Case, cases
from cascadesim.validation.measure.timing import Launch
from cascadesim.validation.measure.worker import one_line


def case_named(suite: str, name: str) -> Case:
    """Raises KeyError."""
    return {(case.suite, case.name): case for case in cases()}[suite, name]


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
