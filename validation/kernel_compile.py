"""Kernels compiled ahead of time for GPUs that are not here: cubin, registers, shared memory, spills.

`triton.compile` and NVRTC need no driver; ptxas and nvdisasm come with Triton. Functions must not be decorated for the
interpreter: run this in a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cascadesim.kernels.cuda.compiler import compiler_name, cubin
from cascadesim.kernels.cuda.source import Source
from cascadesim.kernels.variant import Variant

REGISTERS_PER_SM = 65536  # CUDA C++ programming guide, table of compute capabilities: 8.0, 9.0, 10.0
REGISTERS_PER_THREAD = 255  # likewise
SHARED_BYTES_PER_BLOCK = {80: 166912, 90: 232448, 100: 232448}  # likewise: 163, 227, 227 KiB
TARGETS = tuple(SHARED_BYTES_PER_BLOCK)
THREADS_PER_WARP = 32


@dataclass(frozen=True)
class Compiled:
    """`sass`: the disassembly. `warps`: as compiled, which warp specialisation may raise."""

    variant: Variant
    target: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    warps: int
    sass: str


def compiled(variant: Variant, target: int) -> Compiled:
    if variant.is_cuda:
        return _cuda_compiled(variant, target)
    kernel = _triton_compile(variant, target)
    sass, usage = disassembled(kernel.asm["cubin"])
    resources = resources_of(usage, variant.function.__name__)
    return Compiled(variant, target, resources["REG"], resources["STACK"], kernel.metadata.shared,
                    kernel.metadata.num_warps, sass)  # fmt: skip


def _cuda_compiled(variant: Variant, target: int) -> Compiled:
    function = variant.function
    sass, usage = disassembled_source(function.source, target)
    resources = resources_of(usage, function.name)
    return Compiled(variant, target, resources["REG"], resources["STACK"], resources["SHARED"], variant.warps,
                    sass_of(sass, function.name))  # fmt: skip


@cache
def disassembled_source(source: Source, target: int) -> tuple[str, str]:
    """All kernels of a CUDA C++ source."""
    code = cubin(source, target)
    if code is None:
        raise RuntimeError("CUDA C++ needs NVRTC (pip install nvidia-cuda-nvrtc) or nvcc")
    return disassembled(code)


def sass_of(sass: str, function: str) -> str:
    """nvdisasm prints each function in a section of its own."""
    return sass.split(f"\n.text.{function}:", 1)[1].split("//----", 1)[0]


def resources_of(usage: str, function: str) -> dict[str, int]:
    """cuobjdump's line of one function: registers, bytes of stack, of shared memory, and more."""
    line = usage.split(f"Function {function}:", 1)[1].split("Function ", 1)[0]
    return {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", line)}


def disassembled(cubin: bytes) -> tuple[str, str]:
    """Instructions, and the resources of each function."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return _tool("nvdisasm", "-c", file.name), _tool("cuobjdump", "--dump-resource-usage", file.name)


def _triton_compile(variant: Variant, target: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.function.arg_names
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    aligned = [name for name, kind in variant.signature.items() if _divisible(kind) and name not in variant.unaligned]
    source = ASTSource(
        fn=variant.function,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in variant.constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": variant.warps, "num_stages": variant.stages, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", target, THREADS_PER_WARP), options=options)


def _divisible(kind: str) -> bool:
    """What the just-in-time compiler finds aligned on real calls: pointers, and sizes that divide by 16."""
    return kind.startswith("*") or kind == "i32"


@cache
def _tools() -> Path:
    import triton.backends.nvidia

    return Path(next(iter(triton.backends.nvidia.__path__))) / "bin"


def _tool(name: str, *arguments: str) -> str:
    command = [str(_tools() / name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def toolchain() -> dict[str, str]:
    """What the counts belong to: other versions give other registers and instructions."""
    import triton

    release = {name: re.findall(r"V(\d+\.\d+\.\d+)", _tool(name, "--version")) for name in ("ptxas", "ptxas-blackwell")}
    versions = {name: found[0] if found else "" for name, found in release.items()}
    return {"triton": triton.__version__, **versions, "cuda": compiler_name()}
