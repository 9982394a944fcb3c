"""Suites are found, named and refused by name."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.validation.claims.fusemax import FUSEMAX_LINEAR, SUITES
from cascadesim.validation.suites import calibrations, cited_source, find_suites, own_data, suites


def test_a_suite_is_found_by_name() -> None:
    assert find_suites(["fusemax-linear"]) == (FUSEMAX_LINEAR,)


def test_no_name_means_all_and_the_tables_of_other_modules_follow() -> None:
    assert find_suites([]) == suites()
    assert suites()[: len(SUITES)] == SUITES


def test_an_unknown_name_is_refused_with_a_guess() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'flat-dataflow'"):
        find_suites(["flat-dataflows"])


def test_a_source_is_the_file_and_what_it_cites() -> None:
    cited = cited_source(FUSEMAX_LINEAR, own_data(FUSEMAX_LINEAR), None)
    assert cited.startswith("fusemax-linear.csv: FuseMax (MICRO 2024) artifact")


def test_the_linear_layers_have_no_calibration() -> None:
    assert calibrations(FUSEMAX_LINEAR, own_data(FUSEMAX_LINEAR)) == ()
