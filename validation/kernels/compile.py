"""Kernels compiled ahead of time for GPUs that are not here: cubin, registers, shared memory, spills.

`triton.compile` and NVRTC need no driver; ptxas and nvdisasm come with Triton. Functions must not be decorated for the
interpreter: run this in a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from itertools import accumulate
from pathlib import Path
from typing import Any

from cascadesim.kernels.catalogue import Variant
from cascadesim.kernels.cuda.compiler import architecture, compiler_name, cubin

REGISTERS_PER_SM = 65536  # CUDA C++ programming guide, table of compute capabilities: 8.0, 9.0, 10.0
REGISTERS_PER_THREAD = 255  # likewise
SHARED_BYTES_PER_BLOCK = {80: 166912, 90: 232448, 100: 232448}  # likewise: 163, 227, 227 KiB
TARGETS = tuple(SHARED_BYTES_PER_BLOCK)
THREADS_PER_WARP = 32
CODE = ".text."
ADVICE = re.compile(r"\(?C75\d\d\)?.*")
ADDRESS = re.compile(r"\s*/\*([0-9a-f]+)\*/\s+\S")


@dataclass(frozen=True)
class Compiled:
    """`sass`: the disassembly. `warps`: as compiled, which warp specialisation may raise. `messages`: what ptxas
    advises of performance, C75xx."""

    variant: Variant
    target: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    warps: int
    sass: str
    messages: tuple[str, ...] = ()


def compiled(variants: Sequence[Variant], target: int) -> tuple[Compiled, ...]:
    """Several at a time, because the disassembler takes longer to start than to disassemble."""
    each = [_built(variant, target) for variant in variants]
    texts = disassembled([code for code, _ in each], target)
    return tuple(replace(built, sass=sass) for (_, built), sass in zip(each, texts, strict=True))


def _built(variant: Variant, target: int) -> tuple[bytes, Compiled]:
    """Machine code of the variant's function, and what is known of it but the disassembly."""
    if variant.is_cuda:
        name, code = variant.function.name, cubin(variant.function.source, target)
        resources = resources_of(code)[name]
        warps, shared, messages = variant.warps, resources["SHARED"], ()
    else:
        kernel, log = _triton_compile(variant, target)
        name, code = kernel.metadata.name, kernel.asm["cubin"]
        resources = resources_of(code)[name]
        warps, shared, messages = kernel.metadata.num_warps, kernel.metadata.shared, tuple(ADVICE.findall(log))
    return code_of(code)[name], Compiled(variant, target, resources["REG"], resources["STACK"], shared, warps, "",
                                         messages)  # fmt: skip


def code_of(cubin: bytes) -> dict[str, bytes]:
    """Machine code of each function: the sections .text.<function> of an ELF file of 64 bits."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + size * number) for number in range(count)]
    found = {}
    for name, _, _, _, offset, length in sections:
        start = sections[names][4] + name
        text = cubin[start : cubin.index(b"\0", start)].decode()
        if text.startswith(CODE):
            found[text.removeprefix(CODE)] = cubin[offset : offset + length]
    return found


def disassembled(codes: Sequence[bytes], target: int) -> list[str]:
    """One run of nvdisasm over all of them, end to end."""
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(codes))
        file.flush()
        lines = _tool("nvdisasm", "--binary", f"SM{architecture(target)}", file.name).splitlines()
    ends = list(accumulate(map(len, codes)))
    texts: list[list[str]] = [[] for _ in codes]
    for line in lines:
        if found := ADDRESS.match(line):
            texts[bisect_right(ends, int(found[1], 16))].append(line)
    return ["\n".join(text) for text in texts]


def resources_of(cubin: bytes) -> dict[str, dict[str, int]]:
    """Function -> its registers, bytes of stack, of shared memory, and more."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
    return {name: {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
            for name, line in re.findall(r"Function (\w+):\n(.*)", usage)}  # fmt: skip


def _triton_compile(variant: Variant, target: int) -> tuple[Any, str]:
    """(the kernel, what ptxas printed). Compiles anew, because a kernel that was kept has no messages."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.function.arg_names
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    # what the just-in-time compiler finds aligned on real calls: pointers, and sizes that divide by 16
    aligned = [name for name, kind in variant.signature.items()
               if (kind.startswith("*") or kind == "i32") and name not in variant.unaligned]  # fmt: skip
    source = ASTSource(
        fn=variant.function,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in variant.constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": variant.warps, "num_stages": variant.stages, "enable_fp_fusion": True}
    log = StringIO()
    with triton.knobs.nvidia.scope(), triton.knobs.compilation.scope(), redirect_stdout(log):
        triton.knobs.nvidia.dump_ptxas_log = triton.knobs.compilation.always_compile = True
        kernel = triton.compile(source, target=GPUTarget("cuda", target, THREADS_PER_WARP), options=options)
    return kernel, log.getvalue()


def _tool(name: str, *arguments: str) -> str:
    """What a tool that comes with Triton prints."""
    import triton.backends.nvidia

    command = [str(Path(next(iter(triton.backends.nvidia.__path__))) / "bin" / name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def target_of(capability: str) -> int | None:
    """`9.0` -> the compute capability that our kernels are compiled for; None: for nothing of its kind."""
    return {str(target // 10): target for target in TARGETS}.get(capability.partition(".")[0])


def toolchain() -> dict[str, str]:
    """What the counts belong to: other versions give other registers and instructions."""
    import triton

    release = {name: re.findall(r"V(\d+\.\d+\.\d+)", _tool(name, "--version")) for name in ("ptxas", "ptxas-blackwell")}
    versions = {name: found[0] if found else "" for name, found in release.items()}
    return {"triton": triton.__version__, **versions, "cuda": compiler_name()}
