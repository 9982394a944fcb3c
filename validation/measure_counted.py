"""Runs the variants of one case once each, for ncu: `python -m cascadesim.validation.measure_counted SUITE CASE FILE`.

Everything runs once before, so that compilation is over; then a marker kernel and the variant, in the order that FILE
receives as JSON. Needs a GPU; started by `measure_counters`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cascadesim.validation.measure_cases import Case, cases


def case_named(suite: str, name: str) -> Case:
    """Raises KeyError."""
    return {(case.suite, case.name): case for case in cases()}[suite, name]


def main() -> None:
    import torch

    from cascadesim.kernels.microbenchmarks import triton

    suite, name, path = sys.argv[1:]
    profiler: Any = torch.cuda.profiler
    variants = case_named(suite, name).prepare("cuda").variants
    x = torch.zeros(16, dtype=torch.float16, device="cuda")
    for launch in (lambda: triton.empty[(1,)](x), *variants.values()):
        launch()
    torch.cuda.synchronize()
    profiler.start()
    for launch in variants.values():
        triton.empty[(1,)](x)
        launch()
        torch.cuda.synchronize()
    profiler.stop()
    Path(path).write_text(json.dumps(list(variants)), encoding="utf-8")


if __name__ == "__main__":
    main()
