"""Plans of flat and unfused: a case small enough to count on paper, published rows, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Accounting, Plan
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, Mask
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS, ATTENTION_3PASS_DEFERRED

# A 2 x 2 array, 2 lanes, a buffer of 128 words in rows of 2 words, 1 byte of DRAM per cycle.
TINY = (
    "pe_array.rows=2", "pe_array.columns=2", "vector_array.lanes=2", "global_buffer.row_bytes=4",
    "global_buffer.capacity_bytes=256", "dram.bandwidth_bytes_per_s=940000000.0",
)  # fmt: skip


def narrow(capacity_bytes: int) -> tuple[str, str]:
    """A buffer of rows of one word."""
    return "global_buffer.row_bytes=2", f"global_buffer.capacity_bytes={capacity_bytes}"


def attention(
    queries: int, keys: int, *, batch: int = 1, heads: int = 1, group: int = 1, query_depth: int = 2,
    value_depth: int | None = None, mask: Mask = FULL, cascade: Cascade = ATTENTION_3PASS,
) -> Operation:  # fmt: skip
    extents = {
        "b": batch, "h": heads, "g": group, "m": keys, "p": queries,
        "e": query_depth, "f": value_depth or query_depth,
    }  # fmt: skip
    return Operation("attention", "attention", cascade, tuple(extents.items()), mask=mask)


def plan(name: str, operation: Operation, accounting: Accounting = "physical", changes: Sequence[str] = ()) -> Plan:
    return load(name, changes).plan(operation, accounting)


def cycles(plan: Plan, name: str) -> int:
    return sum(activity.cycles for phase in plan.phases for activity in phase.activities if activity.name == name)


def latency_cycles(plan: Plan) -> float:
    return sum(phase.analytical_cycles for phase in plan.phases)


def test_four_queries_and_keys_on_a_2_x_2_array_are_counted_by_hand() -> None:
    found = plan("flat", attention(4, 4), changes=TINY)
    # 2 x 2 score tiles of 2 x 2; each takes E = 2 cycles for QK and 2 for AV, whatever is stationary
    assert cycles(found, "QK") == 8
    assert cycles(found, "AV") == 8
    # the softmax runs row by row: 4 rows of 2 vectors, 1 cycle each, in every one of its four Einsums
    assert [cycles(found, name) for name in ("GM", "SN", "SD", "A")] == [8, 8, 8, 8]
    # everything fits: Q, K and V come once, AV leaves once, 4 x 2 words of 2 bytes each
    assert found.traffic.read_bytes == 3 * 4 * 2 * 2
    assert found.traffic.write_bytes == 4 * 2 * 2


def test_without_fusion_scores_and_weights_go_to_dram_and_back() -> None:
    found = plan("unfused", attention(4, 4), changes=TINY)
    matrix, scores = 4 * 2 * 2, 4 * 4 * 2  # bytes of Q, K, V or AV; bytes of QK or A
    assert [(phase.traffic.read_bytes, phase.traffic.write_bytes) for phase in found.phases] == [
        (2 * matrix, scores), (scores, scores), (matrix + scores, matrix),
    ]  # fmt: skip
    # at 1 byte per cycle DRAM bounds each phase: 64, 64, 64 cycles against 8, 32 and 8 of the arrays
    assert [phase.analytical_cycles for phase in found.phases] == [64, 64, 64]


# FuseMax artifact, attn-flat.csv and attn-unfused.csv: model sizes, length -> traffic_B, latency_s, energy_pJ.
PUBLISHED = [
    ("flat", 12, 64, 1024, 1308622848, 0.013386076595744681, 2485343541836.59),
    ("flat", 12, 64, 16384, 333222041171.3489, 3.4268356085106384, 636117220189497.8),
    ("flat", 12, 64, 1048576, 6966711832018944, 16220.64, 2.7526571725053706e18),
    ("flat", 16, 128, 4096, 54237627917.03273, 0.2855696340425532, 92439452690514.44),
    ("unfused", 12, 64, 1024, 6845104128, 0.02182357659574468, 2605413731452.846),
    ("unfused", 16, 64, 262144, 563568428711936, 1826.4932210382979, 2.3216084135556586e17),
    ("unfused", 16, 128, 16384, 2216203124736, 7.169114144680851, 1518906321674495.5),
]


@pytest.mark.parametrize(("name", "heads", "depth", "length", "traffic", "latency_s", "energy_pj"), PUBLISHED)
def test_artifact_accounting_reproduces_the_published_rows(
    name: str, heads: int, depth: int, length: int, traffic: float, latency_s: float, energy_pj: float
) -> None:
    found = plan(name, attention(length, length, batch=64, heads=heads, query_depth=depth), "artifact")
    assert found.traffic.total_bytes == pytest.approx(traffic, rel=1e-9)
    assert latency_cycles(found) / 940e6 == pytest.approx(latency_s, rel=1e-9)
    assert found.dynamic_energy_j is not None
    assert sum(found.dynamic_energy_j.values()) * 1e12 == pytest.approx(energy_pj, rel=1e-6)


def test_accountings_agree_on_cycles_of_the_arrays_and_differ_in_registers() -> None:
    operation = attention(1024, 1024, batch=64, heads=12, query_depth=64)
    artifact, physical = plan("unfused", operation, "artifact"), plan("unfused", operation, "physical")
    for name in ("QK", "GM", "AV"):
        assert cycles(artifact, name) == cycles(physical, name)
    assert artifact.dynamic_energy_j is not None
    assert physical.dynamic_energy_j is not None
    assert physical.dynamic_energy_j["mac_2d"] == artifact.dynamic_energy_j["mac_2d"]
    # the artifact charges the registers of one element of 65,536
    ratio = physical.dynamic_energy_j["registers_2d"] / artifact.dynamic_energy_j["registers_2d"]
    assert ratio == pytest.approx(65536, rel=0.01)


def test_a_deferred_division_divides_outputs_instead_of_weights() -> None:
    found = plan("flat", attention(4, 4, cascade=ATTENTION_3PASS_DEFERRED), changes=TINY)
    # three softmax Einsums of 4 rows x 2 vectors, then 4 output rows of one vector of 2 elements
    assert [cycles(found, name) for name in ("GM", "SN", "SD", "AV")] == [8, 8, 8, 4]
    assert found.traffic == plan("flat", attention(4, 4), changes=TINY).traffic
    unfused = plan("unfused", attention(4, 4, cascade=ATTENTION_3PASS_DEFERRED), changes=TINY)
    assert [phase.name for phase in unfused.phases] == ["QK", "softmax", "SNV", "AV"]
    # SNV leaves unfinished, comes back and leaves again: 3 x 8 words for the phases of SNV and AV, beside V and SN
    assert unfused.phases[3].traffic.total_bytes == 2 * 4 * 2 * 2


def test_a_row_that_does_not_fit_is_read_again() -> None:
    # 100 keys, room for 50 words: half of a row of scores and numerators goes to DRAM and back between the passes
    tight = (*TINY[:4], "global_buffer.capacity_bytes=100", *TINY[5:])
    roomy, spilling = (plan("unfused", attention(2, 100, query_depth=1), changes=changes) for changes in (TINY, tight))
    assert roomy.phases[1].traffic.total_bytes == 2 * 2 * 100 * 2
    # GM reads scores (instead of DRAM's own read), SN reads them again and writes SN, A reads SN: 3 more at 1/2
    assert spilling.phases[1].traffic.total_bytes == 2 * 2 * 100 * (2 + 3 / 2)


def test_a_causal_mask_skips_key_tiles_beyond_the_diagonal() -> None:
    # 4 query tiles of 2 rows meet 1, 2, 3 and 4 of the 4 key tiles: 10 score tiles instead of 16
    full, causal = (plan("flat", attention(8, 8, mask=mask), changes=TINY) for mask in (FULL, CAUSAL))
    assert cycles(causal, "GM") / cycles(full, "GM") == 10 / 16
    assert cycles(plan("unfused", attention(8, 8, mask=CAUSAL), changes=TINY), "QK") == 10 * 2
    gm = next(activity for activity in causal.phases[0].activities if activity.name == "GM")
    assert gm.operations == {"max": 36}  # 8 * 9 / 2 attended pairs
    assert gm.occupancy == 36 / (2 * gm.cycles)


def test_only_scores_that_the_mask_lets_through_pass_by_dram() -> None:
    """8 causal queries and keys: 36 of the 40 scores of the key tiles met leave, and come back as weights."""
    qk, softmax, av = plan("unfused", attention(8, 8, mask=CAUSAL), changes=TINY).phases
    assert qk.traffic.write_bytes == 2 * 36
    assert softmax.traffic.read_bytes == softmax.traffic.write_bytes == 2 * 36
    assert av.traffic.read_bytes == 2 * (36 + 8 * 2)


def test_query_heads_of_a_group_share_their_keys() -> None:
    # decode: 4 query heads attend the same 8 keys of 2 elements; K and V come once for all four
    grouped = plan("flat", attention(1, 8, heads=4, group=4), changes=TINY)
    apart = plan("flat", attention(1, 8, heads=4, group=1), changes=TINY)
    keys_and_values, queries = 2 * 8 * 2 * 2, 4 * 2 * 2
    assert grouped.traffic.read_bytes == keys_and_values + queries
    assert apart.traffic.read_bytes == 4 * keys_and_values + queries


def test_keys_and_queries_may_differ_in_number() -> None:
    found = plan("flat", attention(4, 6, query_depth=2, value_depth=4), changes=TINY)
    assert cycles(found, "GM") == 4 * 3
    assert found.traffic.write_bytes == 4 * 4 * 2


@settings(max_examples=40, deadline=None)
@given(
    queries=st.integers(1, 40), keys=st.integers(1, 40), depth=st.integers(1, 9), heads=st.integers(1, 3),
    group=st.integers(1, 3), causal=st.booleans(), name=st.sampled_from(["flat", "unfused", "flat-edge"]),
)  # fmt: skip
def test_any_shape_moves_every_operand_at_least_once(
    queries: int, keys: int, depth: int, heads: int, group: int, causal: bool, name: str
) -> None:
    mask = CAUSAL if causal else FULL
    keys = max(keys, queries) if causal else keys  # otherwise some queries attend nothing
    operation = attention(queries, keys, heads=heads * group, group=group, query_depth=depth, mask=mask)
    found = plan(name, operation)
    used = keys
    least = 2 * depth * heads * (2 * group * queries + 2 * used)
    assert found.traffic.total_bytes >= least * (1 - 1e-12)
    for phase in found.phases:
        assert phase.analytical_cycles > 0
        assert all(0 < activity.occupancy <= 1 + 1e-12 for activity in phase.activities)


@pytest.mark.parametrize(
    ("name", "operation", "accounting", "changes", "message"),
    [
        ("flat", attention(4, 4, cascade=ATTENTION_1PASS), "artifact", (), "published mappings only"),
        ("flat", attention(256, 256, cascade=ATTENTION_3PASS_DEFERRED), "artifact", (), "attention-3pass only"),
        ("flat", attention(1000, 1024, query_depth=64), "artifact", (), "use physical accounting"),
        ("unfused", attention(256, 256, query_depth=64, mask=CAUSAL), "artifact", (), "causal"),
        ("unfused", attention(2**20, 2**20, query_depth=32), "artifact", (), "64 and 128"),
        ("flat", attention(256, 256), "physical", narrow(16), "do not hold two tiles"),
        ("unfused", attention(256, 256), "physical", narrow(6), "hold no tile"),
        ("flat", attention(9, 4, mask=CAUSAL), "physical", (), "first 5 of 9 queries attend no key"),
        ("flat", attention(512, 512), "physical", ("dataflow.rows=100",), "multiple"),
        ("flat", attention(512, 512), "physical", ("dataflow.rows=256", "dataflow.granularity=head"), "leave out"),
        ("unfused", attention(512, 512), "physical", ("dataflow.rows=256",), "no dataflow to pin"),
        ("flat", attention(4, 4), "physical", ("vector_array.operations.divide=null",), "has no divide"),
    ],
)
def test_what_cannot_be_mapped_gets_one_clear_error(
    name: str, operation: Operation, accounting: Accounting, changes: Sequence[str], message: str
) -> None:
    with pytest.raises(CascadeSimError, match=message):
        plan(name, operation, accounting, changes)
