"""Which rank variables walk the same fiber."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.analysis.passes import partition, rank_group, rank_groups
from cascadesim.einsum_cascades.notation.ir import Access, Index
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS


def index(text: str) -> Index:
    (einsum,) = cascade("example", f"Y = X[{text}]").einsums
    assert isinstance(einsum.expression, Access)
    return einsum.expression.indices[0]


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
