"""The CUDA C++ microbenchmarks compiled to cubins: by NVRTC through cuda.core where installed, else by nvcc.

Neither needs a driver. The sources are plain extern "C" without headers. Launching them is not done here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

FOLDER = ("cascadesim.kernels.microbenchmarks", "cuda")


def source(name: str) -> str:
    package, folder = FOLDER
    return resources.files(package).joinpath(folder, f"{name}.cu").read_text(encoding="utf-8")


def cubin(name: str, target: int) -> bytes | None:
    """For compute capability 80, 90 or 100; None where no compiler is installed."""
    architecture = f"{target}{'a' if target >= 90 else ''}"
    found = _by_nvrtc(name, architecture)
    return _by_nvcc(name, architecture) if found is None else found


def _by_nvrtc(name: str, architecture: str) -> bytes | None:
    try:
        from cuda.core import Program, ProgramOptions  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    try:
        options = ProgramOptions(arch=f"sm_{architecture}", std="c++17")
        return bytes(Program(source(name), "c++", options).compile("cubin").code)
    except OSError:  # the compiler's library is not there
        return None


def _by_nvcc(name: str, architecture: str) -> bytes | None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        text, out = Path(folder) / f"{name}.cu", Path(folder) / "out.cubin"
        text.write_text(source(name), encoding="utf-8")
        code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
        subprocess.run([compiler, "-cubin", code, "-o", str(out), str(text)], check=True, capture_output=True)
        return out.read_bytes()


def functions(name: str) -> tuple[str, ...]:
    """Names of the kernels of a source."""
    return tuple(re.findall(r'extern "C" __global__ void (\w+)', source(name)))
