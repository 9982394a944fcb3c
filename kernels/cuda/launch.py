"""One call for both: a kernel of CUDA C++ on the GPU that holds its tensors, or on the CPU through the host shim."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_float, c_int, c_void_p
from typing import TYPE_CHECKING, Any, TypeAlias

from cascadesim.kernels.cuda import compiler, driver, host
from cascadesim.kernels.cuda.source import CudaFunction

if TYPE_CHECKING:
    import torch

Argument: TypeAlias = "torch.Tensor | int | float | None"


def launch(function: CudaFunction, grid: Sequence[int], threads: int, *arguments: Argument) -> None:
    """`grid`: blocks, up to three dimensions. Tensors are pointers, None a null pointer, int 32 bits, float 32 bits."""
    on_gpu = any(getattr(each, "is_cuda", False) for each in arguments)
    (driver if on_gpu else host).launch(function, grid, threads, [_as_c(each) for each in arguments])


def available(device: str) -> bool:
    """Whether CUDA C++ can be compiled for this device of torch's."""
    return host.compiler() is not None if device == "cpu" else compiler.available()


def _as_c(value: Argument) -> Any:
    if value is None:
        return c_void_p(None)
    if isinstance(value, int):
        return c_int(value)
    return c_float(value) if isinstance(value, float) else c_void_p(value.data_ptr())
