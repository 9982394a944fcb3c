"""What stays live between passes, and the whole analysis of a cascade, by hand."""

from __future__ import annotations

import json

import pytest

from cascadesim.einsum_cascades.analysis.footprint import analyse, live_footprint, minimum_words
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS


def live(name: str, rank: str) -> tuple[str, bool]:
    found = live_footprint(find(name), rank)
    return str(found.elements), found.constant_in_rank


def test_three_pass_attention_keeps_a_row_of_scores_and_one_pass_attention_a_tile() -> None:
    assert live("attention-3pass", "m") == ("M", False)
    assert live("attention-1pass", "m") == ("M0", True)


@pytest.mark.parametrize(
    ("name", "rank", "elements", "constant"),
    [
        ("attention-3pass-deferred", "m", "M", False),
        ("attention-2pass", "m", "M0*M1 + 2*M1", False),  # between the passes: SLN; LM and SLD of each tile
        ("attention-3pass-causal", "m", "M", False),
        ("attention-1pass-causal", "m", "M0", True),
        ("attention-1pass-gqa", "m", "M0", True),
        ("toy-two-pass", "k", "K", False),  # A, for the second pass
        ("toy-one-pass", "k", "1", True),
        ("softmax", "d", "D", False),
        ("softmax-online", "d", "D", False),  # X, for the second pass
        ("log-sum-exp", "d", "D", False),
        ("log-sum-exp-running", "d", "1", True),
        ("layer-norm", "d", "D", False),
        ("layer-norm-welford", "d", "D", False),
        ("variance-2pass", "d", "D", False),
        ("variance-welford", "d", "1", True),
        ("variance-1pass", "d", "1", True),
        ("cosine-similarity", "d", "1", True),
        ("linear-attention", "m", "1", True),  # K times V has no m
        ("linear-attention-chunked", "c", "1", True),
        ("perceptron", "n", "1", True),
        ("top-k-gather", "m", "1", True),  # K once; V at KEEP places
        ("attention-top-k", "m", "M", False),  # scores are asked for again after the choice
        ("attention-top-k", "j", "J", False),
        ("attention-3pass", "e", "1", True),
    ],
)
def test_live_footprints_by_hand(name: str, rank: str, elements: str, constant: bool) -> None:
    assert live(name, rank) == (elements, constant)


def test_split_sums_keep_a_result_per_tile() -> None:
    """Split-K has one pass, but a maximum, a sum and F sums of V wait for every one of the M1 tiles."""
    split_k = cascade("split-k", """
        LM[p,m1]     max= QK[p,m1*M0+m0]
        SLN[p,m1,m0] = exp(QK[p,m1*M0+m0] - LM[p,m1])
        SLD[p,m1]    = SLN[p,m1,m0]
        SLNV[p,m1,f] = SLN[p,m1,m0] * V[m1*M0+m0,f]
        GM[p]        max= LM[p,m1]
        PLM[p,m1]    = exp(LM[p,m1] - GM[p])
        SD[p]        = SLD[p,m1] * PLM[p,m1]
        SNV[p,f]     = SLNV[p,m1,f] * PLM[p,m1]
        AV[p,f]      = SNV[p,f] / SD[p]
    """)
    found = live_footprint(split_k, "m")
    assert str(found.elements) == "F*M1 + M0 + 2*M1"
    assert not found.constant_in_rank


def test_inputs_read_again_are_live_with_all_that_is_summed() -> None:
    """X is needed whole in the second pass, for every d of the product inside it."""
    text = """
        S[m]  = X[m,d] * W[d]
        G     max= S[m]
        Y     = X[m,d] * U[d] * G
    """
    assert str(live_footprint(cascade("again", text), "m").elements) == "D*M"


def test_the_footprint_of_an_unknown_rank_is_an_error() -> None:
    with pytest.raises(UnknownNameError):
        live_footprint(find("attention-3pass"), "z")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("attention-3pass", "E*H*M + E*H*P + F*H*M + F*H*P"),  # Q, K, V in; AV out
        ("attention-1pass", "E*H*M0*M1 + F*H*M0*M1 + E*H*P + F*H*P"),
        ("softmax", "2*D*R"),
        ("toy-two-pass", "2*K + 1"),
        ("linear", "K*N + K*R + N*R"),
        ("top-k-gather", "F*H*J*P + E*H*M + E*H*P + F*H*J"),  # of V at least the J rows of one query
    ],
)
def test_least_traffic_reads_inputs_once_and_writes_outputs_once(name: str, words: str) -> None:
    assert str(minimum_words(find(name))) == words


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
    assert analyse(find("attention-3pass")).main.over.name == "m"


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


def test_an_unknown_rank_cannot_be_analysed() -> None:
    with pytest.raises(UnknownNameError, match="no rank of softmax 'x'; known: d, r"):
        analyse(find("softmax"), "x")


@pytest.mark.parametrize("name", cascade_names())
def test_every_cascade_of_the_package_is_analysed(name: str) -> None:
    found = analyse(find(name)).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"schema", "cascade", "passes", "class", "live_footprint", "operations",
                          "minimum_traffic_words", "einsums"}
