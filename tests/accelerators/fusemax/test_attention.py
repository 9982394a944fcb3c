"""Plans of attention: cycles and words by hand, then operations that are not the published kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.protocol import Plan
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, KeyInterval

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]


def busy(plan: Plan, unit: str) -> int:
    return sum(activity.cycles for activity in plan.phases[0].activities if activity.unit == unit)


def cycles(plan: Plan) -> dict[str, int]:
    return {activity.name: activity.cycles for activity in plan.phases[0].activities}


def test_bert_at_1k_takes_154_cycles_for_each_of_12288_tiles(model: Make, design: Design) -> None:
    plan = design().plan(model("BERT", 1024), "physical")
    tiles = 64 * 12 * 4 * 4  # B, H, key tiles, query tiles of 256
    # the 1D array is the busier: RM 1, PRM 6 + 1, SPD 1, RD 1, SPNV 64, RNV 64, and AV 64 once every 4 key tiles
    assert 1 + 7 + 1 + 1 + 64 + 64 + 64 // 4 == 154
    assert plan.phases[0].analytical_cycles == busy(plan, "array_1d") == tiles * 154 == 1_892_352
    assert busy(plan, "array_2d") == tiles * (64 + 1 + 7 + 1 + 64)  # QK, LM, SLN, SLD, SLNV


def test_each_einsum_takes_the_published_cycles(model: Make, design: Design) -> None:
    """FuseMax artifact: cycles of each Einsum over all tiles, E = F = 128 here."""
    plan = design().plan(model("XLM", 4096), "physical")
    tiles = 64 * 16 * 16 * 16
    assert cycles(plan) == {
        "QK": tiles * 128, "LM": tiles, "SLN": tiles * 7, "SLD": tiles, "SLNV": tiles * 128,
        "RM": tiles, "PRM": tiles * 7, "SPD": tiles, "RD": tiles, "SPNV": tiles * 128, "RNV": tiles * 128,
        "AV": tiles * 128 // 16,
    }  # fmt: skip


def test_on_the_flat_architecture_only_products_run_on_the_2d_array(model: Make, design: Design) -> None:
    plan = design("fusemax-cascade").plan(model("BERT", 1024), "physical")
    units = {activity.name: activity.unit for activity in plan.phases[0].activities}
    assert {name for name, unit in units.items() if unit == "array_2d"} == {"QK", "SLNV"}
    # per tile of 256 x 256: LM, SLD one key after another, SLN exp + subtract, PRM too; SPNV, RNV, AV over F
    per_tile = 256 + 1 + 2 * 256 + 256 + 2 + 1 + 1 + 64 + 64 + 64 // 4
    assert busy(plan, "array_1d") == 12_288 * per_tile


def test_queries_and_results_move_once_and_keys_once_for_each_group_of_residents(model: Make, design: Design) -> None:
    """BERT at 256K: 16 MiB hold 251 query tiles, P1 = 128 divides the 1024, so keys and values pass P2 = 8 times."""
    plan = design().plan(model("BERT", 262_144), "physical")
    words = 64 * 12 * 262_144 * 64
    assert plan.traffic.read_bytes == 2 * words * (1 + 2 * 8)
    assert plan.traffic.write_bytes == 2 * words


def test_partial_tiles_cost_full_cycles_and_move_what_they_hold(attention: Make, design: Design) -> None:
    """257 keys and 300 queries: 2 x 2 tiles, of which one key and 44 queries are all that the last ones hold."""
    plan = design().plan(attention(257, 300), "physical")
    assert cycles(plan)["QK"] == 4 * 64
    assert plan.traffic.read_bytes == 2 * 64 * (300 + 257 + 257)
    assert plan.traffic.write_bytes == 2 * 64 * 300
    occupancy = {activity.name: activity.occupancy for activity in plan.phases[0].activities}
    assert occupancy["QK"] == pytest.approx(257 * 300 / (4 * 256 * 256))
    assert occupancy["SPNV"] == occupancy["AV"] == pytest.approx(300 / 512)  # queries only


def test_a_causal_mask_skips_key_tiles_without_an_attended_key(attention: Make, design: Design) -> None:
    """1024 tokens in 4 x 4 tiles: the triangle of 1 + 2 + 3 + 4 tiles; useful work is that of the attended pairs."""
    full, causal = (design().plan(attention(1024, mask=mask), "physical") for mask in (KeyInterval(), CAUSAL))
    assert cycles(full)["QK"] == 16 * 64
    assert cycles(causal)["QK"] == 10 * 64
    pairs = 1024 * 1025 // 2
    operations = {activity.name: activity.operations for activity in causal.phases[0].activities}
    assert operations["QK"] == {"mac": pairs * 64}
    assert operations["SLN"] == {"exp": pairs, "add": pairs}


def test_query_heads_of_a_group_share_their_keys(attention: Make, design: Design) -> None:
    """8 query heads on 2 key/value heads: the tiles of 8 heads, the keys of 2."""
    plan = design().plan(attention(1024, h=8, g=4), "physical")
    assert cycles(plan)["QK"] == 8 * 16 * 64
    assert plan.traffic.read_bytes == 2 * 64 * 1024 * (8 + 2 * 2)


def test_a_decode_step_packs_the_heads_of_a_group_into_the_columns(attention: Make, design: Design) -> None:
    """One query of each of 4 heads: one query tile for each key/value head, 16 key tiles each."""
    plan = design().plan(attention(4096, 1, b=2, h=8, g=4), "physical")
    assert cycles(plan)["QK"] == 2 * 2 * 16 * 64
    assert plan.traffic.read_bytes == 2 * 2 * 64 * (8 * 1 + 2 * 2 * 4096)


def test_cross_attention_has_as_many_key_tiles_as_the_other_sequence(attention: Make, design: Design) -> None:
    plan = design().plan(attention(300, 1024), "physical")
    assert cycles(plan)["QK"] == 4 * 2 * 64


def test_narrow_vectors_take_two_turns_for_a_tile(attention: Make, design: Design) -> None:
    wide, narrow = (design("fusemax", f"vector_array.lanes={lanes}") for lanes in (256, 128))
    twice, once = (busy(made.plan(attention(1024), "physical"), "array_1d") for made in (narrow, wide))
    assert twice == 2 * once


def test_energy_counts_the_operations_of_all_elements(model: Make, design: Design) -> None:
    """MACs of the 2D array: E + F and the 6 of an exponential for each of B H S^2 pairs, 17.1645 pJ each."""
    energy = design().plan(model("BERT", 1024), "physical").dynamic_energy_j
    assert energy is not None
    assert energy["mac_2d"] == pytest.approx(768 * 1024**2 * (64 + 64 + 6) * 17.1645e-12, rel=1e-12)
    assert energy["divide_1d"] == pytest.approx(768 * 1024 * 64 * 36.251153e-12, rel=1e-12)
    assert energy["dram"] == pytest.approx(4 * 2 * 768 * 1024 * 64 * 8 * 3.9e-12, rel=1e-12)  # 3.9 pJ per bit


def test_a_mapping_reads_as_the_published_loop_nest(model: Make, design: Design) -> None:
    lines = design().plan(model("BERT", 1024), "physical").mapping
    nest = [line.split("#")[0].strip() for line in lines[1:5]]
    assert nest == ["for instance in 768", "for p2 in 1", "for m1 in 4", "for p1 in 4"]
    text = "\n".join(lines)
    assert "( SLNV[b] | QK[d] ) -> LM[d] -> SLN[c] -> SLD[c]" in text  # FuseMax, section V
    assert "( SPNV[a] | RNV[a] | RM[c] ) -> RD[a] -> PRM[c] -> SPD[c]" in text


LENGTHS = st.integers(1, 400)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(keys=LENGTHS, more=st.integers(0, 100), queries=LENGTHS, group=st.sampled_from([1, 2, 4]), causal=st.booleans())
def test_more_keys_never_take_fewer_cycles_and_traffic_never_falls_below_one_pass(
    keys: int, more: int, queries: int, group: int, causal: bool, attention: Make, small: Design
) -> None:
    """Causal queries are the last of the sequence, so their number stays and every one sees the new keys."""
    accelerator = small(8, 2**14)
    mask = CAUSAL if causal else KeyInterval()
    queries = min(queries, keys) if causal else queries
    before, after = (
        accelerator.plan(attention(length, queries, 8, 8, h=2 * group, g=group, mask=mask), "physical")
        for length in (keys, keys + more)
    )
    assert after.phases[0].analytical_cycles >= before.phases[0].analytical_cycles
    heads = 2 * group
    assert before.traffic.read_bytes >= 2 * 8 * (heads * queries + 2 * 2 * keys)
    assert before.traffic.write_bytes == 2 * 8 * heads * queries
