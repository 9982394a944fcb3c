"""Which Einsums one kernel computes: as many as make one pass, none that others need whole, in whatever order."""

from __future__ import annotations

from itertools import permutations

import pytest

from cascadesim.accelerators.gpu.generic.fusion import FusedKernel, fused_kernels, loads, spilled, stores
from cascadesim.einsum_cascades.analysis.graph import dependences
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import cascade_names, find

SIGMOID = cascade("sigmoid-attention", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    A[h,m,p]  = sigmoid(QK[h,m,p])
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")


def names(text: Cascade, kernel: FusedKernel) -> list[str]:
    return list(dict.fromkeys(text.einsums[number].name for number in kernel.einsums))


def of(text: Cascade) -> list[list[str]]:
    return [names(text, kernel) for kernel in fused_kernels(text)]


def walks(kernel: FusedKernel) -> tuple[list[str], list[str]]:
    return [group.name for group in kernel.streamed], [group.name for group in kernel.grid]


def test_sums_over_all_keys_end_a_kernel_of_linear_attention() -> None:
    """Every query reads KV and SK, so queries are another kernel's; FQ goes where it is read."""
    text = find("linear-attention")
    assert of(text) == [["FK", "KV", "SK"], ["FQ", "NV", "SD", "AV"]]
    keys, queries = fused_kernels(text)
    assert walks(keys) == (["m"], ["h"])
    assert walks(queries) == ([], ["h", "p"])
    assert {tensor for tensor, _ in loads(text, set(queries.einsums))} == {"Q", "KV", "SK"}
    assert stores(text, set(keys.einsums)) == ("KV", "SK")


def test_a_pass_is_a_kernel() -> None:
    assert of(find("attention-3pass")) == [["QK", "GM"], ["SN", "SD"], ["A", "AV"]]
    assert of(find("attention-3pass-deferred")) == [["QK", "GM"], ["SN", "SD", "SNV", "AV"]]
    assert of(SIGMOID) == [["QK", "A", "AV"]]


def test_what_waits_for_nothing_is_made_where_it_is_read() -> None:
    """Features of values, which only the last pass reads, are not made and stored before it."""
    text = cascade("features", find("attention-3pass").text.replace("* V[h,m,f]", "* FV[h,m,f]").replace(
        "GM[h,p]   max=", "FV[h,m,f] = exp(V[h,m,f])\n GM[h,p]   max="))  # fmt: skip
    assert of(text) == [["QK", "GM"], ["SN", "SD"], ["FV", "A", "AV"]]


def test_what_tiles_leave_is_read_again_after_the_walk() -> None:
    """Two passes of attention: corrections of the tiles wait for the maximum of all of them, and walk over tiles."""
    text = find("attention-2pass")
    first, second = fused_kernels(text)
    assert names(text, first) == ["QK", "LM", "SLN", "SLD", "GM", "PLM", "SD"]
    assert {text.einsums[number].name for number in first.after} == {"PLM", "SD"}
    assert {tensor for tensor, _ in spilled(text, first)} == {"LM", "SLD"}
    assert names(text, second) == ["A", "AV"]
    assert {tensor for tensor, _ in loads(text, set(second.einsums))} == {"SLN", "PLM", "SD", "V"}


def test_a_running_value_is_one_kernel_that_walks_in_order() -> None:
    text = find("attention-1pass")
    (kernel,) = fused_kernels(text)
    assert kernel.running
    assert walks(kernel) == (["m"], ["h", "p"])
    assert [text.einsums[number].name for number in kernel.after] == ["AV"]
    assert stores(text, set(kernel.einsums)) == ("AV",)
    assert {tensor for tensor, _ in loads(text, set(kernel.einsums))} == {"Q", "K", "V"}  # BK and BV are K and V


CHUNKS = cascade("chunks", """
    S[h,0,e,f]       = 0
    CS[h,m1,0]       = 0
    BQ[h,m1,p0,e]    = Q[h,m1*P0+p0,e]
    BK[h,m1,m0,e]    = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]    = V[h,m1*M0+m0,f]
    G[h,m1,m0]       = BK[h,m1,m0,e]
    CS[h,m1,m0+1]    = CS[h,m1,m0] + G[h,m1,m0]
    IT[h,m1,0,m0]    = 1
    IT[h,m1,i0+1,m0] = IT[h,m1,i0,m0] - CS[h,m1,i0+1] * IT[h,m1,i0,m0]
    KD[h,m1,m0,e]    = BK[h,m1,m0,e] * IT[h,m1,I0,m0]
    QS[h,m1,p0,f]    = BQ[h,m1,p0,e] * S[h,m1,e,f]
    S[h,m1+1,e,f]    = S[h,m1,e,f] + KD[h,m1,m0,e] * BV[h,m1,m0,f]
    AV[h,m1*P0+p0,f] = QS[h,m1,p0,f]
""")
DELTA = cascade("delta", """
    S[h,0,e,f]   = 0
    KS[h,m,f]    = K[h,m,e] * S[h,m,e,f]
    D[h,m,f]     = V[h,m,f] - KS[h,m,f]
    S[h,m+1,e,f] = S[h,m,e,f] + K[h,m,e] * D[h,m,f]
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
""")


def test_states_within_a_tile_are_their_blocks_own() -> None:
    """Decays summed along a chunk, and an elimination over its rows (i0): only the state of chunks runs."""
    (kernel,) = fused_kernels(CHUNKS)
    assert walks(kernel)[1] == ["h"]
    assert not kernel.after
    assert kernel.circuit == 1  # from S to S


def test_a_circuit_has_every_einsum_between_two_values_of_a_state() -> None:
    """What a state holds for a key, its correction, the next state."""
    (kernel,) = fused_kernels(DELTA)
    assert kernel.circuit == 3


def test_queries_and_keys_that_are_stepped_along_together_are_one_kernel() -> None:
    (kernel,) = fused_kernels(find("linear-attention-chunked"))
    assert kernel.running
    assert not kernel.after
    assert walks(kernel) == (["c", "p"], ["h"])


def test_no_block_repeats_a_reduction_of_others() -> None:
    """Sums over keys beside scores of the same keys: blocks of queries would each sum them again."""
    text = cascade("hybrid", """
        FK[h,m,e]  = exp(K[h,m,e])
        KV[h,e,f]  = FK[h,m,e] * V[h,m,f]
        QK[h,m,p]  = Q[h,p,e] * FK[h,m,e]
        A[h,m,p]   = sigmoid(QK[h,m,p])
        S[h,p,f]   = A[h,m,p] * V[h,m,f]
        L[h,p,f]   = Q[h,p,e] * KV[h,e,f]
        AV[h,p,f]  = S[h,p,f] + L[h,p,f]
    """)
    assert of(text) == [["FK", "KV"], ["QK", "A", "S", "L", "AV"]]  # which reads FK, and KV once its walk is done
    for kernel in fused_kernels(text):
        grid = {rank for group in kernel.grid for rank in group.outer}
        for einsum in (text.einsums[number] for number in kernel.einsums):
            written = einsum.output.ranks
            if any(group.walked_by(einsum) and group.outer.isdisjoint(written) for group in kernel.streamed):
                assert grid <= set(einsum.ranks), einsum.name


def test_sums_over_queries_are_a_kernel_whose_blocks_have_keys() -> None:
    """Importance of tokens: probabilities summed over queries and heads."""
    text = find("pruned-1pass")
    first, second = fused_kernels(text)
    assert names(text, second) == ["LS", "S"]
    assert walks(second) == (["h", "p"], ["m"])
    assert {tensor for tensor, _ in spilled(text, first)} == {"RM"}  # the maxima of all steps, for CM


def test_the_order_of_the_text_decides_nothing() -> None:
    """All orders of the seven lines of linear attention in which what is read was written before."""
    text = find("linear-attention")
    edges = {(text.einsums[each.producer].name, text.einsums[each.reader].name) for each in dependences(text)}
    expected, seen = sorted(map(sorted, of(text))), 0
    for order in permutations(text.einsums):
        place = {einsum.name: number for number, einsum in enumerate(order)}
        if all(place[first] < place[second] for first, second in edges):
            seen += 1
            assert sorted(map(sorted, of(Cascade("shuffled", order)))) == expected
    assert seen > 20


def test_reductions_of_other_ranks_are_other_kernels() -> None:
    """Maxima of the same scores by queries and by keys: neither blocks of queries nor of keys have both."""
    text = cascade("both-ways", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        RM[h,p]   max= QK[h,m,p]
        CM[h,m]   max= QK[h,m,p]
        ZV[h,m,f] = CM[h,m] * V[h,m,f]
    """)
    assert of(text) == [["QK", "RM"], ["CM", "ZV"]]
    assert [walks(kernel) for kernel in fused_kernels(text)] == [(["m"], ["h", "p"]), (["p"], ["h", "m"])]


def test_two_score_matrices_share_their_kernels() -> None:
    text = cascade("differential", "\n".join(
        f"""
        QK{n}[h,m,p]  = Q{n}[h,p,e] * K{n}[h,m,e]
        GM{n}[h,p]    max= QK{n}[h,m,p]
        SN{n}[h,m,p]  = exp(QK{n}[h,m,p] - GM{n}[h,p])
        SD{n}[h,p]    = SN{n}[h,m,p]
        SNV{n}[h,p,f] = SN{n}[h,m,p] * V[h,m,f]
        """ for n in "ab"
    ) + "AV[h,p,f] = SNVa[h,p,f] / SDa[h,p] - L[h] * SNVb[h,p,f] / SDb[h,p]")
    first, second = of(text)
    assert set(first) == {"QKa", "GMa", "QKb", "GMb"}
    assert set(second) == {"SNa", "SDa", "SNVa", "SNb", "SDb", "SNVb", "AV"}


@pytest.mark.parametrize("name", cascade_names())
def test_every_einsum_is_in_one_kernel_after_those_it_reads(name: str) -> None:
    text = find(name)
    try:
        kernels = fused_kernels(text)
    except CascadeSimError as error:
        why = "no order of kernels computes QK" if name == "llama-layer" else "no rate of that on GPUs is known"
        assert why in str(error)  # noqa: PT017
        return
    where = {number: place for place, kernel in enumerate(kernels) for number in kernel.einsums}
    assert sum(len(kernel.einsums) for kernel in kernels) == len(where)
    computed = {number for number, einsum in enumerate(text.einsums) if einsum.reduced_ranks or einsum.iterates}
    assert computed <= set(where)
    for each in dependences(text):
        if {each.producer, each.reader} <= set(where):
            assert where[each.producer] <= where[each.reader]


@pytest.mark.parametrize(("name", "what"), [("attention-top-k", "line 2: I needs a selection"),
                                            ("top-k-gather", "line 2: I needs a selection")])  # fmt: skip
def test_what_has_no_rate_is_named(name: str, what: str) -> None:
    with pytest.raises(CascadeSimError, match=what):
        fused_kernels(find(name))


def test_a_gather_is_named() -> None:
    text = cascade("gathered", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = sigmoid(QK[h,m,p])
        AV[h,p,f] = A[h,m,p] * V[h,I[m],f]
    """)
    with pytest.raises(CascadeSimError, match="line 3: AV needs a gather"):
        fused_kernels(text)
