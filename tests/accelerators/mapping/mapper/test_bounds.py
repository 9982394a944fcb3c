"""Bounds of searches: no group of any order of loops, overlap and place of its inputs undercuts them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_cases import MASKS, TEXTS, edge, sized

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.mapper.bounds import least_of_all, least_of_tiles, least_room, least_words
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.residency import residents
from cascadesim.accelerators.mapping.problem import problem
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL
from cascadesim.einsum_cascades.texts import find


@pytest.mark.parametrize("settings", [
    {}, {"global_buffer.row_bytes": 2},
    {"pe_array.register_words_per_pe": 1, "vector_array.register_words_per_lane": 1, "global_buffer.row_bytes": 2},
])  # fmt: skip
@pytest.mark.parametrize("name", ["attention-1pass", "attention-3pass-causal"])
def test_no_group_is_faster_than_its_tiles_say_at_least(name: str, settings: dict[str, int]) -> None:
    """With few registers what is made goes through the ports of the buffer, once for its maker and each reader."""
    of, spec = problem(find(name), {"H": 2, "P": 7, "M": 12, "M0": 4, "E": 3, "F": 5}), edge(**settings)
    neighbours = Neighbours(of, spec, tuple(range(len(of.work))))
    pairs = [(least_of_tiles(draft, draft.leaf), group) for draft in neighbours.drafts()
             for group in residents(neighbours, draft)]  # fmt: skip
    assert pairs
    assert all(least <= group.busiest_cycles for least, group in pairs)
    close = max(least / group.busiest_cycles for least, group in pairs)
    assert close > 0.6


SCORES = cascade("scores", """
    QK[h,p,m] = Q[h,p,e] * K[h,m,e]
    SN[h,p,m] = exp(QK[h,p,m])
    AV[h,p,f] = SN[h,p,m] * V[h,m,f]
""")


def test_scores_that_registers_do_not_hold_count_for_the_tiles_that_a_mask_attends() -> None:
    """Tiles of two of four queries with all keys that they attend: 4 and 4 keys in full, 2 and 4 under a causal mask.

    Two by two elements and one lane of one word hold no tile of scores. Of k keys QK reads a query for every two keys,
    twice, and each key once, and writes 2 k scores; SN reads and writes as many; AV reads them and k values: 11 k. All
    inputs come into the buffer once: 3 x 4 words.
    """
    spec = edge(**{"pe_array.rows": 2, "pe_array.columns": 2, "vector_array.lanes": 1, "global_buffer.row_bytes": 2,
                   "global_buffer.ports": 1, "pe_array.register_words_per_pe": 1,
                   "vector_array.register_words_per_lane": 1})  # fmt: skip
    found = {}
    for mask in (FULL, CAUSAL):
        of = sized(SCORES, {"H": 1, "P": 4, "M": 4, "E": 1, "F": 1}, 1, mask)
        drafts = Neighbours(of, spec, (0, 1, 2), fine=True).drafts()
        draft = next(each for each in drafts if [loop.step for loop in each.loops if loop.axis == "p"] == [2])
        found[mask] = least_of_tiles(draft, draft.leaf)
    assert found == {FULL: 12 + 11 * (4 + 4), CAUSAL: 12 + 11 * (2 + 4)}


def narrow(rows: int, columns: int, lanes: int) -> SpatialArray:
    """One word in each element and lane, and one word a cycle through the port: what is made passes the buffer."""
    sizes = [f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
             "pe_array.register_words_per_pe=1", "vector_array.register_words_per_lane=1", "global_buffer.ports=1",
             "global_buffer.row_bytes=2", "pe_array.operations.divide=1"]
    return load("fusemax", sizes).spec  # type: ignore[attr-defined, no-any-return]


SIDES = st.tuples(*(st.integers(1, most) for most in (3, 3, 4)))
SIZES = {"B": 1, "X": 1, "H": 2, "G": 1, "E": 3, "F": 2, "R": 5, "K": 4, "N": 6, "J": 3, "D": 2}


@pytest.mark.slow
@settings(max_examples=40)
@given(st.sampled_from(TEXTS), st.sampled_from(MASKS), SIDES, st.integers(2, 9), st.integers(1, 3))
def test_no_group_of_a_draft_undercuts_its_bounds(text, mask, sides, length, inner) -> None:  # type: ignore[no-untyped-def]
    of, spec = sized(text, {**SIZES, "M": length, "P": length}, inner, mask), narrow(*sides)
    members = tuple(range(len(of.work)))
    neighbours = Neighbours(of, spec, members)
    cycles, words = least_of_all(of, spec, members)
    for draft in list(neighbours.drafts())[:40]:
        least, room = least_of_tiles(draft, draft.leaf), least_room(draft, draft.leaf)
        for group in residents(neighbours, draft):
            assert max(least, cycles) <= group.busiest_cycles * (1 + 1e-9)
            assert words <= group.read_words + group.written_words
            assert least_words(of, members)[0] <= group.loaded_words
            assert room <= group.footprint_words or group.in_slices


@settings(max_examples=20)
@given(st.sampled_from(TEXTS), st.sampled_from(MASKS), SIDES, st.integers(2, 5))
def test_what_is_known_of_other_groups_changes_no_bound(text, mask, sides, length) -> None:  # type: ignore[no-untyped-def]
    """An Einsum reads from the buffer what the group makes there, or has it from outside, or straight from its maker.
    """
    sizes, spec = {**SIZES, "M": length, "P": length}, narrow(*sides)
    of, count = sized(text, sizes, 2, mask), len(sized(text, sizes, 2, mask).work)
    for members in (tuple(range(first, last)) for first in range(count) for last in range(first + 1, count + 1)):
        fresh = replace(of, known={})
        for draft in islice(Neighbours(of, spec, members).drafts(), 6):
            again = replace(draft, problem=fresh)
            assert least_of_tiles(draft, draft.leaf) == least_of_tiles(again, draft.leaf)
