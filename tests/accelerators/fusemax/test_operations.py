"""Operations of a plan are those of its text: counted by hand, and without problems for every mask and shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.accelerators.protocol import Plan, problems
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_1PASS_CAUSAL
from cascadesim.simulator.engine.engine import run

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]
PRESETS = ["fusemax", "fusemax-architecture", "fusemax-cascade", "fusemax-edge"]

TEXT = """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
"""
UNDIVIDED = cascade("undivided", TEXT + "    AV[h,p,f] = RNV[h,M1,p,f]\n")
WITH_STATISTICS = cascade("with-statistics", TEXT + """
    AV[h,p,f] = RNV[h,M1,p,f]
    GM[h,p]   = RM[h,M1,p]
    GD[h,p]   = RD[h,M1,p]
""")
WITH_KEYS = cascade("with-keys", TEXT + """
    AV[h,p,f]      = RNV[h,M1,p,f] / RD[h,M1,p]
    KO[h,m1,m0,e]  = K[h,m1*M0+m0,e]
""")


def plan(accelerator: FuseMax, operation: Operation) -> Plan:
    found = accelerator.plan(operation, "physical")
    assert list(problems(found, accelerator)) == []
    return found


def operations(found: Plan) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for phase in found.phases:
        for activity in phase.activities:
            counts.setdefault(activity.name, Counter()).update(activity.operations)
    return counts


def test_under_a_causal_mask_tiles_count_for_the_queries_that_attend_one_of_their_keys(
    attention: Make, design: Design
) -> None:
    """1000 queries in tiles of 250 keys: 250 of them attend 1 tile, 250 2, ...; a product in exp is one add."""
    found = plan(design(), attention(1000, h=3, mask=CAUSAL))
    rows = found.splits["M0"]
    tiles, pairs = 3 * sum(query // rows + 1 for query in range(1000)), 3 * 1000 * 1001 // 2
    counts = operations(found)
    assert counts["QK"] == {"mac": pairs * 64}
    assert counts["SLN"] == {"exp": pairs, "add": pairs}
    assert counts["RM"] == {"max": tiles}
    assert counts["SPNV"] == {"multiply": tiles * 64}
    assert counts["AV"] == {"divide": 3 * 1000 * 64}


def test_the_part_of_a_tile_that_is_masked_is_time_but_no_operation(attention: Make, design: Design) -> None:
    """One tile of 256 x 256, of which 256 x 257 / 2 pairs are attended."""
    found = plan(design(), attention(256, mask=CAUSAL))
    qk = found.phases[0].activities[0]
    assert (qk.cycles, qk.operations) == (64, {"mac": 64 * 256 * 257 // 2})
    assert qk.occupancy == pytest.approx(257 / 512)


MASKS = st.one_of(st.just(FULL), st.just(CAUSAL), st.builds(KeyInterval, st.just(True), st.integers(1, 60)),
                  st.builds(KeyInterval, st.just(True), st.none(), st.integers(1, 60)))  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    preset=st.sampled_from(PRESETS), text=st.sampled_from([ATTENTION_1PASS, PRUNED_1PASS, UNDIVIDED]), mask=MASKS,
    keys=st.integers(1, 300), queries=st.integers(1, 300),
    heads=st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 4])),
    sides=st.tuples(*[st.integers(2, 20)] * 3), capacity=st.sampled_from([2**12, 2**16]),
)  # fmt: skip
def test_no_plan_has_problems(
    preset: str, text: Cascade, mask: Mask, keys: int, queries: int, heads: tuple[int, int],
    sides: tuple[int, int, int], capacity: int, attention: Make, design: Design,
) -> None:  # fmt: skip
    """Partial tiles, windows and chunks, shared keys, cross attention, decode, tiles smaller than the array."""
    rows, columns, lanes = sides
    accelerator = design(
        preset, f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
        "global_buffer.row_bytes=16", f"global_buffer.capacity_bytes={capacity}",
    )  # fmt: skip
    queries = queries if mask == FULL else min(queries, keys)
    key_heads, group = heads
    operation = attention(keys, queries, 8, 8, b=2, h=key_heads * group, g=group, mask=mask, cascade=text)
    if text == PRUNED_1PASS and mask.key_tiles(queries, keys, queries, 1)[0][0] > 0:
        with pytest.raises(CascadeSimError, match="adds up the importance of"):
            accelerator.plan(operation, "physical")
        return
    found = plan(accelerator, operation)
    for phase in found.phases:
        assert phase.program is not None
        assert phase.analytical_cycles <= run(phase.program()).cycles * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in cascade_names() if not {"Q", "K", "V"} <= set(find(name).inputs)])
def test_a_text_runs_rightly_or_is_refused_in_one_line(name: str, attention: Make, design: Design) -> None:
    """Texts of attention do in `test_conformance`, under both masks."""
    for preset, mask in (("fusemax", FULL), ("fusemax-cascade", CAUSAL)):
        accelerator = design(preset)
        try:
            found = accelerator.plan(attention(600, h=2, mask=mask, cascade=find(name)), "physical")
        except CascadeSimError as error:
            assert len(str(error)) <= 300  # noqa: PT017 (what is raised depends on the text)
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert list(problems(found, accelerator)) == []


def test_a_text_that_repeats_what_it_begins_with_runs_by_a_mapping_that_is_searched(
    attention: Make, design: Design
) -> None:
    found = design().plan(attention(600, cascade=find("attention-sinks-1pass")), "physical")
    assert list(problems(found, design())) == []


def test_a_text_that_masks_runs_where_the_workload_masks_as_much(attention: Make, design: Design) -> None:
    causal = attention(600, mask=CAUSAL, cascade=ATTENTION_1PASS_CAUSAL)
    assert operations(plan(design(), causal)) == operations(plan(design(), attention(600, mask=CAUSAL)))
    with pytest.raises(CascadeSimError, match=r"masks keys in its text \(causal\)"):
        design().plan(attention(600, cascade=ATTENTION_1PASS_CAUSAL), "physical")


@pytest.mark.parametrize("preset", ["fusemax", "fusemax-cascade"])
def test_a_result_that_copies_a_running_value_is_stored(preset: str, model: Make, design: Design) -> None:
    """BERT 1K x 64: 64 x 12 x 1024 x 64 words of two bytes, as with the division; no array has work for it."""
    operation = model("BERT", 1024)
    found = plan(design(preset), operation.with_cascade(UNDIVIDED))
    assert found.traffic.write_bytes == 100_663_296
    assert "AV" not in operations(found)
    program = found.phases[0].program
    assert program is not None
    divided = plan(design(preset), operation).phases[0].program
    assert divided is not None
    stores = [made().busy_cycles()["store result"] for made in (program, divided)]
    assert stores[0] == stores[1] > 0


def test_every_result_is_stored(model: Make, design: Design) -> None:
    """Beside F words of a query its maximum and its denominator; the channel is busy with them, too."""
    design_, operation = design("fusemax-cascade"), model("BERT", 1024)
    found = plan(design_, operation.with_cascade(WITH_STATISTICS))
    assert found.traffic.write_bytes == 768 * 1024 * (64 + 2) * 2
    program = found.phases[0].program
    assert program is not None
    assert program().busy_cycles()["store result"] >= found.traffic.write_bytes / design_.spec.dram_bytes_per_cycle


def test_a_store_waits_for_the_value_that_it_copies(attention: Make, design: Design) -> None:
    """One tile: nothing is stored before the last running value is there."""
    program = plan(design("fusemax-cascade"), attention(256, cascade=UNDIVIDED)).phases[0].program
    assert program is not None
    store = next(task for task in program().tasks if task.name == "store result")
    assert [edge.task for edge in store.after] == ["RNV"]


def test_an_input_by_another_name_is_no_result(design: Design) -> None:
    with pytest.raises(CascadeSimError, match="KO: it is K by another name"):
        place(WITH_KEYS, design().spec)


def test_an_input_with_two_readers_comes_once(design: Design) -> None:
    """V read for the values and for their sum: DRAM sees the first, the buffer both."""
    text = cascade("sum-of-values", TEXT + """
        VS[h,m1,p,f]    = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
        AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
    """)
    kept = {placed.name: placed for placed in place(text, design().spec).einsums}
    assert "BV" in kept["SLNV"].dram_keeps & kept["SLNV"].buffer_keeps & kept["VS"].buffer_keeps
    assert "BV" not in kept["VS"].dram_keeps


def test_pruned_attention_does_what_its_text_says(attention: Make, design: Design) -> None:
    """The second pass computes QK and SLN again: time and energy, but no operation of the text."""
    accelerator = design()
    pruned, dense = (plan(accelerator, attention(1000, h=2, cascade=text)) for text in (PRUNED_1PASS, ATTENTION_1PASS))
    counts, pairs, tiles = operations(pruned), 2 * 1000 * 1000, 2 * 1000 * 4
    assert {name: counts[name] for name in operations(dense)} == operations(dense)
    assert counts["CM"] == {"exp": tiles, "add": tiles, "divide": tiles}
    assert counts["LS"] == {"mac": pairs}
    assert counts["S"] == {"add": 1000}
    importance = {activity.name: activity for activity in pruned.phases[1].activities}
    assert importance["QK"].cycles > 0
    assert importance["QK"].operations == importance["SLN"].operations == {}
    assert pruned.splits == {"M0": 250}
    assert pruned.mapping[0] == "tokens kept: 1,000 keys, 1,000 queries"


def test_importance_of_few_tokens_is_stored_for_those_there_are(attention: Make, design: Design) -> None:
    """204 keys in one tile of 256: S[m1,m0] has 204 elements, beside 12 x 64 of AV, a maximum and a denominator."""
    found = plan(design(), attention(204, 1, h=12, cascade=PRUNED_1PASS))
    assert found.traffic.write_bytes == 2 * (204 + 12 * 64 + 12 * 2)


@pytest.mark.slow
def test_both_passes_have_the_same_key_tiles(attention: Make, design: Design) -> None:
    """CM has a value for each tile of the first pass, however the second would rather split the keys."""
    found = plan(design("fusemax", "global_buffer.capacity_bytes=100_000"), attention(1000, h=2, cascade=PRUNED_1PASS))
    (first,) = (line for line in found.mapping if line.startswith("splits: M0 = "))
    assert found.splits == {"M0": int(first.split()[-1])}
    assert any(f"size M0 = {found.splits['M0']}" in line or f"m1 by {found.splits['M0']}," in line
               for line in found.mapping)  # fmt: skip


def test_the_second_pass_of_pruned_attention_gives_the_importance_of_the_text() -> None:
    from cascadesim.accelerators.fusemax.pruned import SECOND_PASS
    from cascadesim.einsum_cascades.analysis.evaluate import evaluate

    chance = np.random.default_rng(0)
    q, k, v = (chance.normal(size=(2, 12, 4)) for _ in "qkv")
    before, size = np.zeros(12), {"M0": 3}
    whole = evaluate(PRUNED_1PASS, {"Q": q, "K": k, "V": v, "PS": before}, size)
    scores = np.einsum("hpe,hme->hmp", q, k)
    running = np.maximum.accumulate(scores.reshape(2, 4, 3, 12).max(axis=2), axis=1)
    total = np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)
    given = {"Q": q, "K": k, "PS": before, "RM": running, "GM": scores.max(axis=1), "RD": total}
    np.testing.assert_allclose(evaluate(SECOND_PASS, given, size)["S"], whole["S"])
