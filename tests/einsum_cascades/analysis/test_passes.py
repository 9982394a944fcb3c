"""Passes, counted by hand: FuseMax (MICRO'24), section III, and cascades that are easy to get wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.analysis.passes import (
    all_passes,
    pass_class,
    passes,
    rank_group,
    traversal,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find
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


def test_a_state_carried_by_the_inner_rank_of_a_partition_waits_like_any_other() -> None:
    """Every tile has a running state, S, that needs the sum of all keys.

    G is complete after pass 1, so S runs in pass 2; P reads S one step earlier and runs with it, although nothing else
    keeps P from pass 1; D, the sum of P, is complete after pass 2; Z walks the keys in pass 3.
    """
    states = cascade("states", """
        G          = X[m1*M0+m0]
        S[m1,0]    = 0
        P[m1,m0]   = S[m1,m0] * X[m1*M0+m0]
        S[m1,m0+1] = S[m1,m0] + P[m1,m0] / G
        D          = P[m1,m0]
        Z[m1,m0]   = X[m1*M0+m0] * D
    """)
    assert [pass_of(states, "m", name) for name in ("G", "S", "P", "D", "Z")] == [1, 2, 2, 2, 3]
    assert passes(states, "m") == 3


def test_passes_are_counted_within_one_step_of_another_iteration() -> None:
    """A norm in every layer: each layer walks d twice, whatever the number of layers."""
    assert over("d", """
        X[0,d]   = T[d]
        S[l]     = X[l,d] * X[l,d]
        X[l+1,d] = X[l,d] / S[l]
    """) == 2


def test_what_only_reads_the_state_of_another_iteration_runs_with_it() -> None:
    """X of a step is made in pass 2, N takes its sum there, and Y needs all of that sum."""
    assert over("d", """
        X[0,d]   = T[d]
        S[l]     = X[l,d] * X[l,d]
        X[l+1,d] = X[l,d] / S[l]
        N[l]     = X[l,d] * W[d]
        Y[l,d]   = T[d] * N[l]
    """) == 3


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


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(chains())
def test_passes_of_any_chain_are_those_of_the_definition(text: str) -> None:
    whole = cascade("chain", text)
    for rank in whole.ranks:
        assert passes(whole, rank) == by_the_rules(whole, rank)
