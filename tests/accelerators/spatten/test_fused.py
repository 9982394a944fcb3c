"""Attention that walks keys in tiles on SpAtten: tiles, corrections, second pass and choice, counted by hand."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Phase, Plan
from cascadesim.accelerators.spatten.topk import selection_mean
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, Mask
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS
from cascadesim.simulator.engine.engine import run
from cascadesim.simulator.simulate import simulate

PLAIN = "formats.low_bit_share=0"


def planned(
    cascade: Cascade, keys: int, queries: int = 1, heads: int = 1, name: str = "spatten", settings: str = PLAIN,
    mask: Mask = FULL,
) -> Plan:
    extents = {"b": 1, "h": heads, "g": 1, "m": keys, "p": queries, "e": 64, "f": 64}
    operation = Operation("attention", "attention", cascade, tuple(extents.items()), mask=mask)
    return load(name, settings.split()).plan(operation, "physical")


def busy(phase: Phase) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in phase.activities:
        found[one.unit] = found.get(one.unit, 0) + one.cycles
    return found


def cycles(phase: Phase) -> int:
    assert phase.program is not None
    return run(phase.program()).cycles


def test_the_second_product_corrects_the_results_that_it_keeps() -> None:
    (phase,) = planned(ATTENTION_1PASS, 1024).phases
    found = {one.name: one.unit for one in phase.activities}
    assert {name for name, unit in found.items() if unit == "multiply_pv"} == {"SLNV", "SPNV", "RNV", "AV"}
    assert {name for name, unit in found.items() if unit == "multiply_qk"} == {"QK"}


def test_tiles_of_32_lines_with_one_correction_a_query() -> None:
    """1024 keys on lines of 8: 4 tiles of 256 keys, 32 lines for each of 1024 queries; one more on the softmax lanes
    and the second product. Keys and values of 8 bits once: 2 x 2 x 1024 transactions, 16 channels, each in 2 cycles."""
    (phase,) = planned(ATTENTION_1PASS, 1024, queries=1024).phases
    scored = 4 * 1024 * 32
    corrected = scored + 4 * 1024
    assert busy(phase) == {"multiply_qk": scored, "softmax": corrected, "multiply_pv": corrected, "dram": 512}
    assert phase.analytical_cycles == corrected
    assert corrected <= cycles(phase) <= corrected + 64 + 32 * 1024 / 16  # the first load before, a tile's lag after


def test_all_bits_of_keys_come_at_once() -> None:
    """8 bits and 4: 3 transactions a key instead of 2, and still one product, where the 3-pass mapping takes two."""
    plan = planned(ATTENTION_1PASS, 1024, settings="formats.low_bit_share=1.0")
    assert plan.traffic.read_bytes == 32 * (3 + 2) * 1024
    assert busy(plan.phases[0])["multiply_qk"] == 1024 // 8


def test_more_queries_than_results_fit_come_in_blocks() -> None:
    """Half of 256 lines hold results of 128 x 8 queries: 2048 of them fetch keys and values twice."""
    one, two = (planned(ATTENTION_1PASS, 512, queries=queries) for queries in (1024, 2048))
    assert two.traffic.read_bytes == 2 * one.traffic.read_bytes
    assert any("keys come 2 times" in line for line in two.mapping)


def test_importance_scores_again_and_reads_no_values() -> None:
    first, second, choice = planned(PRUNED_1PASS, 1024, queries=64, heads=2).phases
    plain = planned(ATTENTION_1PASS, 1024, queries=64, heads=2).phases[0]
    assert busy(first) == busy(plain)
    scored = 2 * 64 * 128  # heads, queries, lines
    assert busy(second) == {"multiply_qk": scored, "softmax": scored, "dram": 256 * 2}
    assert second.traffic.read_bytes == 2 * 2 * 1024 * 32
    assert busy(choice) == {"top_k": round(selection_mean(1024, 512, 16))}  # one sequence


def test_the_scores_of_a_single_query_stay_on_chip() -> None:
    _, second, _ = planned(PRUNED_1PASS, 1024).phases
    assert busy(second) == {"softmax": 128}
    assert second.traffic.read_bytes == 0


@pytest.mark.parametrize(("lines", "keys"), [(48, 128), (72, 256), (96, 256), (200, 512), (256, 1024), (2048, 1024)])
def test_tiles_of_a_larger_buffer_are_whole_tiles_of_a_smaller_one(lines: int, keys: int) -> None:
    """Lines of 32 vectors come in pairs, 64 keys; of 72 lines a tile may have 9, which would take the time of 10."""
    assert planned(ATTENTION_1PASS, 1505, settings=f"multipliers=2048 buffer_lines={lines}").splits == {"M0": keys}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 40), st.integers(32, 300), st.integers(1, 300), st.sampled_from([64, 2048]),
       st.sampled_from([FULL, CAUSAL]), st.sampled_from([4, 6, 8]))  # fmt: skip
def test_a_larger_buffer_is_never_slower(
    keys: int, queries: int, lines: int, more: int, multipliers: int, mask: Mask, bits: int
) -> None:
    small, large = (
        planned(ATTENTION_1PASS, keys, min(keys, queries), mask=mask,
                settings=f"{PLAIN} buffer_lines={count} multipliers={multipliers} formats.key_bits={bits}")
        for count in (lines, lines + more)
    )  # fmt: skip
    rounding = 0 if mask == FULL else ceil(keys / large.splits["M0"])  # a cycle a tile, of which a share is attended
    assert large.phases[0].analytical_cycles <= small.phases[0].analytical_cycles + rounding
    assert large.traffic.read_bytes <= small.traffic.read_bytes


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([1, 3, 70]), st.sampled_from([ATTENTION_1PASS, PRUNED_1PASS]))
def test_the_cycle_level_is_never_shorter(keys: int, queries: int, cascade: Cascade) -> None:
    for name in ("spatten", "spatten-1-8"):
        for phase in planned(cascade, keys, queries, name=name).phases:
            assert cycles(phase) >= phase.analytical_cycles


@pytest.mark.parametrize("workload", ["bert", "gpt2-medium", "llama-3.1-8b"])
def test_models_run_it(workload: str) -> None:
    """Importance costs a pass, so the pruned text is slower than the plain one on the same kept tokens."""
    plain, pruned = (
        sum(report.cycles for report in simulate(load_workload(workload), load("spatten"), batch=1, scope="attention",
                                                 attention=cascade))
        for cascade in ("attention-1pass", "pruned-1pass")
    )  # fmt: skip
    assert plain < pruned < 3 * plain
