"""CUDA C++ to cubins, without a driver: by NVRTC, which the wheel nvidia-cuda-nvrtc or torch brings, else by nvcc."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from functools import cache
from pathlib import Path

from cascadesim.kernels.cuda.source import HEADER, Source

OPTIONS = ("--std=c++17",)
WITH_OWN_FEATURES = 90  # from compute capability 9.0 on, `a` names the instructions of one architecture


def available() -> bool:
    return _nvrtc() is not None or shutil.which("nvcc") is not None


@cache
def cubin(source: Source, target: int) -> bytes:
    """For a compute capability such as 80, 90 or 100. Raises RuntimeError with the compiler's log, or without one."""
    if (library := _nvrtc()) is not None:
        return _by_nvrtc(library, source, architecture(target))
    if not shutil.which("nvcc"):
        raise RuntimeError("CUDA C++ needs NVRTC (pip install nvidia-cuda-nvrtc) or nvcc")
    return _by_nvcc(source, architecture(target))


def architecture(target: int) -> str:
    """80 -> `80`, 90 -> `90a`."""
    return f"{target}{'a' if target >= WITH_OWN_FEATURES else ''}"


@cache
def _nvrtc() -> ctypes.CDLL | None:
    found = importlib.util.find_spec("nvidia")
    folders = [Path(each) for each in (found.submodule_search_locations or ())] if found else []
    candidates = [str(path) for folder in folders for path in sorted(folder.glob("*/lib/libnvrtc.so.*"))]
    for candidate in (*candidates, "libnvrtc.so"):
        try:
            return ctypes.CDLL(candidate)
        except OSError:
            continue
    return None


def _by_nvrtc(library: ctypes.CDLL, source: Source, architecture: str) -> bytes:
    program = c_void_p()
    headers = (c_char_p * 1)(HEADER.read_bytes())
    names = (c_char_p * 1)(HEADER.name.encode())
    _check(library, library.nvrtcCreateProgram(
        byref(program), c_char_p(source.text.encode()), c_char_p(source.path.name.encode()), 1, headers, names
    ))  # fmt: skip
    options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture=sm_{architecture}")]
    try:
        status = library.nvrtcCompileProgram(program, c_int(len(options)), (c_char_p * len(options))(*options))
        if status:
            log = _read(library, "ProgramLog", program).decode(errors="replace").strip("\0 \n")
            raise RuntimeError(f"{source.path.name} for sm_{architecture}: {log}")
        return _read(library, "CUBIN", program)
    finally:
        library.nvrtcDestroyProgram(byref(program))


def _read(library: ctypes.CDLL, what: str, program: c_void_p) -> bytes:
    size = c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, byref(size)))
    buffer = create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        library.nvrtcGetErrorString.restype = c_char_p
        raise RuntimeError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")


def _by_nvcc(source: Source, architecture: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.cubin"
        code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
        command = ["nvcc", "-cubin", "--std=c++17", code, "-I", str(HEADER.parent), "-o", str(out), str(source.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{source.path.name} for sm_{architecture}: {done.stderr}")
        return out.read_bytes()


def compiler_name() -> str:
    """What made the cubins, for records of what they belong to."""
    if (library := _nvrtc()) is None:
        return "nvcc" if shutil.which("nvcc") else ""
    major, minor = c_int(), c_int()
    _check(library, library.nvrtcVersion(byref(major), byref(minor)))
    return f"nvrtc {major.value}.{minor.value}"
