"""What `cascadesim measure` launches, once each in the interpreter at small sizes: that it runs, and is right."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.cuda import host  # noqa: E402
from cascadesim.kernels.interpreter import repair  # noqa: E402
from cascadesim.validation import measure_cuda  # noqa: E402
from cascadesim.validation import measure_prepare as prepare  # noqa: E402

HALF = 2e-3  # two roundings to float16: the kernel's and the library's
SMALL = {
    "layout": (8, 16),
    "window": (4, 8),
    "stride": (1, 1),
    "query_tile": (4, 4),
    "key_tile": (4, 8),
    "H": 1,
    "D": 32,
}
CASES = {
    "launch": lambda: prepare.launch("cpu"),
    "matrix peak": lambda: prepare.matrix_peak("cpu", "fp16", 2),
    "exponentials": lambda: prepare.exponential_rate("cpu", 2),
    "issue mix": lambda: measure_cuda.issue_mix("cpu", 2, 32, 3),
    "products": lambda: measure_cuda.products("cpu", 2, 32, 3),
    "latency": lambda: measure_cuda.latency("cpu", 1024, 5),
    "atomic additions": lambda: measure_cuda.atomics("cpu", 2, 32, 2, 3),
    "memory": lambda: prepare.memory("cpu", 8192),
    "attention": lambda: prepare.attention("cpu", 1, 1, 128, 64, True),
    "decode": lambda: prepare.decode("cpu", 2, 4, 2, 300, 64),
    "neighborhood": lambda: prepare.neighborhood("cpu", SMALL),
    "pruned": lambda: prepare.pruned("cpu", 64, 20),
}


IN_CUDA = {"issue mix", "products", "latency", "atomic additions"}


@pytest.mark.parametrize("name", CASES)
def test_every_case_runs_and_agrees_with_the_library(name: str) -> None:
    repair()
    if name in IN_CUDA and host.compiler() is None:
        pytest.skip("CUDA C++ runs on a CPU through a C++ compiler: install g++ or clang++")
    prepared = CASES[name]()
    for launch in prepared.variants.values():
        launch()
    assert all(check() < HALF for check in prepared.checks.values())


def test_a_chain_visits_every_line_once() -> None:
    follow = measure_cuda.chain("cpu", 1024, 32)
    place, visited = 0, []
    for _ in range(32):
        visited.append(place)
        place = int(follow[place])
    assert place == 0
    assert sorted(visited) == list(range(0, 1024, 32))


def test_a_copy_copies_and_a_read_reads_everything_once() -> None:
    from cascadesim.kernels.microbenchmarks import triton

    repair()
    x, out, sums = torch.randn(3 * 4096).half(), torch.zeros(3 * 4096).half(), torch.zeros(3)
    triton.copy[(3,)](x, out, 3 * 4096, BLOCK=4096)
    assert (out == x).all()
    triton.read[(3,)](x, sums, 3 * 4096, 1, BLOCK=4096)
    assert torch.allclose(sums, x.float().reshape(3, -1).sum(1), rtol=1e-4, atol=1e-3)
    triton.write[(3,)](out, 3 * 4096, BLOCK=4096)
    assert (out == 1).all()
