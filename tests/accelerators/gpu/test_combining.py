"""Kernels beside attention: what combines the parts of split keys, in trips to L2."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attention_cases import case_of_sizes

from cascadesim.accelerators.gpu.timing import AttentionCase, attention_timing


def always_and_only_where_split(**sizes: int) -> tuple[AttentionCase, AttentionCase]:
    case = case_of_sizes("h100-sxm", "triton-decode", 128, queries=1, **sizes)
    return case, replace(case, kernel=case.kernel.model_copy(update={"always_combines": False}))


def test_triton_combines_parts_of_one() -> None:
    """SGLang: the second stage runs, and reads what the first wrote, where keys are not split either.

    Blocks of 4 warps, 16 on each of 132 SMs: 4 heads with 7 parts that are empty; 4 rows to combine at once, each with
    two trips to L2.
    """
    case, without = always_and_only_where_split(keys=32, heads=4, heads_kv=4)
    assert case.work.splits[0] == 1
    always, only_splits = attention_timing(case), attention_timing(without)
    row_s = 128 * 4 / 64 / case.device.clock_hz + 2 * 0.3e-6
    more = case.device.launch_s + row_s + 4 * 7 / (16 * 132) * 0.3e-6
    assert always.launch_s[0] - only_splits.launch_s[0] == pytest.approx(more)
    assert always.movement.l2_bytes[0] - only_splits.movement.l2_bytes[0] == 2 * 4 * (128 + 1) * 4


def test_rows_are_combined_part_after_part_by_as_many_blocks_as_fit() -> None:
    """4,224 rows on 2,112 places: two rounds; four trips for three parts, two for one. Key heads of eight rows."""
    case, _ = always_and_only_where_split(batch=528, heads=8, heads_kv=1, keys=96)
    one, three = (replace(case, work=replace(case.work, splits=0 * case.work.splits + parts, row_tiles=one_tile))
                  for parts, one_tile in ((1, case.work.row_tiles), (3, case.work.row_tiles)))  # fmt: skip
    port_s = 2 * 128 * 4 / 64 / case.device.clock_hz  # two parts more of a row
    empty_s = 528 * 2 / (16 * 132) * 0.3e-6  # two parts fewer without keys
    more = attention_timing(three).launch_s[0] - attention_timing(one).launch_s[0]
    assert more == pytest.approx(2 * 2 * 0.3e-6 + port_s - empty_s)
