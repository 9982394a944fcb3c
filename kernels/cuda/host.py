"""CUDA C++ on a CPU, for tests: a source compiled by the C++ compiler of this machine through host_shim.h.

What it checks and what it cannot is said in that header. Needs g++ or clang++ with C++17 and, for fibers, ucontext.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cascadesim.kernels.cuda.source import FOLDER, CudaFunction, Source

OPTIONS = ("-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-x", "c++")


@cache
def compiler() -> str | None:
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def launch(function: CudaFunction, grid: Sequence[int], threads: int, arguments: Sequence[Any]) -> None:
    """`arguments`: ctypes values. RuntimeError where threads of a block wait for each other in vain."""
    run(library(function.source), function.name, grid, threads, arguments)


def run(library: ctypes.CDLL, name: str, grid: Sequence[int], threads: int, arguments: Sequence[Any]) -> None:
    given = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(each) for each in arguments))
    x, y, z = (*grid, 1, 1)[:3]
    if getattr(library, f"host_{name}")(given, x, y, z, threads):
        raise RuntimeError(f"{name}: threads of a block wait for others that never arrive")


@cache
def library(source: Source) -> ctypes.CDLL:
    """All kernels of a source, compiled for this machine."""
    return compiled(f'#include "{source.path}"', source.functions)


def compiled(text: str, functions: Sequence[str]) -> ctypes.CDLL:
    """`functions`: kernels of the text that can be run. RuntimeError with the compiler's message."""
    if (command := compiler()) is None:
        raise RuntimeError("CUDA C++ on a CPU needs a C++ compiler: g++ or clang++")
    entries = "\n".join(f"HOST_ENTRY({name})" for name in functions)
    path = Path(tempfile.mkdtemp(dir=_folder().name)) / "kernels"
    path.with_suffix(".cpp").write_text(f'#include "host_shim.h"\n{text}\n{entries}\n', encoding="utf-8")
    arguments = [*OPTIONS, "-I", str(FOLDER), str(path.with_suffix(".cpp")), "-o", str(path.with_suffix(".so"))]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return ctypes.CDLL(str(path.with_suffix(".so")))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Deleted when the process ends."""
    return tempfile.TemporaryDirectory(prefix="cascadesim-host-")
