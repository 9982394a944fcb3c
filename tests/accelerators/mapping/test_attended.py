"""Which keys the queries of a text attend, from its conditions and a mask; which tiles that visits, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.attended import AttendedKeys, attended
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.accelerators.mapping.schedule.program import Builder
from cascadesim.accelerators.mapping.text import find_mapping
from cascadesim.accelerators.protocol import problems
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

PAIRS = find("attention-3pass")


def keys_of(text: str, condition: str, queries: int, keys: int) -> AttendedKeys:
    scores = cascade(text, f"S[p] = A[p] * B[m] if {condition} else 0")
    found = attended(scores, {"P": queries, "M": keys}, FULL)
    assert found is not None
    return found


def test_keys_that_nobody_attends_between_two_queries_are_visited_too() -> None:
    """Queries 0, 1, 2 attend keys 0, 2, 4 alone; 1 and 3 lie between."""
    found = keys_of("even", "m == 2*p", 3, 5)
    assert found.first.tolist() == [0, 2, 4]
    assert found.last.tolist() == [1, 3, 4]


def test_intervals_that_step_back_are_taken_wider() -> None:
    """Queries 0, 1, 2 attend keys up to 2, 1, 0."""
    found = keys_of("back", "m <= 2 - p", 3, 4)
    assert found.first.tolist() == [0, 0, 0]
    assert found.last.tolist() == [2, 2, 2]


def test_heads_that_share_keys_lie_side_by_side_at_each_position() -> None:
    found = attended(PAIRS, {"H": 1, "P": 2, "M": 3, "E": 1, "F": 1}, CAUSAL, heads=3)
    assert found is not None
    assert found.last.tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("mask", [FULL, KeyInterval(True, window=9)])
def test_all_pairs_are_no_mask(mask: KeyInterval) -> None:
    """One query at the end of three positions attends all three."""
    assert attended(PAIRS, {"H": 1, "P": 1, "M": 3, "E": 1, "F": 1}, mask) is None


def test_tiles_of_a_causal_triangle() -> None:
    """5 queries and keys in tiles of 2: 1 + 2 whole tiles, and the last query's two whole tiles and one single key."""
    found = attended(PAIRS, {"H": 1, "P": 5, "M": 5, "E": 1, "F": 1}, CAUSAL)
    assert found is not None
    assert dict(found.visited(2, 2)) == {(2, 2): 3, (1, 2): 2, (1, 1): 1}
    assert dict(found.visited(2, 5)) == {(2, 2): 1, (2, 4): 1, (1, 5): 1}
    assert found.pairs(1) == 15
    assert found.pairs(2) == 1 + 1 + 2 + 2 + 3


def test_of_many_keys_32nds_come_together() -> None:
    """65 keys come by 4: a 32nd is 3 of them, and units are powers of two."""
    found = AttendedKeys(np.array([5, 5]), np.array([6, 9]), 65)
    assert int(found.keys_of(0, 1)) == 4
    assert int(found.keys_of(0, 2)) == 8
    assert dict(found.visited(2, 65)) == {(2, 8): 1}


def test_tiles_of_the_text_are_not_cut() -> None:
    """Of tiles of 3 keys the one with keys 3 to 5 comes whole, and so does the next one for its first key."""
    found = AttendedKeys(np.array([4, 4]), np.array([5, 6]), 12, grain=3)
    assert found.unit == 3
    assert int(found.keys_of(0, 1)) == 3
    assert int(found.keys_of(0, 2)) == 6
    text = attended(find("attention-1pass"), {"H": 1, "P": 12, "M": 12, "M0": 3, "M1": 4, "E": 1, "F": 1}, CAUSAL)
    assert text is not None
    assert text.unit == 3


def test_a_text_whose_running_values_are_of_every_tile_leaves_none_out() -> None:
    """Its conditions are those of single keys: RM, RD and RNV are made for every tile and query, masked or not."""
    extents = {"H": 1, "P": 12, "M": 12, "M0": 3, "M1": 4, "E": 1, "F": 1}
    assert attended(find("attention-1pass-causal"), extents, FULL) is None
    assert attended(find("attention-3pass-causal"), {"H": 1, "P": 12, "M": 12, "E": 1, "F": 1}, FULL) is not None


def test_a_text_whose_running_values_stay_as_they_are_leaves_their_tiles_out() -> None:
    """A layer of Llama: 12 keys in tiles of 3; a query needs tiles that begin before it, and RM and RD of no other."""
    sizes = {"H": 1, "G": 1, "P": 12, "M": 12, "M0": 3, "M1": 4, "D": 1, "J": 1, "I": 1, "C": 1, "F": 1, "N": 1}
    found = attended(find("llama-layer"), sizes, FULL)
    assert found is not None
    assert found.first.tolist() == [0] * 12
    assert found.last.tolist() == list(range(12))
    assert found.unit == 3
    assert found.pairs(3) == 3 * (1 + 2 + 3 + 4)  # tiles of keys, of all queries


def test_what_is_made_once_a_query_leaves_tiles_out_all_the_same() -> None:
    """Scores under a condition, and afterwards a product of each query with nothing of the keys."""
    text = cascade("masked, then scaled", "S[p] = A[p] * B[m] if m <= p else 0\nT[p] = S[p] * C[p]")
    found = attended(text, {"P": 3, "M": 3}, FULL)
    assert found is not None
    assert found.last.tolist() == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat", "edge-array", "systolic-ws-32"])
@pytest.mark.parametrize("text", ["attention-1pass-causal", "attention-3pass-causal", "attention-1pass"])
def test_a_plan_over_many_tiles_does_all_operations_of_the_text(name: str, text: str) -> None:
    """1,024 keys and queries; checked against what `passes` counts."""
    machine = load(name)
    (operation,) = load_workload("bert").operations(sequence_length=1024, batch=1, scope="attention", attention=text)
    assert list(problems(machine.plan(operation, "physical"), machine)) == []


@pytest.mark.slow
def test_rounds_of_a_window_are_written_down_once_wherever_they_lie() -> None:
    """1,024 tokens in tiles of 16, a window of 64: of each of the 64 key tiles the five query tiles that see it.

    Four of the five are like those of the key tile before, seen from their keys: only a round of each key tile is new.
    """
    text, window = find("attention-1pass"), KeyInterval(True, window=64)
    sizes = {"b": 1, "h": 1, "g": 1, "m": 1024, "p": 1024, "e": 16, "f": 16}
    machine = load("edge-array")
    assert isinstance(machine, SpatialMachine)
    found = searched(text, tuple(sizes.items()), machine.spec, window)
    (group,) = found.groups
    assert [loop.axis for loop in group.loops] == ["h", "m", "p"]
    builder = Builder(group)
    builder.rounds((), dict(group.problem.extents))
    assert 64 < len(builder.known) < 64 + 32


def test_a_pipeline_that_a_mask_breaks_still_keeps_the_arrays_busy() -> None:
    """A causal row of keys ends with a single tile of queries, too few for the epochs of a pipeline: of 16 x 16 tiles
    136 are visited, several of them open at a time: in closed form to 3 % (drains), at cycle level within 10 % of that,
    where two at a time took 1.1 to 2.5 times as long."""
    operation, *_ = load_workload("bert").operations(
        sequence_length=4096, batch=1, scope="attention", attention="attention-1pass"
    )
    machine = load("fusemax")
    assert isinstance(machine, SpatialMachine)
    found = {mask: machine.with_mapping(find_mapping("fusemax")).plan(replace(operation, mask=mask), "physical")
             for mask in (FULL, CAUSAL)}  # fmt: skip
    (whole,), (causal,) = (plan.phases for plan in found.values())
    assert causal.program is not None
    assert causal.analytical_cycles == pytest.approx(whole.analytical_cycles * 136 / 256, rel=0.03)
    assert run(causal.program()).cycles < 1.1 * causal.analytical_cycles
    assert any("overlap interleave 8" in line for line in found[CAUSAL].mapping)
