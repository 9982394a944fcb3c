"""Operations at bound extents: partial tiles, text conditions and masks, against points listed one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.counts import holds
from cascadesim.einsum_cascades.analysis.passes import partitions
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval, Mask, neighborhood
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.einsum_cascades.texts.transformer import (
    ATTENTION_1PASS,
    ATTENTION_1PASS_CAUSAL,
    ATTENTION_3PASS_CAUSAL,
    LINEAR,
)

BERT = {"h": 12, "m": 1024, "p": 1024, "e": 64, "f": 64, "g": 1, "b": 2}


def test_a_product_counts_every_point() -> None:
    operation = Operation("projection", "linear", LINEAR, (("r", 3), ("k", 5), ("n", 7), ("x", 2)))
    assert work_of(operation) == {"Z": {"mac": 2 * 3 * 5 * 7}}


def test_a_partial_last_tile_counts_what_it_holds() -> None:
    """1,000 keys in tiles of 256: four tiles, the last with 232 keys."""
    work = bound_work(ATTENTION_1PASS, {"H": 1, "M": 1000, "M0": 256, "P": 10, "E": 4, "F": 8})
    assert work["QK"] == {"mac": 1000 * 10 * 4}
    assert work["SLN"] == {"add": 1000 * 10, "exp": 1000 * 10}
    assert work["RM"] == {"max": 4 * 10}
    assert work["SPNV"] == {"multiply": 4 * 10 * 8}
    assert work["AV"] == {"divide": 10 * 8}


def test_a_mask_leaves_the_triangle_of_pairs_and_the_tiles_that_hold_one() -> None:
    """8 causal queries on 8 keys: 36 pairs; tiles of 4: the first four queries see one, the others two."""
    work = bound_work(ATTENTION_1PASS, {"H": 1, "M": 8, "M0": 4, "P": 8, "E": 2, "F": 2}, CAUSAL)
    assert work["QK"] == {"mac": 36 * 2}
    assert work["RM"] == {"max": 4 * 1 + 4 * 2}


def test_conditions_of_the_text_count_as_the_same_mask_does() -> None:
    sizes = {"H": 3, "M": 1000, "P": 700, "E": 4, "F": 4}
    masked = bound_work(find("attention-3pass"), sizes, CAUSAL)
    assert bound_work(ATTENTION_3PASS_CAUSAL, sizes) == masked
    assert bound_work(ATTENTION_3PASS_CAUSAL, sizes, CAUSAL) == masked


def test_conditions_of_a_split_rank_mean_the_rank_before_it_was_split() -> None:
    """The text writes M1*M0 for all keys; a partial last tile does not move the diagonal."""
    sizes = {"H": 1, "M": 10, "M0": 4, "P": 10, "E": 1, "F": 1}
    assert bound_work(ATTENTION_1PASS_CAUSAL, sizes)["QK"] == {"mac": 55}


def test_batch_and_copies_repeat_the_cascade_and_the_count_of_the_operation_does_not() -> None:
    operation = Operation("attention", "attention", find("attention-3pass"), tuple(BERT.items()), count=12)
    assert work_of(operation)["QK"] == {"mac": 2 * 12 * 1024 * 1024 * 64}


def test_counts_are_closed_forms_at_a_million_keys() -> None:
    work = bound_work(ATTENTION_1PASS, {"H": 1, "M": 1 << 20, "M0": 256, "P": 1 << 20, "E": 1, "F": 1}, CAUSAL)
    assert work["QK"]["mac"] == (1 << 20) * ((1 << 20) + 1) // 2


def test_a_neighborhood_counts_its_pairs() -> None:
    window = neighborhood(layout=(8,), window=(3,))
    work = bound_work(find("attention-3pass"), {"H": 1, "M": 8, "P": 8, "E": 1, "F": 1}, window)
    assert work["QK"] == {"mac": 8 * 3}


def test_an_extent_that_nobody_gave_is_named() -> None:
    with pytest.raises(CascadeSimError, match="attention-1pass: the extent M0 is not given"):
        bound_work(ATTENTION_1PASS, {"H": 1, "M": 8, "P": 8, "E": 2, "F": 2})


def test_extents_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(CascadeSimError, match="M1 is 4 with the other extents given, got 5"):
        bound_work(ATTENTION_1PASS, {"H": 1, "M": 8, "M0": 2, "M1": 5, "P": 8, "E": 2, "F": 2})


WINDOWED = cascade("windowed", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m <= p + M - P and m > p + M - P - 3 else 0
    AV[h,p,f] = QK[h,m,p] * V[h,m,f] if m <= p + M - P and m > p + M - P - 3 else 0
""")
MASKS: tuple[Mask, ...] = (FULL, CAUSAL, KeyInterval(True, window=3), KeyInterval(True, chunk=4))
COUNTABLE = [*(find(name) for name in cascade_names() if name.startswith("attention-") and "pruned" not in name
               and name != "attention-top-k"), find("linear-attention"), WINDOWED]  # fmt: skip


@pytest.mark.slow
@given(
    text=st.sampled_from(COUNTABLE), mask=st.sampled_from(MASKS), keys=st.integers(1, 11),
    queries=st.integers(1, 11), tile=st.integers(1, 5), heads=st.integers(1, 2),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_closed_forms_equal_points_listed_one_by_one(
    text: Cascade, mask: Mask, keys: int, queries: int, tile: int, heads: int
) -> None:
    queries = min(queries, keys)
    sizes = {"H": heads, "M": keys, "M0": tile, "P": queries, "E": 2, "F": 3, "G": 1}
    assert bound_work(text, sizes, mask) == listed(text, sizes, mask)


def listed(text: Cascade, sizes: Mapping[str, int], mask: Mask) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for einsum in text.einsums:
        for charge in charges(einsum):
            points = sum(1 for _ in _points(text, charge.ranks, charge.conditions, sizes, mask))
            total = found.setdefault(einsum.name, Counter())
            total.update({name: count * points for name, count in charge.operations.items()})
    kept = {name: {kind: count for kind, count in counts.items() if count} for name, counts in found.items()}
    return {name: counts for name, counts in kept.items() if counts}


def _points(text, ranks, tests, sizes, mask) -> Iterator[tuple[int, ...]]:  # type: ignore[no-untyped-def]
    tiles = -(-sizes["M"] // sizes["M0"])
    extents = {**sizes, "M1": tiles}
    exact = {**extents, "M1*M0": sizes["M"]}
    for point in product(*(range(extents[rank.upper()]) for rank in ranks)):
        at = dict(zip(ranks, point, strict=True))
        if {"m1", "m0"} <= set(ranks) and at["m1"] * sizes["M0"] + at["m0"] >= sizes["M"]:
            continue
        if all(_holds(test, at, exact) for test in tests) and _attends(at, sizes, mask):
            yield point


def _holds(test, at, sizes) -> bool:  # type: ignore[no-untyped-def]
    """Whether a condition holds where M1*M0 means M: keys are moved to where the padded text has them."""
    shift = sizes["M1"] * sizes["M0"] - sizes["M1*M0"] if "M0" in str(test) and "M1" in str(test) else 0
    grid = {rank: np.asarray(value) for rank, value in at.items()}
    if shift:
        grid["p"] = grid["p"] - shift
    return bool(holds((test,), grid, sizes))


def _attends(at: Mapping[str, int], sizes: Mapping[str, int], mask: Mask) -> bool:
    if "p" not in at or not {"m", "m1"} & set(at):
        return True
    first, last = (int(end) for end in mask.interval(np.asarray(at["p"]), sizes["P"], sizes["M"]))
    keys = {at["m"]} if "m" in at else {at["m1"] * sizes["M0"] + at["m0"]} if "m0" in at else {
        at["m1"] * sizes["M0"] + inner for inner in range(sizes["M0"])}  # fmt: skip
    return any(first <= key <= last for key in keys)


def test_partitions_are_those_of_indices_and_conditions() -> None:
    assert partitions(ATTENTION_1PASS) == (("m1", "m0"),)
    assert partitions(find("attention-3pass")) == ()


@settings(deadline=None)
@given(keys=st.integers(1, 24), tile=st.integers(1, 6))
def test_conditions_inside_tiles_count_a_partial_last_tile_as_it_is(keys: int, tile: int) -> None:
    """Two heads; pairs of a chunk, and its triangle of eliminations: neither keys nor rows of the last chunk that are
    not there count anything. Queries are as many as keys, whether that is said or not."""
    sizes = {"H": 2, "M": keys, "E": 3, "F": 4, "G": 1, "M0": tile, "P0": tile, "I0": tile}
    found = bound_work(find("gated-deltanet-chunked"), sizes)
    assert found == bound_work(find("gated-deltanet-chunked"), {**sizes, "P": keys})
    chunks = [min(tile, keys - first) for first in range(0, keys, tile)]
    pairs = sum(row > column for size in chunks for column in range(size) for row in range(size))
    triangles = sum(column <= step < row for size in chunks
                    for column in range(size) for step in range(size) for row in range(size))  # fmt: skip
    assert found["QS"]["mac"] == 2 * keys * 3 * 4
    assert found.get("KK", {}) == ({"mac": 2 * 3 * pairs} if pairs else {})
    assert found.get("IT", {}).get("add", 0) == 2 * triangles


def test_a_causal_mask_leaves_nothing_out_of_chunks_that_look_back_only() -> None:
    """Pairs of a chunk are causal by the text; what crosses chunks is of chunks before."""
    sizes = {"M": 600, "P": 600, "M0": 256, "P0": 256, "H": 2, "G": 1, "E": 4, "F": 4}
    found = bound_work(find("mamba-2-ssd"), sizes)
    assert bound_work(find("mamba-2-ssd"), sizes, CAUSAL) == found
    assert found["DQ"] == {"exp": 2 * 600}
    assert found["A"] == {"multiply": 2 * (2 * 256 * 257 + 88 * 89) // 2}


def test_queries_and_keys_that_share_chunks_have_as_many_of_them() -> None:
    """300 keys are two chunks of 256, 700 queries three."""
    with pytest.raises(CascadeSimError, match="mamba-2-ssd: M1 is 2 with the other extents given, got 3"):
        bound_work(find("mamba-2-ssd"), {"M": 300, "P": 700, "M0": 256, "P0": 256, "H": 1, "G": 1, "E": 1, "F": 1})


@settings(deadline=None)
@given(keys=st.integers(1, 24), tile=st.integers(1, 6), rows=st.integers(1, 8))
def test_a_condition_on_tiles_tells_them_apart(keys: int, tile: int, rows: int) -> None:
    text = cascade("stairs", "Z[i] = X[m1*M0+m0] * W[i] if m1*M0+m0 <= 3*i else 0")
    found = bound_work(text, {"M": keys, "M0": tile, "I": rows})["Z"]
    assert found == {"mac": sum(key <= 3 * row for key in range(keys) for row in range(rows))}
