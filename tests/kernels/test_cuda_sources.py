"""The CUDA C++ sources compile for every target, and their loops hold exactly the instructions they are to measure."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="the disassembler comes with triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.microbenchmarks import CUDA_SOURCES
from cascadesim.validation.cuda_source import cubin, functions
from cascadesim.validation.kernel_compile import TARGETS, disassembled
from cascadesim.validation.sass import Loop, loops

CHAINS = 8
MIX = {  # function -> (multiply-adds, exponentials) of a turn
    "fma_rate": (CHAINS, 0), "exponential_rate": (0, CHAINS), "fma_and_exponential_rate": (4 * CHAINS, CHAINS),
}  # fmt: skip


def compiled(name: str, target: int) -> str:
    code = cubin(name, target)
    if code is None:
        pytest.skip("needs nvcc, or NVRTC through cuda.core: pip install cuda-core cuda-bindings nvidia-cuda-nvrtc")
    sass, resources = disassembled(code)
    assert "STACK:0" in resources
    return sass


def loops_of(sass: str, function: str) -> tuple[Loop, ...]:
    """nvdisasm prints each function in a section of its own."""
    return loops(sass.split(f"\n.text.{function}:", 1)[1].split("//----", 1)[0])


@pytest.mark.parametrize("target", TARGETS)
def test_a_turn_issues_exactly_the_instructions_of_the_mix(target: int) -> None:
    sass = compiled("issue_mix", target)
    assert set(functions("issue_mix")) == set(MIX)
    for function, mix in MIX.items():
        found = [(loop.count("FFMA"), loop.count(r"MUFU\.EX2")) for loop in loops_of(sass, function)]
        assert mix in found, (function, found)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CUDA_SOURCES)
def test_every_source_compiles_without_a_stack(name: str, target: int) -> None:
    sass = compiled(name, target)
    assert all(f".text.{function}" in sass for function in functions(name))


def test_a_chase_loads_one_word_per_turn() -> None:
    sass = compiled("memory_latency", 90)
    assert [loop.count("LDG") for loop in loops_of(sass, "pointer_chase")] == [1]
    assert 1 in [loop.count("LDS") for loop in loops_of(sass, "shared_chase")]
