"""Room of a tile: what is dead gives its place to what is made next, and nothing that may still be read does."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.plan import given as given_mapping
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.notation import cascade

# a tile of 64 x 64 is more than the registers of 16 x 16 elements hold (4 words each), so it is in the buffer
SMALL = tuple((rank, {"b": 1, "h": 2, "g": 1, "m": 64, "p": 64}.get(rank, 8)) for rank in "bhgmpef")


def edge() -> SpatialArray:
    return load("edge-array").spec  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(("made", "read", "tiles"), [
    ("A[h,m,p] = exp(QK[h,m,p])", "A[h,m,p]", 1),  # in the place of the scores
    ("A[h,p,m] = exp(QK[h,m,p])", "A[h,p,m]", 2),  # transposed: an element would overwrite one that is still read
    ("A[h,m,p] = exp(QK[h,m,p]) + QK[h,m,p] * QK[h,m,p]", "A[h,m,p]", 1),
])  # fmt: skip
def test_numerators_lie_where_scores_were_if_each_is_made_of_its_own(made: str, read: str, tiles: int) -> None:
    """A tile of 64 x 64 is more than the registers of 16 x 16 elements hold (4 words each), so it is in the buffer."""
    text = cascade("in-place", f"""
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        {made}
        AV[h,p,f] = {read} * V[h,m,f]
    """)
    mapping = parse_mapping("""\
mapping room for in-place
for h:
  array_2d [m over rows, p over columns]: QK for e
  array_1d [m over lanes]: A for p
  array_2d [p over rows, f over columns]: AV for m
  overlap serial
""")
    (group,) = given_mapping(mapping, text, SMALL, edge()).groups
    assert group.footprint_words == 3 * 64 * 8 + tiles * 64 * 64  # Q, K, V of a head


def test_scores_that_another_unit_may_still_read_keep_their_room() -> None:
    """D sums the scores on the lanes, A is made of them in the elements: it may lie there only if it waits for D."""
    taken = {}
    for waits, made in ((True, "A[h,m,p] = QK[h,m,p] * D[h,p]"), (False, "A[h,m,p] = QK[h,m,p] * QK[h,m,p]")):
        text = cascade("two-units", f"""
            QK[h,m,p] = Q[h,p,e] * K[h,m,e]
            D[h,p]    = QK[h,m,p]
            {made}
            B[h,p]    = A[h,m,p]
            AV[h,p,f] = A[h,m,p] * V[h,m,f]
        """)
        mapping = parse_mapping("""\
mapping room for two-units
for h:
  array_2d [m over rows, p over columns]: QK for e
  array_1d [m over lanes]: D for p
  array_2d [m over rows, p over columns]: A
  array_1d [m over lanes]: B for p
  array_2d [p over rows, f over columns]: AV for m
  overlap serial
""")
        (group,) = given_mapping(mapping, text, SMALL, edge()).groups
        taken[waits] = group.footprint_words
    assert taken[False] - taken[True] == 64 * 64


@pytest.mark.parametrize(("space", "tiles"), [("[m over rows, p over columns]: A", 2), ("[m over rows]: A for p", 3)])
def test_what_streams_into_an_einsum_may_still_read(space: str, tiles: int) -> None:
    """R is read while the lanes still make it, if both walk queries in time: then they still read QK, too."""
    text = cascade("streamed", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        R[h,p,m]  = exp(QK[h,m,p])
        A[h,m,p]  = R[h,p,m] * R[h,p,m]
        B[h,p]    = A[h,m,p]
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
    """)
    mapping = parse_mapping(f"""\
mapping room for streamed
for h:
  array_2d [m over rows, p over columns]: QK for e
  array_1d [m over lanes]: R for p
  array_2d {space}
  array_1d [m over lanes]: B for p
  array_2d [p over rows, f over columns]: AV for m
  overlap serial
""")
    (group,) = given_mapping(mapping, text, SMALL, edge()).groups
    assert group.footprint_words == 3 * 64 * 8 + tiles * 64 * 64


def test_a_sum_is_not_made_where_its_operand_lies() -> None:
    """A is a sum over e of one score: depending on the order, the score is read again after the first of them."""
    text = cascade("summed", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = QK[h,m,p] * W[h,e]
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
    """)
    mapping = parse_mapping("""\
mapping room for summed
for h:
  array_2d [m over rows, p over columns]: QK for e
  array_1d [m over lanes]: A for p, e
  array_2d [p over rows, f over columns]: AV for m
  overlap serial
""")
    (group,) = given_mapping(mapping, text, SMALL, edge()).groups
    assert group.footprint_words == 3 * 64 * 8 + 8 + 2 * 64 * 64


@pytest.mark.parametrize(("outputs", "sums"), [(16, 0), (64, 64 * 64)])
def test_a_result_that_its_reader_takes_several_times_is_kept_meanwhile(outputs: int, sums: int) -> None:
    """64 x 64 sums: once through the elements for 16 outputs, which are all columns; for 64 outputs they come again."""
    text = cascade("two-products", """
        Y[r,n] = A[r,k] * W[k,n]
        Z[r,j] = Y[r,n] * U[n,j]
    """)
    mapping = parse_mapping("""\
mapping kept for two-products
for r1:
  split r: r1 by 64, r0
  array_2d [r0 over rows, n over columns]: Y for k
  array_2d [n over rows, j over columns]: Z for r0
  overlap serial
""")
    sizes = (("r", 128), ("k", 8), ("n", 64), ("j", outputs))
    (group,) = given_mapping(mapping, text, sizes, edge()).groups
    assert group.footprint_words == 64 * 8 + 8 * 64 + 64 * outputs + sums  # A and all weights


def test_a_result_with_two_readers_is_kept_for_the_second() -> None:
    text = cascade("two-readers", """
        Y[r,n] = A[r,k] * W[k,n]
        B[r,n] = Y[r,n] + A1[n]
        C[r,n] = Y[r,n] * B[r,n]
    """)
    mapping = parse_mapping("""\
mapping kept for two-readers
for r1:
  split r: r1 by 64, r0
  array_2d [r0 over rows, n over columns]: Y for k; B; C
  overlap serial
""")
    sizes = (("r", 128), ("k", 8), ("n", 64))
    spec = load("edge-array", ("pe_array.operations.add=1",)).spec  # type: ignore[attr-defined]
    (group,) = given_mapping(mapping, text, sizes, spec).groups
    kept = {made.tensor: made.where for made in group.made}
    assert kept == {"Y": "global_buffer", "B": "", "C": ""}
