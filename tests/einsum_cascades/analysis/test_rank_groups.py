"""Which rank variables walk the same fiber."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.analysis.passes import all_passes, partition, passes, rank_group, rank_groups
from cascadesim.einsum_cascades.notation.ir import Access, Index
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS


def index(text: str) -> Index:
    (einsum,) = cascade("example", f"Y = X[{text}]").einsums
    assert isinstance(einsum.expression, Access)
    return einsum.expression.indices[0]


def passes_over(rank: str, text: str) -> int:
    return passes(cascade("example", text), rank)


def test_a_rank_and_its_parts_have_one_name() -> None:
    whole, parts = rank_group(ATTENTION_3PASS, "m"), rank_group(ATTENTION_1PASS, "m")
    assert (whole.covers, whole.outer, whole.inner) == ((frozenset({"m"}),), frozenset({"m"}), ())
    assert (parts.covers, parts.outer, parts.inner) == ((frozenset({"m1", "m0"}),), frozenset({"m1"}), ("m0",))


def test_parts_are_inside_their_whole() -> None:
    assert [each.name for each in rank_groups(ATTENTION_1PASS)] == ["h", "m", "e", "f", "p"]


def test_a_part_can_be_asked_for() -> None:
    assert rank_group(ATTENTION_1PASS, "m0").covers == (frozenset({"m0"}),)


def test_an_einsum_walks_a_fiber_or_a_summary_of_it() -> None:
    over = rank_group(ATTENTION_1PASS, "m")
    assert over.traversed_by(ATTENTION_1PASS.einsum("QK"))
    assert over.walked_by(ATTENTION_1PASS.einsum("RM"))
    assert not over.traversed_by(ATTENTION_1PASS.einsum("RM"))
    assert not over.walked_by(ATTENTION_1PASS.einsum("AV"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("m1*M0+m0", ("m1", "m0")),
        ("m0+m1*M0", ("m1", "m0")),
        ("k2*K1*K0+k1*K0+k0", ("k2", "k1", "k0")),
        ("m1*16+m0", ("m1", "m0")),
        ("4*m1+2*m0", None),  # every second
        ("i+k", None),  # a window
        ("2*i+k", None),  # a window with a stride
        ("i*W+k", None),  # W is not how long k is
        ("m", None),
        ("m1*M0+m0+1", None),
    ],
)
def test_what_is_a_partition(text: str, parts: tuple[str, ...] | None) -> None:
    assert partition(index(text)) == parts


def test_one_outer_rank_may_have_two_inner_ones() -> None:
    """Chunks of queries and keys: p0 and c0 meet in one Einsum, so they are two fibers."""
    assert [each.name for each in rank_groups(find("linear-attention-chunked"))] == ["h", "e", "f", "c", "p"]


def test_a_tile_number_belongs_to_the_rank_it_divides() -> None:
    tiled = cascade("tiled", "LM[m1] max= X[m1*M0+m0]\nY[m] = X[m] - LM[m//M0]")
    (only,) = rank_groups(tiled)
    assert only.outer == {"m", "m1"}
    assert set(only.covers) == {frozenset({"m"}), frozenset({"m1", "m0"})}


def test_a_partition_of_a_partition_is_one_fiber() -> None:
    text = """
        B[k1,k0]    = A[k1*K0+k0]
        C[k1,i1,i0] = B[k1,i1*I0+i0]
        Y           = C[k1,i1,i0]
        Z           = Y * C[k1,i1,i0]
    """
    assert passes_over("k", text) == 2
    assert {each.name for each in rank_groups(cascade("nested", text))} == {"k"}


def test_a_three_level_partition_is_one_fiber() -> None:
    text = """
        Y = A[k2*K1*K0 + k1*K0 + k0]
        Z[k2,k1,k0] = A[k2*K1*K0 + k1*K0 + k0] * Y
    """
    assert passes_over("k", text) == 2


def test_parts_may_have_other_letters_than_m1_and_m0() -> None:
    text = "Y = A[mo*MI+mi]\nZ[mo,mi] = A[mo*MI+mi] * Y\nX[m] = B[m] * Y"
    assert all_passes(cascade("letters", text)) == {"m": 2}


def test_a_number_can_stand_for_the_inner_extent() -> None:
    assert passes_over("m", "Y = A[m1*4+m0]\nZ = Y * A[m1*4+m0]") == 2


def test_another_letter_for_the_same_fiber_is_the_same_fiber() -> None:
    assert passes_over("k", "Y = A[k] * B[k]\nZ = Y * A[j]") == 2


def test_the_whole_and_its_parts_are_the_same_fiber() -> None:
    """SLN walks m although LM has m1: m//M0 is the tile of m."""
    assert passes_over("m", """
        LM[m1] max= X[m1*M0+m0]
        SN[m]  = exp(X[m] - LM[m//M0])
        SD     = SN[m]
    """) == 1


def test_ranks_that_meet_are_two_ranks() -> None:
    """Queries and keys of self-attention are the same tokens, walked by two loops."""
    scores = cascade("self", """
        Q[p,e]  = X[p,d] * WQ[d,e]
        K[m,e]  = X[m,d] * WK[d,e]
        QK[p,m] = Q[p,e] * K[m,e]
        GM[p]   max= QK[p,m]
        SD[p]   = exp(QK[p,m] - GM[p])
    """)
    assert all_passes(scores) == {"p": 1, "e": 1, "d": 1, "m": 2}
