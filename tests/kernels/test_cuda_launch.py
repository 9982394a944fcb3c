"""What the driver is given for a launch, without one: a stand-in takes its calls."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.cuda import compiler  # noqa: E402
from cascadesim.kernels.cuda import launch as driver  # noqa: E402
from cascadesim.kernels.cuda.launch import launch  # noqa: E402
from cascadesim.kernels.cuda.source import CudaFunction, Source, sources  # noqa: E402

FUNCTION = CudaFunction(Source("pruned_attention", "top_k"), "top_k")


class Driver:
    """Answers as libcuda does: 0, or an error once `status` is set."""

    def __init__(self) -> None:
        self.status, self.loaded, self.launches = 0, [], []

    def cuModuleLoadData(self, module, code) -> int:
        self.loaded.append(code.value)
        module._obj.value = 11
        return self.status

    def cuModuleGetFunction(self, function, module, name) -> int:
        assert (module.value, name) == (11, b"top_k")
        function._obj.value = 22
        return 0

    def cuLaunchKernel(self, function, *rest) -> int:
        *sizes, stream, given, extra = rest
        pointer, count, factor, nothing = given
        values = [ctypes.cast(pointer, ctypes.POINTER(ctypes.c_void_p))[0],
                  ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0],
                  ctypes.cast(factor, ctypes.POINTER(ctypes.c_float))[0],
                  ctypes.cast(nothing, ctypes.POINTER(ctypes.c_void_p))[0]]  # fmt: skip
        self.launches.append((function.value, [size.value for size in sizes], stream.value, values, extra))
        return self.status

    def cuGetErrorName(self, status, text) -> int:
        text._obj.value = b"CUDA_ERROR_NO_BINARY_FOR_GPU"
        return 0


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver()
    for cached in (driver._function, driver._module):
        cached.cache_clear()
    monkeypatch.setattr(driver, "_driver", lambda: found)
    monkeypatch.setattr(driver, "cubin", lambda source, target: f"{source.name} {target}".encode())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    return found


class OnGpu:
    is_cuda = True

    def data_ptr(self) -> int:
        return 0x7F00_0000_0000


def test_a_launch_passes_grid_threads_stream_and_arguments(stand_in: Driver) -> None:
    launch(FUNCTION, (3, 2), 512, OnGpu(), 5, 0.5, None)
    launch(FUNCTION, (1,), 32, OnGpu(), 5, 0.5, None)
    assert stand_in.loaded == [b"top_k 90"]  # once
    first, second = stand_in.launches
    assert first == (22, [3, 2, 1, 512, 1, 1, 0], 7, [0x7F00_0000_0000, 5, 0.5, None], None)
    assert second[1] == [1, 1, 1, 32, 1, 1, 0]


def test_an_error_of_the_driver_has_its_name(stand_in: Driver) -> None:
    stand_in.status = 209
    with pytest.raises(RuntimeError, match="cuModuleLoadData: CUDA_ERROR_NO_BINARY_FOR_GPU"):
        launch(FUNCTION, (1,), 32, OnGpu(), 5, 0.5, None)


def test_without_a_compiler_the_packages_are_named(stand_in: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "cubin", compiler.cubin.__wrapped__)  # nothing is remembered
    monkeypatch.setattr(compiler, "_nvrtc", lambda: None)
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install nvidia-cuda-nvrtc"):
        launch(FUNCTION, (1,), 32, OnGpu(), 5, 0.5, None)


def test_every_source_is_found_with_its_kernels() -> None:
    found = {source.name: source.functions for source in sources()}
    assert found["top_k"] == ("top_k",)
    assert len(found["mma_attention"]) == 8
    assert "__launch_bounds__" not in found["mma_attention"]
