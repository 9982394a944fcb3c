"""The `passes` JSON, whole."""

from __future__ import annotations

import json

import pytest

from cascadesim.einsum_cascades.analysis.analysis import analyse
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL
from cascadesim.einsum_cascades.texts.attention import ATTENTION_1PASS
from cascadesim.einsum_cascades.texts.catalogue import cascade_names, find


def test_the_smallest_cascade_with_two_passes() -> None:
    assert analyse(find("toy-two-pass")).to_dict() == {
        "schema": "cascadesim.passes/1",
        "cascade": "toy-two-pass",
        "passes": {"k": 2},
        "class": "2-pass",
        "live_footprint": {"k": {"elements": "K", "constant_in_rank": False}},
        "operations": {"Y": {"mac": "K"}, "Z": {"mac": "K"}},
        "minimum_traffic_words": "2*K + 1",
        "einsums": [{"name": "Y", "pass": 1}, {"name": "Z", "pass": 2}],
    }


def test_one_rank_can_be_asked_for() -> None:
    found = analyse(find("attention-1pass"), "m").to_dict()
    assert found["passes"] == {"m": 1}
    assert found["live_footprint"] == {"m": {"elements": "M0", "constant_in_rank": True}}


def test_a_part_of_a_rank_can_be_asked_for() -> None:
    """Within a tile of the 1-pass cascade keys are visited twice: for the maximum, and for what is under it."""
    assert analyse(find("attention-1pass"), "m0").to_dict()["passes"] == {"m0": 2}


def test_einsums_refer_to_the_rank_with_the_most_passes() -> None:
    assert analyse(find("attention-3pass")).main.family.name == "m"


def test_the_update_of_a_state_is_counted_once_under_its_name() -> None:
    """RM has an initial state, which costs nothing, and an update."""
    operations = dict(analyse(find("attention-1pass")).operations)
    assert str(operations["RM"]["max"]) == "H*M1*P"


def test_counts_are_whole_numbers_where_extents_are_bound() -> None:
    """2 rows of 3: one maximum, one exponential, one difference, one addition and one division per element."""
    found = analyse(find("softmax"), extents={"R": 2, "d": 3}).to_dict()
    assert found["operations"] == {
        "GM": {"max": 6}, "SN": {"exp": 6, "add": 6}, "SD": {"add": 6}, "Y": {"divide": 6}
    }  # fmt: skip
    assert found["minimum_traffic_words"] == 12
    assert found["live_footprint"]["d"] == {"elements": "3", "constant_in_rank": False}  # type: ignore[index]


def test_extents_that_are_not_given_stay_letters_and_a_partial_tile_counts_what_it_holds() -> None:
    """1,000 keys in tiles of 256 are four tiles of 1,000 keys together, not 1,024."""
    found = analyse(ATTENTION_1PASS, extents={"M": 1000, "M0": 256}).to_dict()
    operations = dict(found["operations"])  # type: ignore[call-overload]
    assert operations["QK"] == {"mac": "1000*E*H*P"}
    assert operations["RM"] == {"max": "4*H*P"}
    assert found["minimum_traffic_words"] == "E*H*P + F*H*P + 1000*E*H + 1000*F*H"


def test_a_mask_takes_as_many_queries_as_keys() -> None:
    operations = dict(analyse(ATTENTION_1PASS, extents={"M": 1000, "M0": 256}, mask=CAUSAL).operations)
    assert str(operations["QK"]["mac"]) == "500500*E*H"


@pytest.mark.parametrize(("extents", "message"), [
    ({"N0": 4}, "attention-1pass: no extent 'N0'"),
    ({"M0": 4}, "a mask needs the number of keys: give M=N"),
    ({"M": 4}, "a mask needs the extents of m and p, and of tiles"),
])
def test_what_cannot_be_counted_is_said(extents: dict[str, int], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        analyse(ATTENTION_1PASS, extents=extents, mask=CAUSAL)


def test_a_cascade_of_single_numbers_has_one_pass_over_nothing() -> None:
    found = analyse(cascade("numbers", "Y = A[] + B[]")).to_dict()
    assert found["class"] == "1-pass"
    assert found["passes"] == {}


def test_an_unknown_rank_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="no rank of softmax 'x'; known: d, r"):
        analyse(find("softmax"), "x")


@pytest.mark.parametrize("name", cascade_names())
def test_every_cascade_of_the_package_is_analysed(name: str) -> None:
    found = analyse(find(name)).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"schema", "cascade", "passes", "class", "live_footprint", "operations",
                          "minimum_traffic_words", "einsums"}
