"""One call for both: a kernel of CUDA C++ on the GPU that holds its tensors, or on the CPU through the host shim.

On a GPU through the driver's own library, in the context and on the stream that torch uses.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_float, c_int, c_uint, c_void_p
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from cascadesim.kernels.cuda import host
from cascadesim.kernels.cuda.compiler import cubin
from cascadesim.kernels.cuda.source import CudaFunction, Source

if TYPE_CHECKING:
    import torch

Argument: TypeAlias = "torch.Tensor | int | float | None"


def launch(function: CudaFunction, grid: Sequence[int], threads: int, *arguments: Argument) -> None:
    """`grid`: blocks, up to three dimensions. Tensors are pointers, None a null pointer, int 32 bits, float 32 bits."""
    on_gpu = any(getattr(each, "is_cuda", False) for each in arguments)
    (launch_on_gpu if on_gpu else host.launch)(function, grid, threads, [_as_c(each) for each in arguments])


def _as_c(value: Argument) -> Any:
    if value is None:
        return c_void_p(None)
    if isinstance(value, int):
        return c_int(value)
    return c_float(value) if isinstance(value, float) else c_void_p(value.data_ptr())


def launch_on_gpu(function: CudaFunction, grid: Sequence[int], threads: int, arguments: Sequence[Any]) -> None:
    """`arguments`: ctypes values. Asynchronous; RuntimeError with the driver's name of the error."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    handle = _function(function, torch.cuda.current_device(), 10 * major + minor)
    given = (c_void_p * len(arguments))(*(ctypes.addressof(each) for each in arguments))
    x, y, z = (*grid, 1, 1)[:3]
    stream = c_void_p(torch.cuda.current_stream().cuda_stream)
    _call("cuLaunchKernel", handle, *map(c_uint, (x, y, z, threads, 1, 1, 0)), stream, given, None)


@cache
def _function(function: CudaFunction, device: int, target: int) -> c_void_p:
    handle = c_void_p()
    _call("cuModuleGetFunction", byref(handle), _module(function.source, device, target), function.name.encode())
    return handle


@cache
def _module(source: Source, device: int, target: int) -> c_void_p:
    """Loaded once per device."""
    module = c_void_p()
    _call("cuModuleLoadData", byref(module), c_char_p(cubin(source, target)))
    return module


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_driver(), name)(*arguments)
    if status:
        text = c_char_p()
        _driver().cuGetErrorName(status, byref(text))
        raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()}")
