"""How far outside inputs are kept: as far as it saves words and the buffer goes."""

from __future__ import annotations

from itertools import islice

import pytest
from mapped_cases import layered, sized

from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.residency import residents
from cascadesim.einsum_cascades.texts import find


@pytest.mark.parametrize(("room", "moved"), [(124, 96 + 96), (123, 6 * 96 + 96)])
def test_an_input_is_kept_outside_of_a_loop_where_it_just_fits(room: int, moved: int) -> None:
    """12 rows of 8 times 12 columns, one tile of 2 columns and a depth of 2 at a time: 24 sums, 4 weights, and all 96
    words of the rows, which then come once; else they come for each of the 6 tiles of columns."""
    neighbours = Neighbours(sized(find("linear"), {"R": 12, "N": 12, "K": 8}, 1), layered(2, 2, 2, 2 * room), (0,))
    draft = next(each for each in neighbours.drafts()
                 if [(loop.axis, loop.step) for loop in each.loops] == [("n", 2), ("k", 2)])  # fmt: skip
    (group,) = islice(residents(neighbours, draft, "energy"), 1)
    assert group.overlap == 1
    assert sum(map(group.filled, group.reads)) == moved
