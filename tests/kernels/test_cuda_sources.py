"""The CUDA C++ sources compile for every target, and their loops hold exactly the instructions they are to measure."""

from __future__ import annotations

import re
from functools import cache

import pytest

pytest.importorskip("triton", reason="the disassembler comes with triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.cuda.compiler import available, cubin
from cascadesim.kernels.cuda.source import Source, sources
from cascadesim.validation.kernels.compile import TARGETS, code_of, disassembled, resources_of
from cascadesim.validation.kernels.gates import SassLoop, loops

CHAINS = 8
MIX = {  # function -> (multiply-adds, exponentials) of a turn
    "fma_rate": (CHAINS, 0), "exponential_rate": (0, CHAINS), "fma_and_exponential_rate": (4 * CHAINS, CHAINS),
}  # fmt: skip


ISSUE_MIX, LATENCY = Source("microbenchmarks", "issue_mix"), Source("microbenchmarks", "memory_latency")
SHARED_MEMORY = Source("microbenchmarks", "shared_memory")
PRODUCT_RATE = Source("microbenchmarks", "product_rate")
TOP_K = Source("pruned_attention", "top_k")
MICROBENCHMARKS = tuple(source for source in sources() if source.family == "microbenchmarks")
pytestmark = pytest.mark.skipif(
    not available(), reason="CUDA C++ needs NVRTC, pip install nvidia-cuda-nvrtc, or nvcc"
)


@cache
def all_sass(target: int) -> dict[tuple[Source, str], str]:
    """Of every function, from one run of the disassembler."""
    codes = {(source, function): code for source in (*MICROBENCHMARKS, TOP_K)
             for function, code in code_of(cubin(source, target)).items()}  # fmt: skip
    return dict(zip(codes, disassembled(list(codes.values()), target), strict=True))


def sass_of(source: Source, target: int) -> dict[str, str]:
    return {function: sass for (each, function), sass in all_sass(target).items() if each == source}


def loops_of(source: Source, target: int, function: str) -> tuple[SassLoop, ...]:
    return loops(all_sass(target)[source, function])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_turn_issues_exactly_the_instructions_of_the_mix(target: int) -> None:
    assert set(ISSUE_MIX.functions) == set(MIX)
    for function, mix in MIX.items():
        found = [(loop.count("FFMA"), loop.count(r"MUFU\.EX2")) for loop in loops_of(ISSUE_MIX, target, function)]
        assert mix in found, (function, found)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", MICROBENCHMARKS, ids=lambda source: source.name)
def test_every_microbenchmark_compiles_without_a_stack(source: Source, target: int) -> None:
    """The other sources: test_static_counts."""
    resources = resources_of(cubin(source, target))
    assert set(source.functions) == set(resources) == set(sass_of(source, target))
    assert {each["STACK"] for each in resources.values()} == {0}
    assert not [sass for sass in sass_of(source, target).values() if re.search(r"\b(LDL|STL)\b", sass)]


def test_a_chase_loads_one_word_per_turn() -> None:
    assert [loop.count("LDG") for loop in loops_of(LATENCY, 90, "pointer_chase")] == [1]
    assert 1 in [loop.count("LDS") for loop in loops_of(LATENCY, 90, "shared_chase")]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("function", "opcode"), [("shared_read_rate", "LDS.128"), ("shared_conflict_rate", "LDS")])
def test_a_turn_loads_eight_times_from_shared_memory(function: str, opcode: str, target: int) -> None:
    """And nothing else but its counter: a compiler that joined or left out loads would show."""
    loaded = [loop for loop in loops_of(SHARED_MEMORY, target, function) if loop.count("LDS")]
    assert [[each.opcode for each in loop.instructions if each.opcode.startswith("LDS")] for loop in loaded] == [
        [opcode] * 8
    ]
    assert len(loaded[0].instructions) <= 8 + 4


@pytest.mark.parametrize("target", TARGETS)
def test_a_turn_multiplies_once_per_chain(target: int) -> None:
    for function in PRODUCT_RATE.functions:
        (found,) = (loop for loop in loops_of(PRODUCT_RATE, target, function) if loop.matrix)
        assert {each.opcode for each in found.matrix} <= {"HMMA.16816.F32", "HMMA.16816.F32.BF16"}
        assert len(found.matrix) == CHAINS
        assert found.count(r"MUFU\.EX2") == (CHAINS if "exponential" in function else 0)


@pytest.mark.parametrize("target", TARGETS)
def test_equal_digits_of_a_warp_are_one_atomic_addition(target: int) -> None:
    """The radix select counts with integers in shared memory only: a float addition would depend on the order."""
    sass = sass_of(TOP_K, target)["top_k"]
    assert re.search(r"\bMATCH\.ANY\b", sass)
    assert re.search(r"\bATOMS\b", sass)
    assert not re.search(r"\b(RED|ATOMG|ATOM)\b", sass)


def test_what_does_not_compile_is_said(tmp_path, monkeypatch) -> None:
    wrong = tmp_path / "wrong.cu"
    wrong.write_text('extern "C" __global__ void wrong(int* x) { x = y; }', encoding="utf-8")
    monkeypatch.setattr(Source, "path", property(lambda self: wrong))
    with pytest.raises(RuntimeError, match=r'wrong\.cu for sm_90a: (?s:.*)"y" is undefined'):
        cubin(Source("microbenchmarks", "wrong"), 90)
