"""What a measurement belongs to: device, driver and libraries, and the kernels as this machine's compilers made them.

Reads, never sets; a serial number is hashed. `kind` is what a record must share to belong to the same file: the card
itself may be another one of its kind. Looking on never costs what is looked at: what cannot be read of a kernel is said
in its place.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from cascadesim.kernels.cuda import compiler
from cascadesim.kernels.cuda import launch as cuda
from cascadesim.validation.kernels import compile as kernel_compile

SAMPLED = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")  # while a case is timed
KIND = ("name", "compute_capability", "driver_version", "torch", "triton", "cuda")


def device() -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(0)
    reported = query("uuid", "driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem")
    uuid = reported.pop("uuid", "") or ""
    return {
        "name": properties.name, "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count, "l2_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory, "uuid_hash": hashlib.sha256(uuid.encode()).hexdigest()[:16],
        **reported,
    }  # fmt: skip


def environment() -> dict[str, Any]:
    import torch
    import triton

    return {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__,
            "cuda": torch.version.cuda}  # fmt: skip


def kind_of(about: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Reads the kind from a record's `device` and `env`; None where neither says anything of a field."""
    known = {**about["env"], **about["device"]}
    return {name: known.get(name) for name in KIND}


def file_stem(kind: Mapping[str, Any]) -> str:
    """One file a kind: `nvidia-h100-80gb-hbm3-1a2b3c4d`."""
    digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9]+', '-', str(kind['name']).lower()).strip('-')}-{digest}"


def query(*fields: str) -> dict[str, str | None]:
    """Values of nvidia-smi, None where it has none; a field that its version does not know costs no other."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
    except subprocess.CalledProcessError:
        return dict.fromkeys(fields) if len(fields) == 1 else {k: v for each in fields for k, v in query(each).items()}
    except (OSError, subprocess.SubprocessError):
        return dict.fromkeys(fields)
    values = [value.strip() for value in text.partition("\n")[0].split(",")]
    return {**dict.fromkeys(fields), **dict(zip(fields, values, strict=False))}


@contextmanager
def sampled(*fields: str, every_ms: int = 100) -> Iterator[list[dict[str, str]]]:
    """The list is filled when the block ends: what nvidia-smi reported meanwhile; empty where there is none."""
    found: list[dict[str, str]] = []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0",
               f"--loop-ms={every_ms}"]  # fmt: skip
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield found
        return
    try:
        yield found
    finally:
        process.terminate()
        try:
            text, _ = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # it need not answer; what it said until then is lost
            process.kill()
            text, _ = process.communicate()
        found += [dict(zip(fields, values, strict=True)) for line in text.splitlines()
                  if len(values := [value.strip() for value in line.split(",")]) == len(fields)]  # fmt: skip


def compiled_of(launch: Callable[[], object]) -> list[dict[str, Any]]:
    """Runs it once: the kernels of ours that it launched, in order, each once. None of the library's is seen."""
    with launched() as found:
        launch()
    return list({str(each): each for each in found}.values())


@contextmanager
def launched() -> Iterator[list[dict[str, Any]]]:
    """Filled with every kernel of Triton and of CUDA C++ that is launched meanwhile."""
    from triton.runtime.jit import JITFunction

    found: list[dict[str, Any]] = []
    of_triton, of_driver = JITFunction.run, cuda.launch_on_gpu

    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        kernel = of_triton(self, *arguments, **options)
        if kernel is not None:
            found.append(_seen(_of_triton, kernel))
        return kernel

    def launch(function: Any, grid: Any, threads: int, arguments: Any) -> None:
        of_driver(function, grid, threads, arguments)
        found.append(_seen(_of_cuda, function, threads))

    try:
        JITFunction.run, cuda.launch_on_gpu = run, launch
        yield found
    finally:
        JITFunction.run, cuda.launch_on_gpu = of_triton, of_driver


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

    major, minor = torch.cuda.get_device_capability()
    code = compiler.cubin(function.source, 10 * major + minor)
    return {"kernel": function.name, "warps": threads // 32, **resources(code, function.name)}


@cache
def resources(code: bytes, function: str) -> Mapping[str, Any]:
    """Hash of the machine code's file, registers of a thread, bytes that it spills to its stack; None where no tool of
    Triton's reads them."""
    digest = {"cubin": hashlib.sha256(code).hexdigest()[:16]}
    try:
        of = kernel_compile.resources_of(code)[function]
    except (ImportError, OSError, subprocess.SubprocessError, KeyError, StopIteration):
        return {**digest, "registers": None, "spilled_bytes": None}
    return {**digest, "registers": of.get("REG"), "spilled_bytes": of.get("STACK")}
