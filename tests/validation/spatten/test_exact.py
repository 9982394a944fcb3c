"""The exact suites of SpAtten: published copies agree, altered copies do not, malformed ones are refused in place."""

from __future__ import annotations

from itertools import islice

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.claim import Suite, Verdict
from cascadesim.validation.spatten import exact as spatten_exact
from cascadesim.validation.suites import compare, find_suites
from cascadesim.validation.table import Table

SPATTEN_BEHAVIOURAL, SPATTEN_DRAM, SPATTEN_TOPK = find_suites(
    ["spatten-behavioural", "spatten-dram", "spatten-topk"]
)

RUN = """\
config_id,kind,dram_channels,multipliers,topk_parallelism,D,L,heads_per_layer,fetch_num_per_layer,key_bit,value_bit,topk_per_layer,cycles_per_layer,cycles_total
0,L_nopk,16,512,4,64,8,1;1,8;8,8,8,-1;4,114;{selecting},{total}
"""  # layers of bert.cpp (mit-han-lab/spatten): 114 without top-k, 126 with
DRAWS = "kind,order,size,target,parallelism,cycles,mean,std\ndraw,0,746,219,64,97,,\ndraw,1,50,9,16,{second},,\n"
STREAM = "pattern,n,stride,gap,cycles,first,out_of_order\nburst,1000,64,0,{cycles},19,812\n"


def judged(suite: Suite, text: str) -> tuple[Verdict, ...]:
    table: Table = suite.parse(text, suite.layout, "given.csv")
    return compare(suite, table, "given.csv", ())


@pytest.mark.parametrize(
    ("suite", "right", "wrong"),
    [
        (SPATTEN_BEHAVIOURAL, RUN.format(selecting=126, total=240), RUN.format(selecting=127, total=241)),
        (SPATTEN_TOPK, DRAWS.format(second=40), DRAWS.format(second=41)),
        (SPATTEN_DRAM, STREAM.format(cycles=2347), STREAM.format(cycles=2348)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_row_agrees_to_the_cycle_or_not_at_all(suite: Suite, right: str, wrong: str) -> None:
    assert all(verdict.holds for verdict in judged(suite, right))
    assert not all(verdict.holds for verdict in judged(suite, wrong))


def test_a_run_becomes_a_row_a_layer_and_one_for_the_total() -> None:
    table = spatten_exact.parse_behavioural(RUN.format(selecting=126, total=240), SPATTEN_BEHAVIOURAL.layout, "x.csv")
    assert [(row.get("part"), row.get("cycles")) for row in table.rows] == [
        ("layer", 114), ("layer", 126), ("total", 240),
    ]  # fmt: skip


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(SpecError, match=r"x\.csv, line 2: .* one entry a layer"):
        spatten_exact.parse_behavioural(RUN.format(selecting="126;126", total=240), SPATTEN_BEHAVIOURAL.layout, "x.csv")


@pytest.mark.parametrize("cycles", ["1x7", "-3", "", "9" * 5000])
def test_cycles_that_are_no_number_are_refused_in_place(cycles: str) -> None:
    with pytest.raises(SpecError, match=r"given.csv, line 2.* whole number"):
        judged(SPATTEN_BEHAVIOURAL, RUN.format(selecting=cycles, total=240))


def test_an_unknown_pattern_is_refused() -> None:
    with pytest.raises(SpecError, match="no pattern 'zigzag'; known: burst, rand, seq"):
        judged(SPATTEN_DRAM, STREAM.format(cycles=1).replace("burst", "zigzag"))


def test_random_addresses_are_those_of_glibc() -> None:
    """rand() after srand(1): 1804289383, 846930886, 1681692777 (glibc, any version)."""
    assert list(islice(spatten_exact.glibc_rand(1), 3)) == [1804289383, 846930886, 1681692777]


@pytest.mark.slow
@pytest.mark.parametrize("suite", [SPATTEN_BEHAVIOURAL, SPATTEN_TOPK, SPATTEN_DRAM], ids=lambda suite: suite.name)
def test_the_published_tables_agree(suite: Suite) -> None:
    from cascadesim.validation.suites import own_data

    verdicts = compare(suite, own_data(suite), suite.data, ())
    assert all(verdict.holds for verdict in verdicts)
