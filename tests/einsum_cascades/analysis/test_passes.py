"""Passes, counted by hand: FuseMax (MICRO'24), section III, and cascades that are easy to get wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.analysis.footprint import analyse, live_footprint, minimum_words
from cascadesim.einsum_cascades.analysis.passes import (
    all_passes,
    pass_class,
    passes,
    rank_group,
    rank_groups,
    traversal,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_2PASS, ATTENTION_3PASS


def over(rank: str, text: str) -> int:
    return passes(cascade("example", text), rank)


def pass_of(whole: Cascade, rank: str, name: str) -> int:
    """The pass in which the last Einsum of that name runs."""
    return traversal(whole, rank_group(whole, rank)).pass_of(whole.einsums.index(whole.einsum(name)))


def test_attention_in_three_two_and_one_passes() -> None:
    assert ATTENTION_3PASS.passes("m") == 3
    assert ATTENTION_2PASS.passes("m") == 2
    assert ATTENTION_1PASS.passes("m") == 1


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [
        ("attention-3pass-deferred", "m", 2),  # {QK GM} {SN SD SNV}; the division has no m
        ("attention-3pass-causal", "m", 3),
        ("attention-3pass-gqa", "m", 3),
        ("attention-1pass-causal", "m", 1),
        ("attention-1pass-gqa", "m", 1),
        ("toy-two-pass", "k", 2),
        ("toy-one-pass", "k", 1),
        ("softmax", "d", 3),  # maximum; exponentials and sum; division
        ("softmax-online", "d", 2),  # running maximum and sum; exponentials again and division
        ("log-sum-exp", "d", 2),  # maximum; sum of exponentials
        ("log-sum-exp-running", "d", 1),
        ("layer-norm", "d", 3),  # mean; variance; normalise
        ("layer-norm-welford", "d", 2),  # running mean and variance; normalise
        ("rms-norm", "d", 2),  # mean square; normalise
        ("variance-2pass", "d", 2),
        ("variance-1pass", "d", 1),
        ("variance-welford", "d", 1),
        ("cosine-similarity", "d", 1),  # three sums side by side
        ("top-k-gather", "m", 1),  # scores and choice; the gather reads KEEP rows, not the fiber
        ("attention-top-k", "m", 1),
        ("attention-top-k", "j", 2),  # softmax over the kept keys, division deferred
        ("perceptron", "n", 1),  # a hidden unit is made, bent and used up
        ("linear-attention", "m", 1),
        ("linear-attention-chunked", "c", 1),
        ("linear", "k", 1),
        ("gelu", "d", 1),
    ],
)
def test_passes_by_hand(name: str, rank: str, expected: int) -> None:
    assert passes(find(name), rank) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("attention-3pass", "3-pass"), ("attention-2pass", "2-pass"), ("attention-1pass", "1-pass"), ("linear", "1-pass")],
)
def test_the_class_is_the_most_passes_over_any_rank(name: str, expected: str) -> None:
    assert pass_class(find(name)) == expected


def test_only_the_keys_are_walked_more_than_once() -> None:
    assert all_passes(ATTENTION_3PASS) == {"h": 1, "m": 3, "p": 1, "e": 1, "f": 1}


def test_each_einsum_runs_in_its_pass() -> None:
    named = {name: pass_of(ATTENTION_3PASS, "m", name) for name in ("QK", "GM", "SN", "SD", "A", "AV")}
    assert named == {"QK": 1, "GM": 1, "SN": 2, "SD": 2, "A": 3, "AV": 3}


def test_work_on_tiles_only_waits_for_a_pass_and_makes_none() -> None:
    """PLM and SD of the 2-pass cascade come after pass 1 and walk M1 tiles, not M keys."""
    assert pass_of(ATTENTION_2PASS, "m", "PLM") == 1
    assert pass_of(ATTENTION_2PASS, "m", "A") == 2
    assert passes(ATTENTION_2PASS, "m1") == 3  # over the tiles themselves: LM, then PLM, then A


def test_corrections_of_tiles_ride_in_the_next_pass() -> None:
    """SLN * PLM could run between the passes, but need not: it waits for the second one."""
    assert over("m", """
        LM[m1]    max= X[m1*M0+m0]
        SLN[m1,m0] = exp(X[m1*M0+m0] - LM[m1])
        SLD[m1]   = SLN[m1,m0]
        GM        max= LM[m1]
        PLM[m1]   = exp(LM[m1] - GM)
        SD        = SLD[m1] * PLM[m1]
        SN[m1,m0] = SLN[m1,m0] * PLM[m1]
        Y[m1,m0]  = SN[m1,m0] / SD
    """) == 2


def test_split_sums_need_one_pass() -> None:
    """Local results first, corrections over tiles afterwards (split-K): each key is visited once."""
    assert over("m", """
        LM[m1]    max= X[m1*M0+m0]
        SLD[m1]   = exp(X[m1*M0+m0] - LM[m1])
        GM        max= LM[m1]
        SD        = SLD[m1] * exp(LM[m1] - GM)
    """) == 1


def test_an_inner_sum_costs_a_tile_not_a_pass() -> None:
    text = """
        S[m1]    = X[m1*M0+m0]
        Y[m1,m0] = X[m1*M0+m0] / S[m1]
    """
    assert over("m", text) == 1
    assert over("m0", text) == 2


def test_a_partition_of_a_partition_is_one_fiber() -> None:
    text = """
        B[k1,k0]    = A[k1*K0+k0]
        C[k1,i1,i0] = B[k1,i1*I0+i0]
        Y           = C[k1,i1,i0]
        Z           = Y * C[k1,i1,i0]
    """
    assert over("k", text) == 2
    assert {each.name for each in rank_groups(cascade("nested", text))} == {"k"}


def test_a_three_level_partition_is_one_fiber() -> None:
    text = """
        Y = A[k2*K1*K0 + k1*K0 + k0]
        Z[k2,k1,k0] = A[k2*K1*K0 + k1*K0 + k0] * Y
    """
    assert over("k", text) == 2


def test_parts_may_have_other_letters_than_m1_and_m0() -> None:
    text = "Y = A[mo*MI+mi]\nZ[mo,mi] = A[mo*MI+mi] * Y\nX[m] = B[m] * Y"
    assert all_passes(cascade("letters", text)) == {"m": 2}


def test_a_number_can_stand_for_the_inner_extent() -> None:
    assert over("m", "Y = A[m1*4+m0]\nZ = Y * A[m1*4+m0]") == 2


def test_another_letter_for_the_same_fiber_is_the_same_fiber() -> None:
    assert over("k", "Y = A[k] * B[k]\nZ = Y * A[j]") == 2


def test_the_whole_and_its_parts_are_the_same_fiber() -> None:
    """SLN walks m although LM has m1: m//M0 is the tile of m."""
    assert over("m", """
        LM[m1] max= X[m1*M0+m0]
        SN[m]  = exp(X[m] - LM[m//M0])
        SD     = SN[m]
    """) == 1


def test_ranks_that_meet_are_two_ranks() -> None:
    """Queries and keys of self-attention are the same tokens, walked by two loops."""
    scores = cascade("self", """
        Q[p,e]  = X[p,d] * WQ[d,e]
        K[m,e]  = X[m,d] * WK[d,e]
        QK[p,m] = Q[p,e] * K[m,e]
        GM[p]   max= QK[p,m]
        SD[p]   = exp(QK[p,m] - GM[p])
    """)
    assert all_passes(scores) == {"p": 1, "e": 1, "d": 1, "m": 2}


def test_previous_values_of_a_state_wait_for_nothing() -> None:
    assert over("i", """
        S[0]   = 0
        P[i]   = S[i] * W[i]
        S[i+1] = S[i] + X[i] * P[i]
    """) == 1


def test_the_final_state_is_there_after_the_pass() -> None:
    assert over("i", """
        S[0]   = 0
        S[i+1] = S[i] + X[i]
        Y[i]   = X[i] / S[I]
    """) == 2


def test_a_state_that_waits_for_a_sum_runs_in_the_second_pass() -> None:
    text = """
        G      = X[i]
        S[0]   = 0
        P[i]   = S[i] * X[i]
        S[i+1] = S[i] + P[i] / G
    """
    assert over("i", text) == 2
    assert pass_of(cascade("late", text), "i", "P") == 2  # although P stands before S


def test_passes_are_counted_within_one_step_of_another_iteration() -> None:
    """A norm in every layer: each layer walks d twice, whatever the number of layers."""
    assert over("d", """
        X[0,d]   = T[d]
        S[l]     = X[l,d] * X[l,d]
        X[l+1,d] = X[l,d] / S[l]
    """) == 2


def test_a_sum_over_a_states_own_future_is_refused() -> None:
    impossible = cascade("impossible", """
        T[0]   = 1
        S      = T[i] * X[i]
        T[i+1] = T[i] + S
    """)
    with pytest.raises(CascadeSimError, match=r"impossible, line \d: \w needs a reduction over 'i'"):
        passes(impossible, "i")


def test_neighbours_are_read_in_the_same_pass() -> None:
    assert over("i", "D[i] = A[i+1] - A[i]\nY = D[i] * D[i]") == 1


def test_a_gather_from_a_result_waits_for_all_of_it() -> None:
    """W is made in pass 1; its elements at I come after; their sum sends every element round again."""
    assert over("m", """
        W[m]  = X[m] * X[m]
        I[j]  = top(W[m], KEEP)
        S     = W[I[j]]
        Y[m]  = W[m] / S
    """) == 2


def test_a_convolution_walks_its_outputs_once() -> None:
    assert all_passes(cascade("convolution", "Y[i] = X[i+k] * W[k]")) == {"i": 1, "k": 1}


def test_strided_reads_are_no_partition() -> None:
    assert all_passes(cascade("halves", "Y[d] = X[2*d] + X[2*d+1]\nS = Y[d]\nZ[d] = Y[d] / S")) == {"d": 2}


def test_passes_over_an_unknown_rank_are_an_error() -> None:
    with pytest.raises(UnknownNameError, match=r"no rank of attention-3pass 'q'; known: "):
        passes(ATTENTION_3PASS, "q")


def test_a_whole_attention_layer_from_tokens_to_tokens() -> None:
    """The residual needs X again when O is done: two passes over d. Tokens are keys (m) and queries (p)."""
    layer = cascade("layer", """
        Q[h,p,e]  = X[p,d] * WQ[h,d,e]
        K[h,m,e]  = X[m,d] * WK[h,d,e]
        V[h,m,f]  = X[m,d] * WV[h,d,f]
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        GM[h,p]   max= QK[h,m,p]
        SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
        SD[h,p]   = SN[h,m,p]
        A[h,m,p]  = SN[h,m,p] / SD[h,p]
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
        O[p,d]    = AV[h,p,f] * WO[h,f,d]
        Y[p,d]    = O[p,d] + X[p,d]
    """)
    assert all_passes(layer) == {"h": 1, "p": 1, "e": 1, "d": 2, "m": 3, "f": 1}


def test_a_recurrent_layer_walks_time_once() -> None:
    cell = cascade("cell", """
        S[c,0]   = 0
        U[c,i]   = W[c,d] * S[d,i]
        S[c,i+1] = tanh(U[c,i] + X[c,i])
        Y[c]     = S[c,I]
    """)
    assert all_passes(cell) == {"c": 1, "i": 1, "d": 1}


def test_numbers_and_renamed_inputs_are_there_in_any_order() -> None:
    """Power iteration: a step multiplies and takes the norm (pass 1), then divides (pass 2)."""
    power = cascade("power", """
        B[0,i]   = START[i]
        Z[t,i]   = A[i,j] * B[t,j]
        N[t]     = Z[t,i] * Z[t,i]
        B[t+1,i] = Z[t,i] / sqrt(N[t])
        Y[i]     = B[T,i]
    """)
    assert all_passes(power) == {"i": 2, "t": 1, "j": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S[d] = X[r,d]\nC[r,d] = X[r,d] - S[d] / R\nV[d] = C[r,d] * C[r,d]\nY[r,d] = C[r,d] / sqrt(V[d])",
         {"d": 1, "r": 3}),  # batch norm walks rows, not features
        ("GM[r] max= X[r,d]\nSD[r] = exp(X[r,d] - GM[r])\nL[r] = log(SD[r]) + GM[r] - X[r,T[r]]\nY = L[r]",
         {"r": 1, "d": 2}),  # cross entropy looks one element up
        ("C[i,j] = A[i,k] * A[j,k]", {"i": 1, "j": 1, "k": 1}),  # a Gram matrix
        ("C[i] = X[j] if j <= i else 0\nY[i] = C[i] * X[i]", {"i": 1, "j": 1}),  # prefix sums, each on its own
        ("S[r,g] = X[r,g*C+c]\nY[r,g,c] = X[r,g*C+c] / S[r,g]", {"r": 1, "g+c": 1}),  # group norm walks groups
    ],
)
def test_well_known_layers(text: str, expected: dict[str, int]) -> None:
    assert all_passes(cascade("example", text)) == expected


@st.composite
def chains(draw: st.DrawFn) -> str:
    """Einsums over i and j, each of two tensors before it, with any ranks on the left that are on the right."""
    tensors = [("X", "ij"), ("W", "j"), ("U", "i")]
    lines = []
    for number in range(draw(st.integers(1, 8))):
        read = [draw(st.sampled_from(tensors)) for _ in range(2)]
        ranks = sorted({*read[0][1], *read[1][1]})
        kept = "".join(rank for rank in ranks if draw(st.booleans()))
        tensors.append((f"T{number}", kept))
        left, first, second = (f"{name}[{','.join(own)}]" for name, own in (tensors[-1], *read))
        lines.append(f"{left.removesuffix('[]')} = {first} * {second}")
    return "\n".join(lines)


def by_the_rules(whole: Cascade, rank: str) -> int:
    """FuseMax's definition as rules, for ranks without partitions and iteration: an Einsum over the rank runs one pass
    after what it reads, where that is a finished sum over the rank; other Einsums hand their pass on."""
    index = {tensor: 1 for tensor in whole.inputs}
    finished = {tensor: False for tensor in whole.inputs}
    walks = set()
    for einsum in whole.einsums:
        over = rank in einsum.ranks
        reads = [each.tensor for each in einsum.inputs]
        own = max(index[tensor] + (over and finished[tensor]) for tensor in reads)
        index[einsum.name] = own
        if over:
            walks.add(own)
            finished[einsum.name] = rank not in einsum.output.ranks
        else:
            finished[einsum.name] = any(finished[tensor] and index[tensor] == own for tensor in reads)
    return len(walks)


@settings(deadline=None, max_examples=200)
@given(chains())
def test_passes_of_any_chain_are_those_of_the_definition(text: str) -> None:
    whole = cascade("chain", text)
    for rank in whole.ranks:
        assert passes(whole, rank) == by_the_rules(whole, rank)


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
