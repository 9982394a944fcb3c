"""What stays live, and what memory must move at least, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.analysis.footprint import fibers, live_footprint, minimum_traffic_words, minimum_words
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts.catalogue import find


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


def test_footprints_are_per_point_of_the_ranks_outside() -> None:
    found = live_footprint(find("attention-3pass"), "m")
    assert found.outside == ("h", "p")
    assert str(fibers(find("attention-3pass"), found)) == "H*P"
    assert found.bound({"M": 4096}) == 4096


def test_inputs_read_again_are_live_with_all_that_is_summed() -> None:
    """X is needed whole in the second pass, for every d of the product inside it."""
    text = """
        S[m]  = X[m,d] * W[d]
        G     max= S[m]
        Y     = X[m,d] * U[d] * G
    """
    assert str(live_footprint(cascade("again", text), "m").elements) == "D*M"


def test_an_unknown_rank_is_an_error() -> None:
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


SIZES = {"H": 2, "M": 100, "M0": 10, "M1": 10, "P": 3, "E": 4, "F": 5}
BARE = 2 * (3 * 4 + 100 * 4 + 100 * 5 + 3 * 5)


def test_without_a_limit_a_buffer_holds_everything() -> None:
    assert minimum_traffic_words(find("attention-3pass"), SIZES) == BARE
    assert minimum_traffic_words(find("attention-3pass"), SIZES, buffer_words=100) == BARE


def test_what_does_not_fit_goes_out_and_comes_back() -> None:
    """A row of 100 scores in a buffer of 90: 10 words out and in, at two of the three passes' ends, for 2 x 3 rows."""
    assert minimum_traffic_words(find("attention-3pass"), SIZES, buffer_words=90) == BARE + 2 * 3 * (10 * 2) * 2


def test_a_tile_that_fits_is_enough_for_one_pass() -> None:
    assert minimum_traffic_words(find("attention-1pass"), SIZES, buffer_words=10) == BARE


def test_inputs_come_back_but_need_not_go_out() -> None:
    """A of 100 words beside a buffer of 60: 40 words are read again. A, B in; one number out."""
    assert minimum_traffic_words(find("toy-two-pass"), {"K": 100}, buffer_words=60) == 100 + 100 + 1 + 40


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_larger_buffer_never_costs_traffic(one: int, other: int) -> None:
    small, large = sorted((one, other))
    three = find("attention-3pass")
    assert minimum_traffic_words(three, SIZES, large) <= minimum_traffic_words(three, SIZES, small)


def test_a_missing_extent_is_named() -> None:
    with pytest.raises(CascadeSimError, match="the extent P is not given"):
        minimum_traffic_words(find("attention-3pass"), {"H": 2, "M": 3, "E": 4, "F": 5})
