"""Claims about records, on records made up here: what would hold, what would not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascadesim.validation.record_claims import judged


def record(dense_us: float, sparse_us: float, without_mask: int = 100) -> str:
    """A case that visits 100 of 1000 tile pairs: the bound is 10."""
    return json.dumps({
        "schema": "cascadesim.measurement/1", "suite": "neighborhood", "case": "made up", "device": {"name": "none"},
        "work": {"key_tiles": 100, "without_mask": without_mask, "dense_key_tiles": 1000},
        "timing": {"dense, ours": {"cold": [dense_us, 1.0, 1e6]}, "attention in tile order": {"cold": [sparse_us]}},
    })  # fmt: skip


@pytest.mark.parametrize(("speedup", "holds"), [(9.1, True), (8.9, False), (10.5, True)])
def test_nine_tenths_of_the_bound_is_asked_where_nothing_is_masked(tmp_path: Path, speedup: float, holds: bool) -> None:
    path = tmp_path / "made-up.jsonl"
    path.write_text(record(1000 * speedup, 1000.0) + "\n")
    (verdict,) = judged("gna-kernels", [path])
    assert verdict.holds is holds


def test_masked_cases_and_other_suites_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "made-up.jsonl"
    path.write_text(record(1000.0, 1000.0, without_mask=50) + "\n")
    (verdict,) = judged("gna-kernels", [path])
    assert not verdict.judged
    assert judged("cascade-passes", [path]) == ()
