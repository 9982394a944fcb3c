"""Sparse patterns in simulations: what an attention call takes under a pattern, in prefill and in decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.generate import decode_cycles
from cascadesim.simulator.report import Report
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import reports, simulate

CARD = load("h100-sxm")


def attention(pattern: str, length: int, phase: str = "prefill", workload: str = "llama", **fields: str) -> Report:
    """One sequence on the card."""
    settings = [f"attention.pattern={pattern}", *(f"{name}={value}" for name, value in fields.items())]
    return simulate(load_workload(workload, settings), CARD, sequence_length=length, batch=1, scope="attention",
                    phase=phase, fidelity="analytical")[0]  # type: ignore[arg-type]  # fmt: skip


def scores(report: Report) -> int:
    return next(each.operations["mac"] for each in report.einsums if each.name == "QK")


def test_the_products_of_a_pattern_are_its_pairs() -> None:
    """8 of 16 blocks of 256, 32 heads of 128: as `test_pattern_masks` counts, 128 multiply-accumulates a pair."""
    pairs = sum(max(share / 2, 1) * 128 for share in range(1, 9)) * 128 - 1024 * 127 / 2
    assert scores(attention("pbs:share=0.5", 1024)) == 32 * 128 * pairs


def test_fewer_blocks_take_less_time_but_not_by_as_much() -> None:
    """A tenth of the blocks: faster than a half, slower than the half over five, for what is not tiles."""
    half, tenth = (attention(f"pbs:share={share}", 65536).latency_s for share in (0.5, 0.1))
    assert half / 5 < tenth < half


def test_a_list_of_tiles_costs_more_than_a_loop() -> None:
    """All blocks by a list: between once and the 1.5 times of a tile of the causal loop."""
    dense = simulate(load_workload("llama"), CARD, sequence_length=65536, batch=1, scope="attention",
                     fidelity="analytical")[0]  # fmt: skip
    every = attention("pbs:share=1", 65536)
    assert scores(every) == scores(dense)
    assert 1.0 < every.latency_s / dense.latency_s < 1.6


def test_a_new_token_reads_what_its_pattern_keeps() -> None:
    """64 sinks and 4,032 keys of a cache of 64K are a cache of 4K."""
    kept = attention("sink-window:sinks=64,window=4032", 65536, "decode")
    short = simulate(load_workload("llama"), CARD, sequence_length=4096, batch=1, scope="attention", phase="decode",
                     fidelity="analytical")[0]  # fmt: skip
    assert kept.latency_s == short.latency_s


@pytest.mark.slow
@pytest.mark.parametrize("fidelity", ["analytical", "cycle"])
def test_an_array_visits_the_tiles_of_a_pattern_as_those_of_a_window(fidelity: str) -> None:
    """No sinks and a window of 1,024 is the window of a layer: as many cycles and bytes on FuseMax."""
    as_pattern, as_window = (
        simulate(load_workload("llama", [setting]), load("fusemax"), sequence_length=4096, batch=1, scope="attention",
                 fidelity=fidelity)[0]  # type: ignore[arg-type]
        for setting in ("attention.pattern=sink-window:sinks=0,window=1024", "layers.decoder.window=1024")
    )  # fmt: skip
    assert as_pattern.cycles == as_window.cycles
    assert as_pattern.traffic == as_window.traffic


@pytest.mark.slow
def test_an_array_skips_what_power_of_two_distances_skip() -> None:
    """8,192 tokens are 32 blocks of 256: 5 x 32 - 10, the first block 27 - 2 times, distances 8 and 16: 24 + 16.

    215 tiles a head, 32 heads, of 528 that dense attention has: as much less time, but for what each query tile costs.
    """
    workload = load_workload("llama", ["attention.pattern=power:block=256,window=4,sinks=1"])
    sparse, dense = (simulate(each, load("fusemax"), sequence_length=8192, batch=1, scope="attention")[0]
                     for each in (workload, load_workload("llama")))  # fmt: skip
    assert any("6,880 score tiles" in line for line in sparse.mapping)
    assert 215 / 528 < sparse.cycles / dense.cycles < 1.1 * 215 / 528


@pytest.mark.parametrize(("pattern", "lengths"), [("moba", range(3000, 3030)), ("tidal-choose", (3000, 6000, 9000))])
def test_new_tokens_are_generated_under_a_pattern_as_reports_say(pattern: str, lengths: Sequence[int]) -> None:
    """All steps at once are the sum of their reports, choice included, which grows with the sequence."""
    step = Request(load_workload("llama", [f"attention.pattern={pattern}"]), CARD, batch=64, phase="decode",
                   scope="attention", fidelity="analytical")  # fmt: skip
    each = (reports(replace(step, sequence_length=length))[0].cycles for length in lengths)
    assert decode_cycles(step, list(lengths)) == pytest.approx(sum(each), rel=1e-9)


def test_a_pattern_keeps_an_engine_from_no_fusion() -> None:
    """Rotation and cache writes are one kernel of vLLM, whatever is chosen between them and attention."""
    card = load("h100-sxm", ["engine=vllm"])
    names = {pattern: [each.name for each in simulate(load_workload("llama", [f"attention.pattern={pattern}"]), card,
                                                      sequence_length=4096, batch=1)[0].operations]
             for pattern in ("none", "moba")}  # fmt: skip
    assert [name for name in names["moba"] if not name.startswith("pattern_")] == names["none"]
    first = next(place for place, name in enumerate(names["moba"]) if name.startswith("pattern_"))
    assert names["moba"].index("rotary_cache") < first < names["moba"].index("attention")


def test_a_layer_may_have_another_pattern_or_none() -> None:
    workload = load_workload("llama", ["attention.pattern=moba", "layers.decoder.pattern=none"])
    plain = simulate(load_workload("llama"), CARD, sequence_length=8192, batch=1, scope="attention")[0]
    assert simulate(workload, CARD, sequence_length=8192, batch=1, scope="attention")[0].latency_s == plain.latency_s


def test_an_array_does_not_choose_in_decoding_either() -> None:
    workload = load_workload("llama", ["attention.pattern=tidal-choose"])
    with pytest.raises(CascadeSimError, match="fusemax has no passes that choose blocks by the data"):
        simulate(workload, load("fusemax"), sequence_length=4096, batch=1, phase="decode", scope="attention")


@pytest.mark.parametrize(("settings", "architecture", "message"), [
    (["attention.pattern=pbs", "layers.decoder.window=64"], "h100-sxm", "pattern pbs and window exclude each other"),
    (["attention.pattern=pbs"], "fusemax", "fusemax has no passes that choose blocks by the data"),
    (["attention.pattern=strided:length=64"], "flat", "flat walks the keys in order"),
    (["attention.pattern=strided:length=64"], "spatten", "spatten walks the keys in order"),
    (["attention.pattern=vmba"], "h100-sxm", "did you mean 'vmoba'"),
    (["attention.pattern=halo:block=64,halo=8"], "h100-sxm", "attends later tokens"),
])  # fmt: skip
def test_what_cannot_run_is_refused_in_a_line(settings: list[str], architecture: str, message: str) -> None:
    with pytest.raises(CascadeSimError, match=message) as problem:
        simulate(load_workload("llama", settings), load(architecture), sequence_length=4096, batch=1)
    assert len(str(problem.value).splitlines()) == 1
