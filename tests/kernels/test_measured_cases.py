"""What `cascadesim measure` launches, once each in the interpreter at small sizes: that it runs, and is right."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.cuda import host  # noqa: E402
from cascadesim.kernels.interpreter import repair  # noqa: E402
from cascadesim.validation import measure_cuda, measure_neighborhood, measure_pruned  # noqa: E402
from cascadesim.validation import measure_prepare as prepare  # noqa: E402
from cascadesim.validation import measure_rates as rates  # noqa: E402
from cascadesim.validation.measure_cases import cases  # noqa: E402
from cascadesim.validation.measured_calls import calls_of  # noqa: E402

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
PATTERN = ("layout", "window", "stride", "query_tile", "key_tile")
CASES = {
    "launch": lambda: rates.launch("cpu"),
    **{f"matrix peak {kind}": partial(rates.matrix_peak, "cpu", kind, 32, 16, 32, 3)
       for kind in ("fp16", "bf16", "fp8", "tf32", "fp32")},
    "exponentials": lambda: rates.exponential_rate("cpu", 2),
    "issue mix": lambda: measure_cuda.issue_mix("cpu", 2, 32, 3),
    "products": lambda: measure_cuda.products("cpu", 2, 32, 3),
    "shared memory": lambda: measure_cuda.shared_memory("cpu", 2, 64, 3),
    "latency": lambda: measure_cuda.latency("cpu", 1024, 5),
    "atomic additions": lambda: measure_cuda.atomics("cpu", 2, 32, 2, 3),
    "memory": lambda: rates.memory("cpu", 8192),
    "attention": lambda: prepare.attention("cpu", 1, 1, 128, 64, True),
    "decode": lambda: prepare.decode("cpu", 2, 4, 2, 300, 64),
    "neighborhood": lambda: measure_neighborhood.neighborhood("cpu", SMALL, True),
    "pruned": lambda: measure_pruned.pruned("cpu", 2, 64, 20, 64),
    "importance": lambda: measure_pruned.importance("cpu", 2, 100, 64),
    "heads": lambda: measure_pruned.heads("cpu", 4, 2, 70, 64),
    "values by tile": lambda: measure_pruned.values_by_tile("cpu", 1, 512, 64),
    "progressive": lambda: measure_pruned.progressive("cpu", 2, 2, 200, 64),
}  # fmt: skip


OPTIONAL = {"attention-1pass, mma.sync"}  # where CUDA C++ can be compiled
IN_CUDA = {"issue mix", "products", "shared memory", "latency", "atomic additions"}


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


def test_predicted_variants_are_variants_that_run() -> None:
    """A name that no case has would predict nothing."""
    families = {"attention": ("attention",), "decode": ("decode",), "neighborhood": ("neighborhood",),
                "pruned": ("pruned", "importance", "heads", "values by tile", "progressive")}  # fmt: skip
    small = {suite: {name for each in names for name in CASES[each]().variants} for suite, names in families.items()}
    for case in cases("cpu"):
        if case.suite in families:
            predicted = calls_of(case.suite, case.shape, case.work)
            assert {name for name in predicted if not name.endswith(" heads")} <= small[case.suite] | OPTIONAL


def test_no_case_has_more_variants_than_its_estimate_counts() -> None:
    """Small cases have those of the large ones, but for the library's two backends of attention."""
    most = {each.suite: each.variants for each in sorted(cases("cpu"), key=lambda case: case.variants)}
    for name, prepare_case in CASES.items():
        suite = name if name in ("attention", "decode", "neighborhood") else "pruned"
        if name in ("attention", "decode", "neighborhood", "pruned", "importance", "heads", "values by tile"):
            assert len(prepare_case().variants) <= most[suite], name


def test_a_list_of_tiles_in_tile_order_holds_the_tiles_of_the_boxes() -> None:
    from cascadesim.kernels.attention.configurations import Tiles
    from cascadesim.kernels.neighborhood_attention.block_sparse import tile_list
    from cascadesim.kernels.neighborhood_attention.pattern import boxes, pattern
    from cascadesim.kernels.neighborhood_attention.triton import plan
    from cascadesim.validation.measure_neighborhood import mask_in_tile_order

    for layout, window, stride in (((16, 16), (6, 6), (1, 1)), ((16, 24), (8, 8), (8, 8)), ((13, 11), (5, 4), (2, 1))):
        of = pattern(layout, window, stride)
        orders = plan(of, (8, 8), (4, 4))
        mask = mask_in_tile_order(of, orders.query_order.numpy(), orders.key_order.numpy())
        listed, found = tile_list(mask, Tiles(64, 16, 4, 2)), boxes(of, (8, 8), (4, 4))
        assert listed.executed.tolist() == found.visited.tolist()
