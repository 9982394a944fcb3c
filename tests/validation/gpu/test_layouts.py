"""A fifth of all shapes calibrates, by a hash that sees the shape alone; no claim may score it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.claim import Claim
from cascadesim.validation.gpu.layouts import CALIBRATION, SCORED, split_of
from cascadesim.validation.gpu.selections import LATENCY
from cascadesim.validation.suites import calibrations, compare, find_suites, own_data, suites
from cascadesim.validation.table import Table

SHAPE = {"operation": "encoder", "batch": 4, "seqlen_q": 512, "kv_len": 512, "heads_q": 8, "head_dim": 64}


def test_a_shape_falls_on_one_side_whatever_ran_it() -> None:
    sides = {split_of({**SHAPE, "device": device, "kernel": kernel, "dtype": dtype, "latency_s": seconds})
             for device, kernel, dtype, seconds in (("h100-sxm", "flash-attention-3", "bf16", 1e-4),
                                                    ("b200", "trtllm-gen", "fp8", 1e-5))}  # fmt: skip
    assert len(sides) == 1


def test_about_a_fifth_calibrates() -> None:
    """Of 2,000 lengths 400 are expected, give or take 18 (one standard deviation)."""
    sides = [split_of({**SHAPE, "kv_len": length}) for length in range(1, 2001)]
    assert 340 < sides.count(CALIBRATION) < 460
    assert set(sides) == {CALIBRATION, SCORED}


@pytest.mark.slow
def test_no_row_calibrates_and_scores() -> None:
    for suite in (each for each in suites() if each.name.startswith("gpu-")):
        fitted = [claim for claim in suite.claims if claim.fitted]
        judged = [claim for claim in suite.claims if not claim.fitted]
        for row in own_data(suite).rows:
            calibrates = row.get("split") == CALIBRATION
            assert all(claim.selects(row) == calibrates for claim in fitted)
            assert not calibrates or not any(claim.selects(row) for claim in judged)


def test_a_claim_that_would_score_a_calibration_row_is_refused() -> None:
    (suite,) = find_suites(["gpu-mla"])
    greedy = Claim("everything", LATENCY, 0.1, "a claim without a selection")
    own = own_data(suite)
    with pytest.raises(SpecError, match="declared as calibration, so 'everything' may not score it"):
        compare(replace(suite, claims=(greedy,)), own, "own", calibrations(suite, own))


def test_rows_of_another_file_are_split_by_the_same_hash() -> None:
    """A file without the `# calibration:` line is bound by that of our own."""
    (suite,) = find_suites(["gpu-mla"])
    own = own_data(suite)
    bare = Table(own.rows, ())
    assert calibrations(suite, bare)
