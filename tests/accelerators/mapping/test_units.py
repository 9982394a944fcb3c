"""Ranks over the dimensions of units: several along one of them, or one along the columns of several arrays."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_cases import PRODUCT, TEXTS, check_ports, check_schedule, sized

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.energy import area_um2
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.search import search
from cascadesim.accelerators.mapping.resolve import resolved
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError

SIZES = {"R": 4, "K": 3, "N": 2}


def arrays(count: int, rows: int = 2, columns: int = 2) -> SpatialArray:
    return load("edge-array", [  # type: ignore[attr-defined, no-any-return]
        f"pe_array.count={count}", f"pe_array.rows={rows}", f"pe_array.columns={columns}", "vector_array.lanes=2",
        "pe_array.operations={mac: 1, add: 1, max: 1, exp: 1}", "dram.bandwidth_bytes_per_s=2e+9"]).spec


def cycles(space: str, time: str, count: int = 2, rows: int = 2) -> int:
    text = f"mapping mine for product\nfor top:\n  array_2d [{space}]: Z for {time}\n"
    (group,) = resolved(parse_mapping(text), sized(PRODUCT, SIZES, 1), arrays(count, rows))
    again = resolved(parse_mapping(str(described("mine", [group]))), sized(PRODUCT, SIZES, 1), arrays(count, rows))
    assert again[0].runs == group.runs
    return group.busy_cycles["array_2d"]


@pytest.mark.parametrize(("space", "time", "steps"), [
    ("r over rows, n over columns, n over units", "k", 2 * 1 * 3),  # the columns of both: two of four are idle
    ("n over rows, r over columns, r over units", "k", 1 * 1 * 3),  # two columns of each, all busy
    ("r over rows, n over columns, k over units", "k", 2 * 1 * 2),  # partial sums of two and of one step
    ("k over units, n over columns, r over rows", "k", 2 * 1 * 2),  # the order of the text says nothing
    ("r over rows, n over columns", "k", 2 * 1 * 3),  # the second one is idle
])  # fmt: skip
def test_a_rank_is_dealt_over_two_arrays_of_two_by_two(space: str, time: str, steps: int) -> None:
    """Four rows, two columns, three of depth."""
    assert cycles(space, time) == steps


@pytest.mark.parametrize(("space", "rows", "steps"), [
    ("n over rows, r over rows, k over columns", 8, 1 * 1 * 2),  # two columns beside four rows of the product
    ("n over rows, r over rows, k over columns", 6, 1 * 2 * 2),  # three of its rows, each twice
    ("r over rows, n over rows, k over columns", 6, 1 * 2 * 2),  # all four of its rows, and room for one column
    ("r over rows, k over columns, n over rows", 6, 1 * 2 * 2),
    ("n over rows, r over rows, k over columns", 1, 2 * 4 * 2),  # not even both columns fit
])  # fmt: skip
def test_the_first_of_ranks_over_one_dimension_has_what_it_needs_and_the_last_what_is_left(
    space: str, rows: int, steps: int
) -> None:
    assert cycles(space, "r, n, k", 1, rows) == steps


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.permutations("rnk"), st.integers(1, 3))
def test_no_element_has_two_points_at_once(rows: int, lanes: int, extent: int, order: list[str], side: int) -> None:
    """Brute force: points of a product by their round, each on an element that exists."""
    sizes = {"R": extent, "N": side, "K": 4}
    spec = load("edge-array", [f"vector_array.lanes={rows * lanes}"]).spec  # type: ignore[attr-defined]
    over = ", ".join(f"{rank} over lanes" for rank in order)
    text = f"mapping mine for product\nfor top:\n  array_1d [{over}]: Z\n"
    (group,) = resolved(parse_mapping(text), sized(PRODUCT, sizes, 1), spec)
    rounds: dict[tuple[int, ...], set[int]] = {}
    for point in product(*(range(sizes[rank.upper()]) for rank in order)):
        left, element, number = rows * lanes, 0, []
        for place, (rank, at) in enumerate(zip(order, point, strict=True)):
            own = left if place == 2 else min(sizes[rank.upper()], left)
            element += at % own * (rows * lanes // left)
            number.append(at // own)
            left //= own
        elements = rounds.setdefault(tuple(number), set())
        assert element not in elements
        assert element < rows * lanes
        elements.add(element)
    assert group.busy_cycles["array_1d"] == len(rounds) * group.runs[0].op_cycles


@pytest.mark.parametrize(("space", "count", "says"), [
    ("r over rows, n over columns, k over units", 1, "array_2d has rows and columns, no units"),
    ("r over rows, k over units", 2, "a rank lies over units beside others over rows and columns"),
    ("r over rows, n over columns, r over units", 2, "one axis over two dimensions"),
    ("r over rows, n over rows, r over rows", 2, "one axis over two dimensions"),
    ("r over rows, n over columns, n over units, k over columns", 2, "others do over both or neither"),
])  # fmt: skip
def test_what_does_not_lie_over_units_says_why(space: str, count: int, says: str) -> None:
    with pytest.raises(IllegalMapping, match=says):
        cycles(space, "k, n, r", count)


def test_a_loop_over_single_elements_of_a_split_reads_back() -> None:
    """`r0` without a loop over `r1` around it: four steps of one row each."""
    text = "mapping mine for product\nfor r0:\n  split r: r1 by 2, r0\n  array_2d [n over columns]: Z for k\n"
    of, spec = sized(PRODUCT, SIZES, 1), arrays(1)
    (group,) = resolved(parse_mapping(text), of, spec)
    again = resolved(parse_mapping(str(described("mine", [group]))), of, spec)
    assert [loop.step for loop in group.loops] == [1]
    assert again[0].loops == group.loops
    assert again[0].busy_cycles == group.busy_cycles == {"array_2d": 4 * 3, "array_1d": 0}


def test_a_fold_has_one_rank_over_each_dimension() -> None:
    text = "mapping mine for product\nfor top:\n  array_2d [r over rows, n over rows]: Z for k\n"
    with pytest.raises(IllegalMapping, match="works in folds, which have one rank over each dimension"):
        resolved(parse_mapping(text), sized(PRODUCT, SIZES, 1), load("systolic-os-32").spec)  # type: ignore[attr-defined]


def test_a_search_uses_both_and_its_text_says_how() -> None:
    (group,), _ = search(sized(PRODUCT, SIZES, 1), arrays(2))  # type: ignore[misc]
    assert group.busy_cycles["array_2d"] == 3
    assert "r over columns, r over units" in str(described("mine", [group]))


def test_their_area_is_that_of_all_and_published_arrays_are_one() -> None:
    one, two = (area_um2(load("edge-array", [f"pe_array.count={count}"]).spec)["array_2d"]  # type: ignore[attr-defined]
                for count in (1, 2))  # fmt: skip
    assert two == pytest.approx(2 * one, rel=1e-4)  # but for one container a column
    with pytest.raises(SpecError, match=r"pe_array\.count: unknown field"):
        load("fusemax", ["pe_array.count=2"])


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.sampled_from(TEXTS), st.integers(2, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 9))
def test_texts_of_searches_on_several_arrays_read_back(text, count, rows, columns, length) -> None:  # type: ignore[no-untyped-def]
    """And never take more cycles of the 2D arrays than one array has steps, of all points."""
    sizes = {"B": 1, "X": 1, "H": 2, "G": 1, "M": length, "P": length, "E": 3, "F": 3, "R": 5, "K": 4, "N": 6, "J": 3,
             "D": 2}  # fmt: skip
    of, spec = sized(text, sizes, 2), arrays(count, rows, columns)
    try:
        groups, _ = search(of, spec, 3)
    except CascadeSimError:
        return
    assert groups is not None
    again = resolved(parse_mapping(str(described("mine", groups))), of, spec)
    for group, other in zip(groups, again, strict=True):
        assert (group.busy_cycles, group.bound_cycles) == (other.busy_cycles, other.bound_cycles)
        points = sum(group.points(run) * run.op_cycles for run in group.runs if run.unit == "array_2d")
        assert group.busy_cycles["array_2d"] * spec.pe_array.elements >= points
        check_schedule(group)
        check_ports(group)
