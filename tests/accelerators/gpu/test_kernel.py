"""Which texts are those of known kernels: those whose work a kernel does, whatever they are called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.kernel import kernel_text
from cascadesim.accelerators.protocol import Plan, problems
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_1PASS_CAUSAL, ATTENTION_3PASS

FUSED = ("attention-1pass", "attention-1pass-gqa", "attention-1pass-causal")
UNFUSED = ("attention-3pass", "attention-3pass-gqa", "attention-3pass-causal",
           "examples/sliding-window-attention.cascade")  # fmt: skip
OTHERS = (
    "linear-attention", "linear-attention-chunked", "attention-2pass", "attention-3pass-deferred", "attention-top-k",
    "attention-pruned", "local-value-pruning", "local-value-pruning-1pass", "pruned-1pass", "pruned-1pass-tiles",
    "cascade-token-pruning", "cascade-head-pruning", "progressive-quantization", "token-importance", "softmax",
    "residual-add",
)  # fmt: skip
RENAMED = cascade("somebody-elses-attention", """
    S[h,p,m1,m0]  = K[h,m1*M0+m0,e] * Q[h,p,e]
    T[h,0,p]      = -inf
    D[h,0,p]      = 0
    O[h,0,p,f]    = 0
    B[h,m1,p]     max= S[h,p,m1,m0]
    T[h,m1+1,p]   = max(B[h,m1,p], T[h,m1,p])
    N[h,m1,m0,p]  = exp(S[h,p,m1,m0] - T[h,m1+1,p])
    L[h,m1,p]     = N[h,m1,m0,p]
    W[h,m1,p,f]   = V[h,m1*M0+m0,f] * N[h,m1,m0,p]
    R[h,m1,p]     = exp(T[h,m1,p] - T[h,m1+1,p])
    C[h,m1,p]     = D[h,m1,p] * R[h,m1,p]
    D[h,m1+1,p]   = C[h,m1,p] + L[h,m1,p]
    X[h,m1,p,f]   = O[h,m1,p,f] * R[h,m1,p]
    O[h,m1+1,p,f] = X[h,m1,p,f] + W[h,m1,p,f]
    Z[h,p,f]      = O[h,M1,p,f] / D[h,M1,p]
""")
SIGMOID = cascade("sigmoid-attention", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    A[h,m,p]  = sigmoid(QK[h,m,p])
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")
SOFT_CAPPED = cascade("soft-capped", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    S[h,m,p]  = 30 * tanh(QK[h,m,p] / 30)
    GM[h,p]   max= S[h,m,p]
    SN[h,m,p] = exp(S[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")
FOUR_PRODUCTS = cascade("four-products", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    QL[h,m,p] = Q[h,p,e] * L[h,m,e]
    S[h,m,p]  = QK[h,m,p] + QL[h,m,p]
    GM[h,p]   max= S[h,m,p]
    SN[h,m,p] = exp(S[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
    AW[h,p,f] = A[h,m,p] * W[h,m,f]
""")
ALIBI = cascade("alibi", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e] + B[h] * D[m,p] if m <= p + M - P else -inf
    GM[h,p]   max= QK[h,m,p] if m <= p + M - P else -inf
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p]) if m <= p + M - P else 0
    SD[h,p]   = SN[h,m,p] if m <= p + M - P else 0
    A[h,m,p]  = SN[h,m,p] / SD[h,p] if m <= p + M - P else 0
    AV[h,p,f] = A[h,m,p] * V[h,m,f] if m <= p + M - P else 0
""")


def attention(text: Cascade, queries: int = 2048, keys: int = 2048, mask: Mask = FULL) -> Operation:
    extents = {"b": 2, "h": 8, "g": 1, "m": keys, "p": queries, "e": 128, "f": 128}
    return Operation("attention", "attention", text, tuple(extents.items()), mask=mask)


def plan(operation: Operation, device: str = "h100-sxm", *settings: str) -> Plan:
    found = load(device, settings)
    assert isinstance(found, Gpu)
    return found.plan(operation, "physical")


def cycles(operation: Operation) -> float:
    return plan(operation).phases[0].analytical_cycles


@pytest.mark.parametrize("name", FUSED)
def test_one_pass_texts_are_what_fused_kernels_compute(name: str) -> None:
    assert kernel_text(find(name)) == "fused"


@pytest.mark.parametrize("name", UNFUSED)
def test_three_pass_texts_are_what_unfused_kernels_compute(name: str) -> None:
    assert kernel_text(find(name)) == "unfused"


def test_names_of_texts_and_tensors_and_the_order_of_factors_decide_nothing() -> None:
    assert plan(attention(RENAMED)).phases[0].analytical_cycles == cycles(attention(ATTENTION_1PASS))
    renamed = replace(ATTENTION_3PASS, name="attention-1pass")
    assert kernel_text(renamed) == "unfused"


@pytest.mark.parametrize(
    "text", [*map(find, OTHERS), SIGMOID, SOFT_CAPPED, FOUR_PRODUCTS, ALIBI], ids=lambda text: text.name
)
def test_a_text_whose_work_no_kernel_does_is_none_of_theirs(text: Cascade) -> None:
    assert kernel_text(text) is None


@pytest.mark.parametrize(("line", "how"), [
    ("Z[h,p,f,e] = AV[h,p,f]", "Z of example is repeated"), ("Z[h,I[p],f] += AV[h,p,f]", "Z of example is scattered"),
])  # fmt: skip
def test_a_text_that_repeats_or_scatters_its_result_is_refused(line: str, how: str) -> None:
    """Neither is an operation on scores: E times the result would be written in the time of one."""
    with pytest.raises(CascadeSimError, match=how):
        kernel_text(cascade("example", line, after=ATTENTION_1PASS))


def test_keys_that_all_heads_share_by_repetition_are_refused() -> None:
    shared = ATTENTION_1PASS.text.replace("K[h,m1*M0", "K[m1*M0").replace("V[h,m1*M0", "V[m1*M0")
    with pytest.raises(CascadeSimError, match="BK of shared is repeated"):
        kernel_text(cascade("shared", shared))


def test_a_sink_is_where_the_running_maximum_of_a_kernel_begins() -> None:
    assert kernel_text(find("attention-sinks-1pass")) == "fused"


@pytest.mark.parametrize("text", [SIGMOID, SOFT_CAPPED, FOUR_PRODUCTS, ALIBI], ids=lambda text: text.name)
@pytest.mark.parametrize("queries", [1, 512])
def test_it_runs_as_kernels_of_its_own(text: Cascade, queries: int) -> None:
    machine, asked = load("h100-sxm"), attention(text, queries)
    found = machine.plan(asked, "physical")
    assert found.kernel == "generic"
    assert list(problems(found, machine)) == []


def test_more_work_keeps_its_unit_busy_for_longer() -> None:
    """Twice the products; a hyperbolic tangent and a division of each score beside its exponential and division."""
    def busy(text: Cascade, unit: str) -> int:
        activities = (one for phase in plan(attention(text)).phases for one in phase.activities)
        return sum(one.cycles for one in activities if one.unit == unit)

    assert busy(FOUR_PRODUCTS, "tensor") == pytest.approx(2 * busy(SOFT_CAPPED, "tensor"), rel=1e-4)
    assert busy(SOFT_CAPPED, "special") == pytest.approx(2 * busy(FOUR_PRODUCTS, "special"), rel=1e-4)


def test_the_work_of_a_kernel_in_more_passes_is_another_text() -> None:
    """Exponentials that wait for the maximum of all tiles: the same operations, the keys passed over twice."""
    after_all_tiles = cascade("after-all-tiles", """
        RM[h,0,p]       = -inf
        RD[h,0,p]       = 0
        RNV[h,0,p,f]    = 0
        QK[h,m1,m0,p]   = Q[h,p,e] * K[h,m1*M0+m0,e]
        LM[h,m1,p]      max= QK[h,m1,m0,p]
        RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
        SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,M1,p])
        SLD[h,m1,p]     = SLN[h,m1,m0,p]
        SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * V[h,m1*M0+m0,f]
        PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
        SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
        RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
        SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
        RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
        AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
    """)
    assert kernel_text(after_all_tiles) is None


def test_a_kernel_is_not_asked_for_another_text() -> None:
    with pytest.raises(CascadeSimError, match="unfused-pytorch computes attention-3pass, the text does the work of"):
        plan(attention(ATTENTION_1PASS), "h100-sxm", "kernel=unfused-pytorch")
    with pytest.raises(CascadeSimError, match="flash-attention-3 computes attention-1pass, the text does the work of"):
        plan(attention(ATTENTION_3PASS), "h100-sxm", "kernel=flash-attention-3")


def test_a_causal_text_takes_the_time_of_a_causal_mask() -> None:
    assert cycles(attention(ATTENTION_1PASS_CAUSAL)) == cycles(attention(ATTENTION_1PASS, mask=KeyInterval(True)))
    assert cycles(attention(ATTENTION_1PASS_CAUSAL)) < 0.8 * cycles(attention(ATTENTION_1PASS))  # launches included
    assert plan(attention(ATTENTION_1PASS_CAUSAL)).mapping[1].startswith("mask causal")


def test_the_window_of_a_text_takes_the_time_of_that_window() -> None:
    condition = "if m <= p + M - P and m > p + M - P - 256 else"
    text = cascade("window", ALIBI_FREE.replace("if m <= p + M - P else", condition))
    asked = attention(text)
    assert cycles(asked) == cycles(attention(ATTENTION_3PASS, mask=KeyInterval(True, window=256)))
    counted = {one.name: one.operations for one in plan(asked).phases[0].activities if one.operations}
    pairs = sum(min(query + 1, 256) for query in range(2048))
    assert counted["GM"] == {"max": 2 * 8 * pairs}


ALIBI_FREE = """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m <= p + M - P else -inf
    GM[h,p]   max= QK[h,m,p] if m <= p + M - P else -inf
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p]) if m <= p + M - P else 0
    SD[h,p]   = SN[h,m,p] if m <= p + M - P else 0
    A[h,m,p]  = SN[h,m,p] / SD[h,p] if m <= p + M - P else 0
    AV[h,p,f] = A[h,m,p] * V[h,m,f] if m <= p + M - P else 0
"""


def test_a_device_without_a_fused_kernel_runs_the_unfused_text_and_says_so() -> None:
    amd, nvidia = load("mi300x"), load("h100-sxm")
    assert (amd.attention, nvidia.attention) == ("attention-3pass", "attention-1pass")
    notes = amd.plan(attention(ATTENTION_3PASS), "physical").notes
    assert len(notes) == 1
    assert "MI300X: no fused attention kernel" in notes[0]
    assert nvidia.plan(attention(ATTENTION_1PASS), "physical").notes == ()
    assert nvidia.plan(attention(ATTENTION_3PASS), "physical").notes == ()  # asked for, not for want of another
    with pytest.raises(CascadeSimError, match=r"keeps scores on the chip .* unfused-pytorch computes attention-3pass"):
        amd.plan(attention(ATTENTION_1PASS), "physical")


def test_a_kernel_that_stores_scores_makes_the_three_pass_text_the_default() -> None:
    assert load("h100-sxm", ("kernel=unfused-pytorch",)).attention == "attention-3pass"
