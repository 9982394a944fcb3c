"""What is written down of the kernels that ran, with a stand-in of Triton's launcher."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from triton.runtime import jit

from cascadesim.kernels.cuda import compiler
from cascadesim.kernels.cuda import launch as cuda
from cascadesim.kernels.cuda.source import CudaFunction, Source
from cascadesim.validation.kernels import compile as kernel_compile
from cascadesim.validation.kernels import static_counts as kernel_static
from cascadesim.validation.kernels.compile import target_of
from cascadesim.validation.measure import device as measure_device
from cascadesim.validation.measure.device import compiled_of, launched


class Function(jit.JITFunction):
    """Launches nothing, and returns what Triton's launcher does."""

    def __init__(self, name: str) -> None:
        self.kernel = SimpleNamespace(
            asm={"cubin": name.encode()}, metadata=SimpleNamespace(name=name, num_warps=8, shared=65536)
        )


@pytest.fixture(autouse=True)
def _launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jit.JITFunction, "run", lambda self, *given, **options: self.kernel)
    monkeypatch.setattr(kernel_compile, "resources_of", lambda cubin: {cubin.decode(): {"REG": 168, "STACK": 8}})
    measure_device.resources.cache_clear()
    yield
    measure_device.resources.cache_clear()


def test_every_kernel_of_a_call_is_seen_once() -> None:
    first, second = Function("split"), Function("reduce")

    def call() -> None:
        for kernel in (first, second, first):
            kernel[(1,)]()

    split, reduce = compiled_of(call)
    assert split == {"kernel": "split", "warps": 8, "shared_bytes": 65536, "registers": 168, "spilled_bytes": 8,
                     "cubin": hashlib.sha256(b"split").hexdigest()[:16]}  # fmt: skip
    assert reduce["kernel"] == "reduce"


def test_cuda_is_seen_with_what_its_compiler_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "launch_on_gpu", lambda *given: None)
    monkeypatch.setattr(compiler, "cubin", lambda source, target: b"top_k" if target == 90 else None)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    function = CudaFunction(Source("pruned_attention", "top_k"), "top_k")
    (found,) = compiled_of(lambda: cuda.launch_on_gpu(function, (1,), 512, ()))
    assert (found["kernel"], found["warps"], found["registers"]) == ("top_k", 16, 168)


def test_looking_on_changes_nothing_and_ends() -> None:
    run, launch = jit.JITFunction.run, cuda.launch_on_gpu
    with launched():
        assert jit.JITFunction.run is not run
    with pytest.raises(ZeroDivisionError):
        compiled_of(lambda: 1 // 0)
    assert (jit.JITFunction.run, cuda.launch_on_gpu) == (run, launch)


@pytest.mark.parametrize("failure", [OSError("no cuobjdump"), KeyError("name"), ImportError("no triton.backends"),
                                     subprocess.CalledProcessError(1, "cuobjdump")])  # fmt: skip
def test_without_the_tool_the_hash_remains(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(cubin: bytes) -> Any:
        raise failure

    monkeypatch.setattr(kernel_compile, "resources_of", fail)
    (found,) = compiled_of(lambda: Function("split")[(1,)]())
    assert (found["registers"], found["spilled_bytes"]) == (None, None)
    assert len(found["cubin"]) == 16


def test_a_kernel_of_another_form_is_said_to_be_unread() -> None:
    """Another version of Triton may keep it elsewhere: the variant is timed all the same."""
    other = Function("split")
    other.kernel = SimpleNamespace(asm={})
    assert compiled_of(lambda: other[(1,)]())[0]["unread"].startswith("AttributeError")


def test_devices_have_the_counts_of_their_generation() -> None:
    assert [target_of(each) for each in ("8.0", "8.9", "9.0", "10.0", "12.0", "7.5")] == [80, 80, 90, 100, None, None]


def test_the_counts_of_a_machine_are_those_of_its_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_static, "built", lambda workers, targets: {"schema": "s", "kernels": [*targets]})
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "counts.json"), "90"])
    kernel_static.main()
    assert json.loads((tmp_path / "counts.json").read_text()) == {"schema": "s", "kernels": [90]}
