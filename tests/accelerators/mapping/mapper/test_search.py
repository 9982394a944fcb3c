"""What a search reaches: words moved against what no mapping undercuts."""

from __future__ import annotations

from math import sqrt

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.einsum_cascades.texts import find


@pytest.mark.slow
@pytest.mark.parametrize(("words", "sizes"), [(64, (128, 128, 128)), (256, (257, 256, 256))])
def test_a_product_moves_few_more_words_than_any_schedule_must(words: int, sizes: tuple[int, int, int]) -> None:
    """One element and a memory of S words: 2 M N K / sqrt(S) - 2 S + M N words at least (Kwasniewski et al., SC'19)."""
    one = ("pe_array.rows=1", "pe_array.columns=1", "vector_array.lanes=1")
    spec = load("edge-array", (*one, f"global_buffer.capacity_bytes={2 * words}")).spec  # type: ignore[attr-defined]
    rows, columns, depth = sizes
    found = searched(find("linear"), (("r", rows), ("n", columns), ("k", depth)), spec, objective="dram", thorough=True)
    least = 2 * rows * columns * depth / sqrt(words) - 2 * words + rows * columns
    assert least <= found.dram_bytes / 2 <= 1.1 * least
