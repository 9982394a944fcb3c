"""Where the CUDA C++ sources are, and which kernels they hold. Compiles nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
HEADER = FOLDER / "instructions.cuh"
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(')


@dataclass(frozen=True)
class Source:
    """`family`: a folder of kernels/; `name`: without its suffix."""

    family: str
    name: str

    @property
    def path(self) -> Path:
        return FOLDER.parent / self.family / "cuda" / f"{self.name}.cu"

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of its kernels, in order."""
        return tuple(KERNEL.findall(self.text))


@dataclass(frozen=True)
class CudaFunction:
    """One kernel of a source."""

    source: Source
    name: str


@cache
def sources() -> tuple[Source, ...]:
    """Every one that ships."""
    paths = sorted(FOLDER.parent.glob("*/cuda/*.cu"))
    return tuple(Source(path.parts[-3], path.stem) for path in paths)
