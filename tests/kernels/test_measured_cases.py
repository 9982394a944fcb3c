"""What `cascadesim measure` launches, once each in the interpreter at small sizes: that it runs, and is right."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.cuda import host  # noqa: E402
from cascadesim.kernels.interpreter import repair  # noqa: E402
from cascadesim.validation.kernels.model import calls_of  # noqa: E402
from cascadesim.validation.measure import prepare, rates  # noqa: E402
from cascadesim.validation.measure import prepare as measure_neighborhood  # noqa: E402
from cascadesim.validation.measure import pruned as measure_pruned  # noqa: E402
from cascadesim.validation.measure.cases import BACKENDS, CASCADES, FLEX, MMA, cases, sdpa  # noqa: E402

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
ATTENTION = (*CASCADES, MMA, *map(sdpa, BACKENDS), FLEX)
PATTERN = ("layout", "window", "stride", "query_tile", "key_tile")
CASES = {
    "launch": lambda: rates.launch("cpu"),
    **{f"matrix peak {kind}": partial(rates.matrix_peak, "cpu", kind, 32, 16, 32, 3)
       for kind in ("fp16", "bf16", "fp8", "tf32", "fp32")},
    "exponentials": lambda: rates.exponential_rate("cpu", 2),
    "issue mix": lambda: rates.issue_mix("cpu", 2, 32, 3),
    "products": lambda: rates.products("cpu", 2, 32, 3),
    "shared memory": lambda: rates.shared_memory("cpu", 2, 64, 3),
    "latency": lambda: rates.latency("cpu", 1024, 5),
    "atomic additions": lambda: rates.atomics("cpu", 2, 32, 2, 3),
    "memory": lambda: rates.memory("cpu", 8192, 1),
    "memory in the cache": lambda: rates.memory("cpu", 8192, 3),
    "attention": lambda: prepare.attention("cpu", 1, 1, 128, 64, True, ATTENTION),
    "decode": lambda: prepare.decode("cpu", 2, 4, 2, 300, 64),
    "neighborhood": lambda: measure_neighborhood.neighborhood("cpu", SMALL, True),
    "pruned": lambda: measure_pruned.pruned("cpu", 2, 64, 20, 64),
    "importance": lambda: measure_pruned.importance("cpu", 2, 100, 64),
    "heads": lambda: measure_pruned.heads("cpu", 4, 2, 70, 64),
    "values by tile": lambda: measure_pruned.values_by_tile("cpu", 1, 512, 64),
    "progressive": lambda: measure_pruned.progressive("cpu", 2, 2, 200, 64),
}  # fmt: skip


GPU_ONLY = {"sdpa CUDNN_ATTENTION", "sdpa FLASH_ATTENTION", "dense, sdpa FLASH_ATTENTION"}  # refused on a CPU
IN_CUDA = {"issue mix", "products", "shared memory", "latency", "atomic additions"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_case_runs_and_agrees_with_the_library(name: str) -> None:
    repair()
    if name in IN_CUDA and host.compiler() is None:
        pytest.skip("CUDA C++ runs on a CPU through a C++ compiler: install g++ or clang++")
    prepared = CASES[name]()
    for variant, launch in prepared.variants.items():
        if variant not in GPU_ONLY:
            launch()
    assert all(check() < HALF for check in prepared.checks.values())


def test_a_chain_visits_every_line_once() -> None:
    follow = rates.chain("cpu", 1024, 32)
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


# small case -> one that is measured
FAMILIES = {"launch": "launch", "exponentials": "exponentials", "issue mix": "issue mix", "products": "mma.sync peak",
            "shared memory": "shared memory", "latency": "latency DRAM", "atomic additions": "atomic additions to 1",
            "memory": "DRAM copy, read, write", "matrix peak fp16": "matrix peak fp16 128x64x64",
            "decode": "B1 H32 G8 M8192 D128", "neighborhood": "layout 64x64 window 24x24 stride 1x1",
            "pruned": "2048 of 4096 tokens", "importance": "importance of 4096 tokens",
            "values by tile": "values of 2048 of 4096 tokens by tile",
            "progressive": "progressive quantization B16 H16 M8192 D64"}  # fmt: skip


@pytest.mark.parametrize(("small", "name"), FAMILIES.items())
def test_cases_state_the_variants_that_they_prepare(small: str, name: str) -> None:
    """In their order, so that predictions can be written for each before any runs."""
    stated = next(case for case in cases() if case.name == name).variants
    assert tuple(CASES[small]().variants) == stated


def test_every_predicted_kernel_of_ours_is_a_variant_with_a_check() -> None:
    """A name that no case has would predict nothing; a result that nothing checks is never compared."""
    for case in cases():
        assert set(calls_of(case.suite, case.shape, case.work)) & set(case.variants) or case.suite == "microbenchmarks"
    for small, suite in (("attention", "attention"), ("decode", "decode"), ("neighborhood", "neighborhood"),
                         ("pruned", "pruned"), ("importance", "pruned"), ("progressive", "pruned")):  # fmt: skip
        prepared = CASES[small]()
        case = next(case for case in cases() if case.suite == suite and set(case.variants) & set(prepared.variants))
        ours = set(calls_of(suite, case.shape, case.work)) & set(prepared.variants)
        assert ours <= set(prepared.checks), small


def test_nothing_of_ours_runs_while_a_case_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that fails there would cost every variant of the case."""
    import triton.runtime.interpreter as interpreter

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("launched")

    monkeypatch.setattr(interpreter.InterpretedFunction, "run", refuse)
    monkeypatch.setattr(host, "launch", refuse)
    for name in CASES:
        CASES[name]()


def test_what_the_library_walks_over_are_the_tiles_of_the_list() -> None:
    """Block mask of flex_attention: tiles with a mask and without one, and the mask of single pairs."""
    from cascadesim.kernels.neighborhood_attention.pattern import pattern
    from cascadesim.kernels.neighborhood_attention.triton import plan

    for layout, window, stride in (((16, 16), (6, 6), (1, 1)), ((16, 24), (8, 8), (8, 8))):
        tiles = plan(pattern(layout, window, stride), (8, 8), (4, 4))
        listed = measure_neighborhood._tile_list(tiles, 64, "cpu")
        blocks = measure_neighborhood.block_mask(listed, tiles)
        assert (blocks.kv_num_blocks + blocks.full_kv_num_blocks)[0, 0].tolist() == listed.executed.tolist()
        assert blocks.full_kv_num_blocks[0, 0].tolist() == (listed.rows[:, 1] - listed.rows[:, 0]).tolist()
        mask = measure_neighborhood.mask_in_tile_order(
            tiles.pattern, tiles.query_order.numpy(), tiles.key_order.numpy()
        )
        tokens = torch.arange(len(mask))
        assert (blocks.mask_mod(0, 0, tokens[:, None], tokens[None, :]).numpy() == mask).all()
        dense = blocks.to_dense()[0, 0].bool()
        assert (dense.numpy() == mask.reshape(len(dense), 64, -1, 16).any((1, 3))).all()


def test_a_buffer_must_fit_its_cache_and_a_chain_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = type("Properties", (), {"L2_cache_size": 50 * 2**20})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    with pytest.raises(RuntimeError, match="does not stay in an L2 cache"):
        rates.memory("cuda", 2**24, 2)  # 32 MiB, above half of it
    with monkeypatch.context() as patch:
        patch.setattr(rates, "random_tensor", lambda *given, **kinds: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # 16 MiB fit, so that the buffer is made
            rates.memory("cuda", 2**23, 2)
    with pytest.raises(RuntimeError, match="does not exceed an L2 cache"):
        rates.latency("cuda", 2**25, 16384, True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(RuntimeError, match=r"8-bit products need compute capability 8\.9, this device has 8\.0"):
        rates.matrix_peak("cuda", "fp8", 32, 16, 32, 3)


def test_a_latency_of_dram_is_one_with_cold_caches() -> None:
    assert rates.latency("cpu", 1024, 5, True).only == {"global": "cold"}
    assert rates.latency("cpu", 1024, 5).only == {"global": "hot"}
    assert rates.memory("cpu", 8192, 3).only == {"read": "hot"}
    assert rates.memory("cpu", 8192, 1).only == {}


def test_a_list_of_tiles_in_tile_order_holds_the_tiles_of_the_boxes() -> None:
    from cascadesim.kernels.attention.configurations import TileShape
    from cascadesim.kernels.neighborhood_attention.block_sparse import tile_list
    from cascadesim.kernels.neighborhood_attention.pattern import boxes, pattern
    from cascadesim.kernels.neighborhood_attention.triton import plan
    from cascadesim.validation.measure.prepare import mask_in_tile_order

    for layout, window, stride in (((16, 16), (6, 6), (1, 1)), ((16, 24), (8, 8), (8, 8)), ((13, 11), (5, 4), (2, 1))):
        of = pattern(layout, window, stride)
        orders = plan(of, (8, 8), (4, 4))
        mask = mask_in_tile_order(of, orders.query_order.numpy(), orders.key_order.numpy())
        listed, found = tile_list(mask, TileShape(64, 16, 4, 2)), boxes(of, (8, 8), (4, 4))
        assert listed.executed.tolist() == found.visited.tolist()


def test_a_case_is_launched_checked_and_timed_and_what_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process on a GPU does this with every case; the library's backend of GPUs is what fails here."""
    from cascadesim.validation.measure.cases import BenchmarkCase
    from cascadesim.validation.measure.timing import Samples
    from cascadesim.validation.measure.worker import measured

    class Once:
        flush_us, floor_us = 70.0, 4.0

        def measure(self, variants, only, running, failed):
            for launch in variants.values():
                launch()
            return {name: Samples([2.0], [1.0]) for name in variants}

        def clock_mhz(self):
            raise RuntimeError("no counter")

    repair()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    stated = next(each for each in cases() if each.name == "B1 H32 G8 M8192 D128")
    case = BenchmarkCase(stated.suite, "small", {}, {}, stated.variants,
                         lambda device: prepare.decode("cpu", 1, 2, 1, 40, 32))  # fmt: skip
    told: list = []
    found = measured(case, [*stated.variants[:4], "copy of the keys"], Once(), told.append, lambda: True)
    asked = {"split keys", "split keys, paged", "copy of the keys", "sdpa FLASH_ATTENTION"}
    assert set(found["timing"]) == asked - set(found["errors"])
    assert set(found["errors"]) >= {"sdpa CUDNN_ATTENTION"}
    assert "sdpa MATH" not in found["timing"]
    assert max(found["check"].values()) < HALF
    assert {message["failed"] for message in told if "failed" in message} == set(found["errors"])
    assert found["clocks"] == [{"unread": "RuntimeError: no counter"}] * 2


def test_an_error_that_is_no_number_is_written_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON has no NaN; what a check does not tell apart from the right result is never compared."""
    from types import SimpleNamespace

    from cascadesim.validation.measure.cases import BenchmarkCase, Prepared
    from cascadesim.validation.measure.worker import measured

    timer = SimpleNamespace(flush_us=1.0, floor_us=1.0, clock_mhz=dict, measure=lambda *given: {})
    case = BenchmarkCase("attention", "small", {}, {}, ("a",),
                         lambda device: Prepared({"a": (int, lambda: float("nan"))}))  # fmt: skip
    assert measured(case, ["a"], timer, lambda message: None, lambda: True)["check"] == {"a": None}


BARE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pydantic", "click", "yaml", "rich", "numba", "scipy", "matplotlib", "pyarrow"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from cascadesim.validation.kernels import static_counts as kernel_static
from cascadesim.validation.measure import command as measure
from cascadesim.validation.measure import device as measure_device
from cascadesim.validation.measure import counters as measure_counters
from cascadesim.validation.measure import prepare as measure_neighborhood
from cascadesim.validation.measure import prepare as measure_prepare
from cascadesim.validation.measure import pruned as measure_pruned
from cascadesim.validation.measure import rates as measure_rates
from cascadesim.validation.measure import run as measure_run
from cascadesim.validation.measure import worker as measure_worker
from cascadesim.kernels.catalogue import variants
assert len(list(variants(90))) > 50
from cascadesim.kernels.interpreter import repair
repair()  # Triton 3.6: loops with bounds known at run time
prepared = measure_prepare.decode("cpu", 1, 2, 1, 40, 32)
prepared.variants["split keys"]()
assert measure_run.estimated_s(measure_run.cases()) > 0
"""


@pytest.mark.slow
def test_measuring_needs_python_numpy_torch_and_triton_and_no_more() -> None:
    """All that `measure` imports on a GPU, static counts included, where other packages cannot be imported."""
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
