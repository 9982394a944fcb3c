"""How often each memory is accessed: by hand, as Timeloop reported it, and in the closed forms of the publication."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.access_counts import Accesses, Level, Loop, Nest, Operand, Size, count_accesses
from cascadesim.einsum_cascades.notation.errors import CascadeSimError


def operand(text: str, is_output: bool = False) -> Operand:
    """`Q[b,h,p,e]`"""
    name, ranks = text.rstrip("]").split("[")
    return Operand(name, frozenset(filter(None, ranks.split(","))), is_output)


def loops(**bounds: int) -> tuple[Loop, ...]:
    """A loop per keyword, over the rank that its name begins with."""
    return tuple(Loop(name, frozenset({name.rstrip("0123456789")}), bound) for name, bound in bounds.items())


def ragged(*ranks: tuple[int, tuple[Loop, ...]]) -> Size:
    """Make the `size` of ranks that are split unevenly, each given as (extent, its loops from outer to inner).

    Projected to the outer loops of a rank there are as many points as tiles start, the last one a partial one.
    """

    def projected(extent: int, loops: tuple[Loop, ...], names: frozenset[str]) -> int:
        taken = [index for index, loop in enumerate(loops) if loop.name in names]
        inside = prod(loop.bound for loop in loops[taken[-1] + 1 :]) if taken else extent
        return min(prod(loops[index].bound for index in taken), -(-extent // inside))

    return lambda names: prod(projected(extent, loops, names) for extent, loops in ranks)


def test_a_matrix_vector_product_by_hand() -> None:
    """Z[m] = A[m,k] * X[k], 3 rows of 4, one element: A once, X again for each row, Z once."""
    A, X, Z = operand("A[m,k]"), operand("X[k]"), operand("Z[m]", is_output=True)
    everything = frozenset("AXZ")
    nest = Nest((Level("dram", (), everything), Level("registers", loops(m=3, k=4), everything)), ())
    counts = count_accesses((A, X, Z), nest)
    assert counts["dram", "A"] == Accesses(reads=12)
    assert counts["dram", "X"] == Accesses(reads=4)  # registers hold all of X: the loops are inside them
    assert counts["dram", "Z"] == Accesses(updates=3)
    assert counts["registers", "Z"] == Accesses(reads=12 - 3, updates=12)  # the first of 4 sums needs no read


def test_loops_outside_a_level_fetch_again_unless_they_do_not_touch_the_tensor() -> None:
    """As above with the loops around the registers: X is fetched for each row, Z[m] stays while k runs."""
    A, X, Z = operand("A[m,k]"), operand("X[k]"), operand("Z[m]", is_output=True)
    everything = frozenset("AXZ")
    nest = Nest((Level("dram", loops(m=3, k=4), everything), Level("registers", (), everything)), ())
    counts = count_accesses((A, X, Z), nest)
    assert counts["dram", "A"].reads == 12
    assert counts["dram", "X"].reads == 12
    assert counts["dram", "Z"] == Accesses(updates=3)


# The QK example of the one Timeloop report that the artifact ships: micro24-fusemax-artifact, commit f543beb,
# workspace/outputs/pregenerated-check/timeloop/timeloop-model.stats.txt.
def stats_file_nest() -> Nest:
    dram = Level("dram", loops(b=64, h=16, p2=1, m1=16), frozenset({"Q", "BK"}))
    buffer = Level("global_buffer", loops(p1=16, e=256), frozenset({"Q", "BK"}))
    registers = Level("registers", (), frozenset({"Q", "BK", "QK"}))
    return Nest((dram, buffer, registers), spatial=loops(m0=256, p0=256))


QK_OPERANDS = (operand("Q[b,h,p,e]"), operand("BK[b,h,m,e]"), operand("QK[b,h,m,p]", is_output=True))


def test_the_report_that_the_artifact_ships_is_reproduced() -> None:
    nest = stats_file_nest()
    assert nest.points((*nest.temporal, *nest.spatial)) == 4398046511104  # computes
    assert nest.points(nest.temporal) == 67108864  # cycles
    counts = count_accesses(QK_OPERANDS, nest, registers="one")
    for tensor in ("Q", "BK"):
        assert counts["global_buffer", tensor].reads == 17179869184
        assert counts["global_buffer", tensor].fills == 1073741824
    assert counts["registers", "QK"].reads == 66846720


def test_all_register_files_are_65536_of_one() -> None:
    one = count_accesses(QK_OPERANDS, stats_file_nest(), registers="one")
    everything = count_accesses(QK_OPERANDS, stats_file_nest(), registers="all")
    for tensor in ("Q", "BK", "QK"):
        assert everything["registers", tensor].reads == 65536 * one["registers", tensor].reads
    assert everything["global_buffer", "Q"] == one["global_buffer", "Q"]


# FuseMax (MICRO'24), mapping 1: Einsum, its output, its inputs, what the buffer keeps of them; e and f run inside p1.
FUSEMAX_1_PASS = (
    ("QK[b,h,m1,m0,p]", ("Q[b,h,p,e]", "BK[b,h,m1,m0,e]"), "Q BK"),
    ("LM[b,h,m1,p]", ("QK[b,h,m1,m0,p]",), ""),
    ("SLN[b,h,m1,m0,p]", ("QK[b,h,m1,m0,p]", "RM[b,h,m1,p]"), ""),
    ("SLD[b,h,m1,p]", ("SLN[b,h,m1,m0,p]",), ""),
    ("SLNV[b,f,h,m1,p]", ("SLN[b,h,m1,m0,p]", "BV[b,h,m1,m0,f]"), "BV"),
    ("RM[b,h,m1,p]", ("LM[b,h,m1,p]", "RM0[b,h,m1,p]"), "RM RM0"),
    ("PRM[b,h,m1,p]", ("RM0[b,h,m1,p]", "RM[b,h,m1,p]"), ""),
    ("SPD[b,h,m1,p]", ("PRM[b,h,m1,p]", "RD0[b,h,m1,p]"), "RD0"),
    ("RD[b,h,m1,p]", ("SPD[b,h,m1,p]", "SLD[b,h,m1,p]"), "RD"),
    ("SPNV[b,f,h,m1,p]", ("PRM[b,h,m1,p]", "RNV0[b,f,h,m1,p]"), "RNV0"),
    ("RNV[b,f,h,m1,p]", ("SPNV[b,f,h,m1,p]", "SLNV[b,f,h,m1,p]"), "RNV"),
    ("AV[b,f,h,p]", ("RNV[b,f,h,p]", "RD[b,h,p]"), "RNV RD"),
)
IN_DRAM = {"Q", "BK", "BV", "AV"}


def fusemax_counts(E: int, M1: int, P1: int, P2: int, D: int, BH: int) -> list[dict[tuple[str, str], Accesses]]:
    sizes = {"b": 1, "h": BH, "p2": P2, "m1": M1}
    found = []
    for output, inputs, buffered in FUSEMAX_1_PASS:
        operands = (operand(output, is_output=True), *map(operand, inputs))
        ranks = frozenset().union(*(tensor.ranks for tensor in operands))
        names = {tensor.name for tensor in operands}
        outer = loops(**{name: bound for name, bound in sizes.items() if name[0] in "bhp" or name in ranks})
        inner = loops(p1=P1, **{depth: E for depth in ("e", "f") if depth in ranks})
        across = tuple(Loop(name, frozenset({name}), D) for name in ("m0",) if name in ranks)
        outer, inner = _named(outer), _named(inner)
        levels = (
            Level("dram", outer, frozenset(names & IN_DRAM)),
            Level("global_buffer", inner, frozenset(buffered.split())),
            Level("registers", (), frozenset(names)),
        )
        found.append(count_accesses(operands, Nest(levels, (*across, *loops(p0=D)))))
    return found


def _named(found: tuple[Loop, ...]) -> tuple[Loop, ...]:
    """m1 is a rank of its own here; p1 and p2 are parts of p."""
    return tuple(Loop(loop.name, frozenset({"m1"}), loop.bound) if loop.name == "m1" else loop for loop in found)


@given(
    E=st.sampled_from((64, 128)), M1=st.integers(2, 5), P1=st.integers(2, 5), P2=st.integers(1, 3), BH=st.integers(1, 3)
)
def test_the_closed_forms_of_the_buffer_hold(E: int, M1: int, P1: int, P2: int, BH: int) -> None:
    """FuseMax, no 64-bit wrap: T score tiles of D x D; S = P1 * P2 * D queries, E = F."""
    D, F = 16, E
    S, T = P1 * P2 * D, BH * M1 * P1 * P2
    buffer = [
        accesses
        for counts in fusemax_counts(E, M1, P1, P2, D, BH)
        for (level, _), accesses in counts.items()
        if level == "global_buffer"
    ]
    keys = M1 * D
    assert sum(accesses.reads for accesses in buffer) == T * D * (2 * E + 2 * F + 2) + BH * S * (F + 1)
    assert sum(accesses.writes for accesses in buffer) == BH * (S * E + keys * (E + F) * P2) + T * D * (F + 2)


def test_traffic_of_the_keys_is_once_per_group_of_queries() -> None:
    """Q once, AV once, K and V once per P2: 2 groups of 3 query tiles, 4 key tiles of 16, E = F = 64."""
    dram = {
        tensor: accesses
        for counts in fusemax_counts(E=64, M1=4, P1=3, P2=2, D=16, BH=1)
        for (level, tensor), accesses in counts.items()
        if level == "dram"
    }
    assert dram["Q"].reads == 6 * 16 * 64
    assert dram["BK"].reads == dram["BV"].reads == 2 * 4 * 16 * 64
    assert dram["AV"] == Accesses(updates=6 * 16 * 64)


def product_nest(bounds: dict[str, int], spread: dict[str, int], extents: dict[str, int] | None = None) -> Nest:
    """Z[r,n] = A[r,k] * W[k,n]: r2 n2 k2 around the buffer, r1 n1 k1 around the registers."""
    around, inside = loops(**{name: bounds[name] for name in ("r2", "n2", "k2")}), ("r1", "n1", "k1")
    within, across = loops(**{name: bounds[name] for name in inside}), loops(**spread)
    everything = frozenset("AWZ")
    levels = (Level("dram", around, everything), Level("buffer", within, everything), Level("pe", (), everything))
    if extents is None:
        return Nest(levels, across)
    chains = (
        (extents[rank], tuple(loop for loop in (*around, *within, *across) if rank in loop.ranks)) for rank in extents
    )
    return Nest(levels, across, ragged(*chains))


PRODUCT = (operand("A[r,k]"), operand("W[k,n]"), operand("Z[r,n]", is_output=True))
bound = st.integers(1, 4)
all_bounds = st.fixed_dictionaries({name: bound for name in ("r2", "n2", "k2", "r1", "n1", "k1")})
all_spreads = st.fixed_dictionaries({"r0": bound, "n0": bound})


def extents_of(bounds: dict[str, int], spread: dict[str, int]) -> dict[str, int]:
    every = {**bounds, **spread}
    return {rank: prod(size for name, size in every.items() if name[0] == rank) for rank in "rnk"}


@given(all_bounds, all_spreads)
def test_a_ragged_nest_without_rest_is_rectangular(bounds: dict[str, int], spread: dict[str, int]) -> None:
    extents = extents_of(bounds, spread)
    rectangular = count_accesses(PRODUCT, product_nest(bounds, spread))
    assert count_accesses(PRODUCT, product_nest(bounds, spread, extents)) == rectangular


@given(all_bounds, all_spreads, st.data())
def test_a_ragged_nest_counts_no_more_than_the_full_one(
    bounds: dict[str, int], spread: dict[str, int], data: st.DataObject
) -> None:
    """Extents anywhere inside the last tile of each rank."""
    whole = extents_of(bounds, spread)
    extents = {rank: data.draw(st.integers(max(1, size // 2), size)) for rank, size in whole.items()}
    full, partial = count_accesses(PRODUCT, product_nest(bounds, spread)), count_accesses(
        PRODUCT, product_nest(bounds, spread, extents)
    )
    for place, accesses in partial.items():
        assert 0 <= accesses.reads <= full[place].reads
        assert accesses.updates <= full[place].updates


@pytest.mark.slow
@given(all_bounds, all_spreads)
def test_what_is_conserved(bounds: dict[str, int], spread: dict[str, int]) -> None:
    """A level hands on at least what it was given; every MAC reads both operands and updates one sum."""
    counts = count_accesses(PRODUCT, product_nest(bounds, spread))
    macs = prod((*bounds.values(), *spread.values()))
    extents = extents_of(bounds, spread)
    for tensor in "AW":
        assert counts["buffer", tensor].reads >= counts["buffer", tensor].fills == counts["dram", tensor].reads
        assert counts["pe", tensor].reads == macs
    assert counts["pe", "Z"].updates == macs
    outputs = extents["r"] * extents["n"]
    assert counts["dram", "Z"].updates - counts["dram", "Z"].reads == outputs  # written once more than read back
    assert counts["pe", "A"].fills >= counts["buffer", "A"].reads  # multicast along n


@given(all_bounds, all_spreads)
def test_small_nests_do_not_wrap(bounds: dict[str, int], spread: dict[str, int]) -> None:
    nest = product_nest(bounds, spread)
    plain = count_accesses(PRODUCT, nest)
    wrapped = count_accesses(PRODUCT, nest, wrap64=True)
    assert wrapped["dram", "Z"] == plain["dram", "Z"]
    assert wrapped["buffer", "Z"] == plain["buffer", "Z"]


def test_a_long_sequence_wraps_and_reads_more() -> None:
    """2^33 outputs: 2^33 * 2^33 = 2^66 is 0 in 64 bits, so that no first write is elided at the buffer."""
    nest = product_nest({"r2": 1, "n2": 1, "k2": 2, "r1": 2**17, "n1": 2**16, "k1": 1}, {"r0": 1, "n0": 1})
    plain, wrapped = count_accesses(PRODUCT, nest), count_accesses(PRODUCT, nest, wrap64=True)
    assert plain["buffer", "Z"].reads == 2**33  # the second of two updates reads what the first has left
    assert wrapped["buffer", "Z"].reads == 2**34
    assert wrapped["dram", "Z"] == plain["dram", "Z"]


@given(st.fixed_dictionaries({name: st.integers(1, 2**14) for name in ("r2", "n2", "k2", "r1", "n1", "k1")}))
def test_wrapping_never_elides_more(bounds: dict[str, int]) -> None:
    """So the published energies are never lower for it (up to 7.1 % higher: +Cascade)."""
    nest = product_nest(bounds, {"r0": 256, "n0": 256})
    plain, wrapped = count_accesses(PRODUCT, nest), count_accesses(PRODUCT, nest, wrap64=True)
    assert all(wrapped[place].reads >= accesses.reads for place, accesses in plain.items() if place[0] != "pe")
    assert all(wrapped[place].updates == accesses.updates for place, accesses in plain.items())


def test_partial_tiles_move_what_is_there() -> None:
    """5 rows in tiles of 4, 3 columns in tiles of 2, k = 7: A is fetched whole for each of 2 column tiles."""
    nest = product_nest(
        {"r2": 2, "n2": 2, "k2": 1, "r1": 1, "n1": 1, "k1": 7}, {"r0": 4, "n0": 2}, {"r": 5, "n": 3, "k": 7}
    )
    counts = count_accesses(PRODUCT, nest)
    assert counts["dram", "A"].reads == 5 * 7  # n2 is innermost and does not move A
    assert counts["dram", "W"].reads == 2 * 7 * 3
    assert counts["buffer", "A"].reads == 2 * 5 * 7
    assert counts["pe", "A"].reads == 5 * 3 * 7
    assert counts["dram", "Z"] == Accesses(updates=5 * 3)


def test_wrapping_is_for_rectangular_nests() -> None:
    nest = product_nest(
        {"r2": 2, "n2": 1, "k2": 1, "r1": 1, "n1": 1, "k1": 7}, {"r0": 4, "n0": 2}, {"r": 5, "n": 2, "k": 7}
    )
    with pytest.raises(CascadeSimError, match="rectangular loop nests only"):
        count_accesses(PRODUCT, nest, wrap64=True)
