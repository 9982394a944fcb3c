"""The sum over devices by each algorithm, worked out by hand, and which is the fastest at which size."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.engines.collectives import fastest_sum, ring_timing
from cascadesim.accelerators.gpu.memory import small_kernel_s
from cascadesim.accelerators.gpu.spec import Device


def device(name: str, devices: int, engine: str, *settings: str) -> Device:
    found = catalogue.load(name, (f"parallel.tensor={devices}", f"engine={engine}", *settings))
    assert isinstance(found, Gpu)
    return found.spec


def test_without_an_engine_the_ring_is_the_one_of_simulate() -> None:
    plain = device("h100-sxm", 8, "none")
    assert fastest_sum(plain, 2**20) == ring_timing(plain, 2**20)


def test_little_is_sent_to_all_at_once() -> None:
    """16 KB between 4 devices: 3 x 16384 B at 0.81 x 450 GB/s, one barrier of 1.5 us, one launch."""
    one = device("h100-sxm", 4, "vllm")
    timing = fastest_sum(one, 8192)
    assert timing.algorithm == "one-shot"
    assert timing.total_s == pytest.approx(small_kernel_s(one) + 3 * 16384 / (0.81 * 450e9) + 1.5e-6)


def test_much_is_summed_in_the_switch_where_there_is_one() -> None:
    """64 MB between 8 devices: 9/8 of it each way, against 7/4 in two shots; Ampere's switch cannot sum."""
    hopper, ampere = (device(name, 8, "vllm") for name in ("h100-sxm", "a100-sxm"))
    timing = fastest_sum(hopper, 2**25)
    assert timing.algorithm == "in-switch"
    assert timing.link_s == pytest.approx(9 / 8 * 2**26 / (0.81 * 450e9))
    assert fastest_sum(ampere, 2**25).algorithm in ("two-shot", "ring, Simple")


def test_nccl_has_the_latency_of_its_protocol() -> None:
    """One number over 8 devices of NVLink: LL, 6.6 us and 14 steps of 0.6 us."""
    timing = fastest_sum(device("a100-sxm", 8, "gpt-fast"), 1)
    assert timing.algorithm == "ring, LL"
    assert timing.total_s == pytest.approx(6.6e-6 + 14 * 0.6e-6, rel=1e-3)


def test_over_pcie_the_ring_passes_between_sockets() -> None:
    """64 MB over 4 devices: 1.5 times that at 16 GB/s; nothing is read from peers there, whatever the engine has."""
    timing = fastest_sum(device("l40s", 4, "vllm"), 2**25)
    assert timing.algorithm == "ring, Simple"
    assert timing.link_s == pytest.approx(1.5 * 2**26 / 16e9)


def test_results_of_8_bit_products_are_sent_in_16_bits() -> None:
    sums = [fastest_sum(device("h100-sxm", 4, "gpt-fast", *types), 2**25).link_s
            for types in ((), ("types.activations=fp8", "types.weights=fp8"))]  # fmt: skip
    assert sums[0] == sums[1]


@settings(deadline=None)
@given(st.integers(1, 2**28), st.sampled_from((2, 4, 8)), st.sampled_from(("a100-sxm", "h100-sxm", "b200", "l40s")))
def test_more_to_send_never_takes_less_time(elements: int, devices: int, name: str) -> None:
    one = device(name, devices, "vllm")
    assert fastest_sum(one, elements).total_s <= fastest_sum(one, elements + elements // 2 + 1).total_s


@settings(deadline=None)
@given(st.integers(1, 2**28))
def test_an_engine_with_more_algorithms_is_never_slower(elements: int) -> None:
    few, more = (device("h100-sxm", 8, engine) for engine in ("gpt-fast", "vllm"))
    assert fastest_sum(more, elements).total_s <= fastest_sum(few, elements).total_s
