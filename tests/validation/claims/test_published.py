"""The claims hold, say why, rest on data that is there, and fail when the model is wrong."""

from __future__ import annotations

import pytest

from cascadesim.validation.claim import Claim, Suite, Verdict
from cascadesim.validation.suites import calibrations, compare, find_suites, own_data, suite_names, suites
from cascadesim.validation.table import Table

(
    FLAT_DATAFLOW, FUSEMAX_AREA, FUSEMAX_ATTENTION, FUSEMAX_CYCLE,
    FUSEMAX_ENERGY, FUSEMAX_HEADLINES, FUSEMAX_LINEAR, FUSEMAX_PARETO,
    FUSEMAX_PHYSICAL_ENERGY,
) = find_suites([
    "flat-dataflow", "fusemax-area", "fusemax-attention", "fusemax-cycle", "fusemax-energy",
    "fusemax-headlines", "fusemax-linear", "fusemax-pareto", "fusemax-energy-physical",
])  # fmt: skip

CLAIMS = [pytest.param(suite, claim, id=f"{suite.name}: {claim.name}") for suite in suites() for claim in suite.claims]
# cycle by cycle, a search, or a calibration for each device
SLOW = {"claims", "flat-search", "fusemax-cycle", "fusemax-energy-physical", "gpu-left-out",
        "mapping-texts", "mapping-texts-cycle", "models", "spatten-behavioural", "spatten-paper", "spatten-rtl-heads",
        "spatten-rtl-streams", "spatten-topk"}  # fmt: skip
SUITES = [
    pytest.param(suite, id=suite.name, marks=[pytest.mark.slow] if suite.name in SLOW else [])
    for suite in suites()
]


def judged(suite: Suite, *settings: str, rows: slice = slice(None)) -> dict[str, Verdict]:
    """claim -> its verdict on the suite's own rows, with the architectures changed by `settings`."""
    own = own_data(suite)
    table = Table(own.rows[rows], own.comments)
    return {verdict.claim.name: verdict for verdict in compare(suite, table, "own", calibrations(suite, own), settings)}


def test_the_suites_that_the_project_promises_are_there() -> None:
    promised = {"fusemax-attention", "fusemax-linear", "fusemax-pareto", "flat-dataflow"}
    assert promised <= set(suite_names())
    assert len(set(suite_names())) == len(suite_names())
    assert [suite.name for suite in find_suites(["fusemax-linear", "fusemax-linear"])] == ["fusemax-linear"]


@pytest.mark.parametrize("suite", SUITES)
def test_published_data_cites_its_source(suite: Suite) -> None:
    table = own_data(suite)
    assert table.rows
    assert any(comment.startswith("Source: ") for comment in table.comments)
    assert set(suite.strata) <= {column.name for column in suite.layout.columns}


@pytest.mark.parametrize(("suite", "claim"), CLAIMS)
def test_a_tolerance_stands_beside_its_reason(suite: Suite, claim: Claim) -> None:
    assert len(claim.because) > 10
    columns = {column.name for column in suite.layout.columns}
    assert set(claim.scored_columns) | set(claim.where) | set(claim.unless) <= columns
    assert claim.tolerance is None or 0 <= claim.tolerance < 1 or claim.gate == "gaps"  # a count of systems


@pytest.mark.parametrize("suite", SUITES)
def test_claims_of_a_suite_have_names_of_their_own(suite: Suite) -> None:
    names = [claim.name for claim in suite.claims]
    assert len(set(names)) == len(names)


def test_no_published_row_is_left_out_of_attention() -> None:
    """65 rows: 5 configurations of 13; the 4 unfused ones of 256K and 1M are calibration for traffic."""
    verdicts = judged(FUSEMAX_ATTENTION)
    fitted = next(verdict for verdict in verdicts.values() if verdict.claim.fitted)
    assert verdicts["energy"].errors.rows == len(own_data(FUSEMAX_ATTENTION).rows)
    assert verdicts["DRAM traffic"].errors.rows + fitted.errors.rows == verdicts["energy"].errors.rows


def failing(suite: Suite, *settings: str, rows: slice = slice(None)) -> set[str]:
    return {name for name, verdict in judged(suite, *settings, rows=rows).items() if not verdict.holds}


def test_a_slower_clock_fails_latency_and_leaves_traffic() -> None:
    failed = failing(FUSEMAX_ATTENTION, "clock_hz=900000000.0")
    assert "latency" in failed
    assert "DRAM traffic" not in failed


def test_a_smaller_buffer_fails_traffic() -> None:
    """8 MiB: the feed-forward weights of XLM (32 MiB) and TrXL (8 MiB and a tile) are fetched more often."""
    assert "DRAM traffic" in failing(FUSEMAX_LINEAR, "global_buffer.capacity_bytes=8388608")


def test_registers_fail_energy_and_area() -> None:
    """128 words a PE: beyond the 64 that every smaller register file costs as much as."""
    setting = "vector_array.register_words_per_lane=128"
    assert "area" in failing(FUSEMAX_AREA, setting)
    assert "energy by component" in failing(FUSEMAX_ENERGY, setting)


@pytest.mark.slow
def test_registers_alone_explain_what_physical_energy_adds_to_fusemax() -> None:
    """Operations, DRAM and buffer equal the published ones; a larger buffer costs more an access."""
    assert failing(FUSEMAX_PHYSICAL_ENERGY) == set()
    larger = failing(FUSEMAX_PHYSICAL_ENERGY, "global_buffer.capacity_bytes=33554432")
    assert larger == {"fusemax and fusemax-architecture below 256K: DRAM and buffer"}


def test_a_pareto_point_is_not_blind_to_bandwidth() -> None:
    assert "each bound alone" in failing(FUSEMAX_PARETO, "dram.bandwidth_bytes_per_s=400000000000.0")


@pytest.mark.slow
def test_a_headline_moves_with_the_clock() -> None:
    assert "means over the 24 points, free of calibration" in failing(FUSEMAX_HEADLINES, "clock_hz=930000000.0")


@pytest.mark.slow
def test_the_cycle_level_may_neither_be_faster_nor_much_slower_than_published() -> None:
    too_fast, too_slow = (failing(FUSEMAX_CYCLE, f"clock_hz={clock}") for clock in ("941000000.0", "900000000.0"))
    assert "these three are never faster than published" in too_fast
    assert "fusemax: latency against +Binding" in too_slow
    assert "fusemax-architecture: latency against +Architecture" in too_slow


def test_flats_ideal_latency_moves_with_the_clock() -> None:
    assert "ideal latency" in failing(FLAT_DATAFLOW, "clock_hz=939000000.0")
