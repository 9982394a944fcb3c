"""Einsums with loops of their own: slices pass by, two blocks overlap, what is illegal says what would be legal."""

from __future__ import annotations

import re

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.plan import given as given_mapping
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.accelerators.mapping.resolve import described, resolved
from cascadesim.accelerators.mapping.sliced import group_program
from cascadesim.accelerators.mapping.text import find_mapping, parse_mapping
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

STREAMED = (("b", 1), ("h", 12), ("g", 1), ("m", 4096), ("p", 256), ("e", 64), ("f", 64))


def spec_of(name: str, *settings_of: str) -> SpatialArray:
    return load(name, settings_of).spec  # type: ignore[attr-defined, no-any-return]


def test_what_one_einsum_alone_reads_passes_by_in_slices() -> None:
    """Two blocks of 32 queries have their scores of 4,096 keys in the buffer; of K and V there are two slices of 32.

    K and V come once for each block of queries: 8 times 12 heads. The lanes take the four Einsums of the softmax one
    after another, 2,048 cycles a row and block; while they do the products of the next block go on.
    """
    spec = spec_of("flat-edge", "global_buffer.capacity_bytes=1048576")
    found = given_mapping(find_mapping("flat-streamed"), find("attention-3pass"), STREAMED, spec)
    (group,) = found.groups
    scores, queries, slices = 2 * 32 * 4096, 2 * 32 * 64, 2 * 2 * 32 * 64
    sums = 2 * 32 * 64  # AV, of which the array holds 32 columns at a time
    assert group.footprint_words == scores + queries + slices + sums  # GM and SD are in registers
    assert {read.tensor: group.filled(read) for read in group.reads} == {
        "Q": 12 * 256 * 64, "K": 12 * 8 * 4096 * 64, "V": 12 * 8 * 4096 * 64}  # fmt: skip
    schedule = run(group_program(group))
    softmax = 12 * 8 * 4 * 32 * 4096 // 32
    assert group.busy_cycles == {"array_1d": softmax, "array_2d": softmax}  # 2 products of depth 64 on 32 x 32
    assert group.bound_cycles <= schedule.cycles < 1.5 * group.bound_cycles
    serial = parse_mapping(str(find_mapping("flat-streamed")).replace("interleave 2", "serial"))
    (alone,) = given_mapping(serial, find("attention-3pass"), STREAMED, spec).groups
    assert run(group_program(alone)).cycles >= 2 * softmax


@pytest.mark.parametrize(("wrong", "right", "message"), [
    ("QK for e, m1", "QK for m1, e", "QK has a loop of its own over m1: only one, before its other ranks"),
    ("m1 by 8192", "m1 by array_2d.columns", "a loop of its own is over an axis that no shared loop has, in at least "
                                             "two steps of a multiple of 1; m1 advances by 8192 of 4096"),
    ("keep Q in global_buffer at m1", "keep Q in global_buffer at p1", "Q cannot be kept inside a loop that only one"),
    ("interleave 3", "interleave 2", "overlap two at a time: 'overlap interleave 2', or 'serial'"),
    ("overlap pipeline", "overlap interleave 2", "overlap two at a time"),
])  # fmt: skip
def test_loops_of_single_einsums_that_are_illegal_say_what_would_be_legal(
    wrong: str, right: str, message: str
) -> None:
    changed = parse_mapping(str(find_mapping("flat-streamed")).replace(right, wrong, 1))
    with pytest.raises(CascadeSimError, match=rf"flat-streamed, line 2: .*{re.escape(message)}"):
        given_mapping(changed, find("attention-3pass"), STREAMED, spec_of("flat"))


def test_what_two_tiles_read_at_once_is_kept_twice() -> None:
    """Scores of X by itself: the first and the last Einsum read X, of two blocks of queries at once."""
    text = cascade("gram", """
        QK[h,m,p] = X[h,p,e] * K[h,m,e]
        A[h,m,p]  = exp(QK[h,m,p])
        AV[h,p,e] = A[h,m,p] * X[h,p,e]
    """)
    mapping = """\
mapping twice for gram
for h, p1:
  split m: m1 by 32, m0
  split p: p1 by 32, p0
  array_2d [p0 over rows, m0 over columns]: QK for m1, e
  array_1d [m over lanes]: A for p0
  array_2d [p0 over rows, e over columns]: AV for m1, m0
  keep X in global_buffer at p1
  overlap interleave 2
"""
    with pytest.raises(IllegalMapping, match="X is read by Einsums of two tiles at once; keep it 'double'"):
        given_mapping(parse_mapping(mapping), text, STREAMED, spec_of("flat"))
    twice = parse_mapping(mapping.replace("at p1\n", "at p1 double\n"))
    (group,) = given_mapping(twice, text, STREAMED, spec_of("flat")).groups
    assert run(group_program(group)).cycles >= group.bound_cycles


def test_tiles_overlap_only_where_the_last_einsum_ends_them() -> None:
    """Nobody waits for T, which may still read the scores of a tile when those of the next but one are made."""
    text = cascade("two-ends", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = exp(QK[h,m,p])
        T[h,p]    = A[h,m,p]
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
    """)
    mapping = """\
mapping ends for two-ends
for h, p1:
  split m: m1 by 32, m0
  split p: p1 by 32, p0
  array_2d [p0 over rows, m0 over columns]: QK for m1, e
  array_1d [m over lanes]: A for p0; T for p0
  array_2d [p0 over rows, f over columns]: AV for m1, m0
  overlap interleave 2
"""
    with pytest.raises(IllegalMapping, match="where the last Einsum needs all others, on the unit of the first"):
        given_mapping(parse_mapping(mapping), text, STREAMED, spec_of("flat"))
    serial = parse_mapping(mapping.replace("interleave 2", "serial"))
    assert given_mapping(serial, text, STREAMED, spec_of("flat")).groups


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
    sizes = tuple((rank, {"b": 1, "h": 2, "g": 1, "m": 64, "p": 64}.get(rank, 8)) for rank in "bhgmpef")
    (group,) = given_mapping(mapping, text, sizes, spec_of("edge-array")).groups
    assert group.footprint_words == 3 * 64 * 8 + tiles * 64 * 64  # Q, K, V of a head


def test_scores_that_another_unit_may_still_read_keep_their_room() -> None:
    """D sums the scores on the lanes, A is made of them in the elements: it may lie there only if it waits for D."""
    sizes = tuple((rank, {"b": 1, "h": 2, "g": 1, "m": 64, "p": 64}.get(rank, 8)) for rank in "bhgmpef")
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
        (group,) = given_mapping(mapping, text, sizes, spec_of("edge-array")).groups
        taken[waits] = group.footprint_words
    assert taken[False] - taken[True] == 64 * 64


def test_a_search_lets_keys_pass_by_where_they_do_not_fit() -> None:
    """Scores of a block of rows fit 512 KiB; K and V, 2 x 4,096 x 64 words beside them, do not."""
    spec = spec_of("flat-edge")
    found = searched(find("attention-3pass"), STREAMED, spec)
    (group,) = found.groups
    assert {run.work.name for run in group.runs if run.own is not None} == {"QK", "AV"}
    mapping = described("found", found.groups)
    again, = resolved(parse_mapping(str(mapping)), group.problem, spec)
    assert str(described("found", (again,))) == str(mapping)
    assert (again.bound_cycles, again.footprint_words) == (group.bound_cycles, group.footprint_words)
    assert run(group_program(again)).cycles == run(group_program(group)).cycles
