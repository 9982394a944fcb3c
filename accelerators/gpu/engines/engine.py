"""Engines by name: what each fuses, launches and adds up, one table (`engines.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.notation.schema import (
    NonNegative,
    NonNegativeFloat,
    Positive,
    Spec,
    read_yaml,
    validate,
)

FILE = Path(__file__).parent / "engines.yaml"
Fusion: TypeAlias = Literal["qkv", "gate", "expert-gate", "residual-norm", "rotary-cache", "all-reduce-norm"]
Algorithm: TypeAlias = Literal["ring", "nccl", "one-shot", "two-shot", "in-switch"]
GemmLibrary: TypeAlias = Literal["best", "cublas-12.1", "sgl-kernel"]  # whose tiles: library_tiles.py


class Engine(Spec):
    """One engine.

    `graphs`: kernels come from CUDA graphs; False: one by one, from a stream. `eager`: each operator of element-wise
    work is a kernel of its own, which reads its operands from memory and writes its result there. `host_launch_s`: what
    the host needs for each launch; the next kernel waits for it, in the closed form. `kernels`: of attention, in order;
    `groups`: query heads of a key head that one of them is compiled for. `prompt_kernels`: small ones ahead of each
    attention of prompts; `prompt_copies`: kernels there that move keys and values once more; `casts_results`: a kernel
    makes 16-bit results of attention as narrow as activations. `all_reduce`: the fastest is taken at each size.
    `tokens_per_pass`: of prompts at once. `first_alone`: it waits for no second request, so that the first of those
    that start together runs while the others arrive. `steps`: whether a step of new tokens is one whole CUDA graph, or
    one for each of the pieces between calls of attention; `starts`: a session sets up each batch while the device
    waits for it; None where no run of a model tells what it takes besides kernels. `products`: whose choice of tiles.
    """

    source: str
    fuses: tuple[Fusion, ...] = ()
    graphs: bool = True
    eager: bool = False
    host_launch_s: NonNegativeFloat = 0.0
    kernels: tuple[str, ...] = ()
    groups: Mapping[str, tuple[Positive, ...]] = {}
    prompt_kernels: NonNegative = 0
    prompt_copies: NonNegative = 0
    casts_results: bool = False
    all_reduce: tuple[Algorithm, ...]
    tokens_per_pass: Positive | None = None
    first_alone: bool = False
    steps: Literal["pieces", "whole"] | None = None
    starts: Literal["session"] | None = None
    products: GemmLibrary = "best"


class _Engines(Spec):
    engines: Mapping[str, Engine]


@cache
def engines() -> Mapping[str, Engine]:
    """Name -> engine."""
    return validate(_Engines, {"engines": read_yaml(FILE)}, FILE.name).engines


def find_engine(name: str) -> Engine:
    """Raises UnknownNameError."""
    if name not in engines():
        raise UnknownNameError("engine", name, engines())
    return engines()[name]
