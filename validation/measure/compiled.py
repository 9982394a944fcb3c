"""What ran for a variant: the kernels as this machine's compilers made them, and all that ship as they make them.

Looking on never costs what is looked at: what cannot be read of a kernel is said in its place.

`python -m cascadesim.validation.measure.compiled TARGET FILE` writes the static counts of this machine (its Triton, its
ptxas), in the form of kernels/static_counts.json. Needs torch and triton.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

MOST_WORKERS = 8  # processes that compile


def compiled_of(launch: Callable[[], object]) -> list[dict[str, Any]]:
    """Runs it once: the kernels of ours that it launched, in order, each once. None of the library's is seen."""
    with launched() as found:
        launch()
    return list({str(each): each for each in found}.values())


@contextmanager
def launched() -> Iterator[list[dict[str, Any]]]:
    """Filled with every kernel of Triton and of CUDA C++ that is launched meanwhile."""
    from triton.runtime.jit import JITFunction

    from cascadesim.kernels.cuda import driver

    found: list[dict[str, Any]] = []
    of_triton, of_driver = JITFunction.run, driver.launch

    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        kernel = of_triton(self, *arguments, **options)
        if kernel is not None:
            found.append(_seen(_of_triton, kernel))
        return kernel

    def launch(function: Any, grid: Any, threads: int, arguments: Any) -> None:
        of_driver(function, grid, threads, arguments)
        found.append(_seen(_of_cuda, function, threads))

    try:
        JITFunction.run, driver.launch = run, launch
        yield found
    finally:
        JITFunction.run, driver.launch = of_triton, of_driver


def _seen(read: Callable[..., dict[str, Any]], *of: Any) -> dict[str, Any]:
    try:
        return read(*of)
    except Exception as error:  # another version keeps it elsewhere
        return {"unread": f"{type(error).__name__}: {error}"[:200]}


def _of_triton(kernel: Any) -> dict[str, Any]:
    of = kernel.metadata
    return {"kernel": of.name, "warps": of.num_warps, "shared_bytes": of.shared,
            **resources(kernel.asm["cubin"], of.name)}  # fmt: skip


def _of_cuda(function: Any, threads: int) -> dict[str, Any]:
    import torch

    from cascadesim.kernels.cuda.compiler import cubin

    major, minor = torch.cuda.get_device_capability()
    code = cubin(function.source, 10 * major + minor) or b""
    return {"kernel": function.name, "warps": threads // 32, **resources(code, function.name)}


@cache
def resources(cubin: bytes, function: str) -> Mapping[str, Any]:
    """Hash of the machine code's file, registers of a thread, bytes that it spills to its stack; None where no tool of
    Triton's reads them."""
    digest = {"cubin": hashlib.sha256(cubin).hexdigest()[:16]}
    try:
        from cascadesim.validation.kernels.compile import resources_of

        of = resources_of(cubin)[function]
    except (ImportError, OSError, subprocess.SubprocessError, KeyError, StopIteration):
        return {**digest, "registers": None, "spilled_bytes": None}
    return {**digest, "registers": of.get("REG"), "spilled_bytes": of.get("STACK")}


def target_of(capability: str) -> int | None:
    """`9.0` -> the compute capability that our kernels are counted for; None: no kernel is counted for its kind."""
    from cascadesim.validation.kernels.compile import TARGETS

    return {str(target // 10): target for target in TARGETS}.get(capability.partition(".")[0])


def main() -> None:
    from cascadesim.validation.kernels.static_counts import as_text, built

    target, path = int(sys.argv[1]), Path(sys.argv[2])
    workers = max(1, min(MOST_WORKERS, (os.cpu_count() or 2) // 2))
    path.write_text(as_text(built(workers, (target,))), encoding="utf-8")


if __name__ == "__main__":
    main()
