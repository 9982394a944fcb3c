"""Every kernel in every configuration, compiled for GPUs that are not here: resources, instructions, work."""

from __future__ import annotations

import json
from fcntl import LOCK_SH, flock
from importlib import resources
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.cuda.compiler import available
from cascadesim.kernels.cuda.source import sources
from cascadesim.validation.kernels.compile import TARGETS

pytestmark = pytest.mark.slow
SHIPPED = json.loads(resources.files("cascadesim.kernels").joinpath("static_counts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def built(static_build: Path) -> dict:
    with (static_build / "lock").open() as lock:
        flock(lock, LOCK_SH)
    counts = static_build / "counts.json"
    assert counts.exists(), (static_build / "errors.txt").read_text(encoding="utf-8")
    return json.loads(counts.read_text(encoding="utf-8"))


def by_name(counts: dict) -> dict:
    return {(each["target"], each["name"]): each for each in counts["kernels"]}


def test_no_kernel_spills_or_exceeds_registers_or_shared_memory(built: dict) -> None:
    assert {key: each["faults"] for key, each in by_name(built).items() if each["faults"]} == {}


def test_every_loop_does_exactly_the_work_of_its_tile(built: dict) -> None:
    assert {key: each["conservation"] for key, each in by_name(built).items() if each["conservation"]} == {}
    assert {each["target"] for each in built["kernels"]} == set(TARGETS)


def test_one_tile_of_attention_is_four_times_its_sides(built: dict) -> None:
    """4 * P0 * M0 * E FLOP; P0 * M0 exponentials, and PRM once per row in each of the 4 lanes that share it on
    Hopper."""
    loop = by_name(built)[90, "attention-1pass fp16 D64"]["loops"][0]
    assert loop["matrix_flop"] == 4 * 128 * 64 * 64
    assert loop["exponentials"] == 128 * 64 + 4 * 128


def test_recomputing_cascades_cost_more_products_and_exponentials(built: dict) -> None:
    """2-pass: 3 products and 2 exponentials per score; 3-pass: 4 and 2; 1-pass: 2 and 1."""
    counts = by_name(built)
    tile = 128 * 64
    for name, products, exponentials in (("1pass", 2, 1), ("2pass", 3, 2), ("3pass", 4, 2)):
        loops = counts[90, f"attention-{name} fp16 D128"]["loops"]
        assert sum(loop["matrix_flop"] for loop in loops) == products * 2 * tile * 128
        assert sum(loop["exponentials"] for loop in loops) // tile == exponentials


def test_neighborhoods_run_their_products_without_waiting_and_count_through_their_boxes(built: dict) -> None:
    """On Hopper: a wait in a turn or two. Divisions of a tile's number made 83 to 106 of the instructions."""
    for D in ("64", "128"):
        for loop in by_name(built)[90, f"neighborhood 2-D fp16 D{D}"]["loops"]:
            assert loop["classes"].get("special", 0) == 0  # reciprocals, of which a division takes one


def test_the_claims_name_the_compiler_of_the_counts_that_ship() -> None:
    claims = resources.files("cascadesim.validation").joinpath("claims", "claims.csv").read_text(encoding="utf-8")
    assert f"as Triton {SHIPPED['toolchain']['triton']} compiles them" in claims


def test_masks_cost_instructions_only_where_there_is_one(built: dict) -> None:
    for name in ("attention-1pass fp16 D128 causal", "neighborhood 2-D fp16 D128", "block-sparse fp16 D128"):
        for target in TARGETS:
            plain, masked = (loop["instructions_per_warp"] for loop in by_name(built)[target, name]["loops"])
            assert plain < masked


def test_the_counts_that_ship_are_current(built: dict) -> None:
    """`validation.kernels.static_counts` writes them. Work never depends on the compiler; the rest may."""
    shipped, now = by_name(SHIPPED), by_name(built)
    if not available():  # nothing compiles CUDA C++: those are skipped below
        shipped = {key: each for key, each in shipped.items() if "language" not in each}
    assert shipped.keys() == now.keys()
    for key, each in now.items():
        assert [loop["matrix_flop"] for loop in each["loops"]] == [
            loop["matrix_flop"] for loop in shipped[key]["loops"]
        ]
        if same_compiler(each, SHIPPED["toolchain"], built["toolchain"]):
            assert shipped[key] == each


def same_compiler(kernel: dict, *toolchains: dict) -> bool:
    """NVRTC makes those in CUDA C++; Triton and its ptxas the rest."""
    relevant = ["cuda"] if "language" in kernel else ["triton", "ptxas", "ptxas-blackwell"]
    first, second = ([each[name] for name in relevant] for each in toolchains)
    return first == second


@pytest.mark.skipif(not available(), reason="CUDA C++ needs NVRTC, pip install nvidia-cuda-nvrtc, or nvcc")
def test_every_kernel_in_cuda_is_built(built: dict) -> None:
    """The microbenchmarks are held to their instructions in test_cuda_sources."""
    expected = sum(len(source.functions) for source in sources() if source.family != "microbenchmarks")
    for target in TARGETS:
        rows = [each for each in built["kernels"] if each["target"] == target and each.get("language") == "cuda"]
        assert len(rows) == expected


@pytest.mark.skipif(not available(), reason="CUDA C++ needs NVRTC, pip install nvidia-cuda-nvrtc, or nvcc")
def test_mma_sync_does_the_work_of_its_tile(built: dict) -> None:
    """128 queries by 64 keys at head dimension 128, 32 keys at 64: 4 * P0 * M0 * E FLOP, and one exponential per score
    and one per row in each of 4 lanes, in the loop over whole tiles and in the one over masked tiles."""
    for target, (D, M0), causal in product(TARGETS, ((64, 32), (128, 64)), ("", " causal")):
        loops = by_name(built)[target, f"mma.sync attention fp16 D{D}{causal}"]["loops"]
        assert [loop["matrix_flop"] for loop in loops] == [4 * 128 * M0 * D] * 2
        assert [loop["exponentials"] for loop in loops] == [128 * M0 + 4 * 128] * 2
