"""What runs where and what is kept where follows from the structure of the cascade, as the artifact lists it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.spec import Placement, place
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL
from cascadesim.einsum_cascades.texts.transformer import (
    ATTENTION_1PASS,
    ATTENTION_1PASS_CAUSAL,
    ATTENTION_2PASS,
    ATTENTION_3PASS,
)

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]

# Einsum: (array, kept in DRAM, in the buffer, in the 1D registers as the 2D array sees them); micro24-fusemax-artifact,
# commit f543beb: the tensors that each Einsum's Timeloop mapping keeps at each level.
FUSEMAX = {
    "QK": ("array_2d", "Q BK", "Q BK", ""),
    "LM": ("array_2d", "", "", "LM"),
    "SLN": ("array_2d", "", "", "RM"),
    "SLD": ("array_2d", "", "", "SLD"),
    "SLNV": ("array_2d", "BV", "BV", "SLNV"),
    "RM": ("array_1d", "", "RM0 RM", ""),
    "PRM": ("array_1d", "", "", ""),
    "SPD": ("array_1d", "", "RD0", ""),
    "RD": ("array_1d", "", "RD", ""),
    "SPNV": ("array_1d", "", "RNV0", ""),
    "RNV": ("array_1d", "", "RNV", ""),
    "AV": ("array_1d", "AV", "RNV RD", ""),
}
CASCADE = FUSEMAX | {  # on the FLAT architecture whole tiles cross between the arrays, through the buffer
    "QK": ("array_2d", "Q BK", "Q BK QK", "QK"),
    "LM": ("array_1d", "", "", ""),
    "SLN": ("array_1d", "", "QK SLN", ""),
    "SLD": ("array_1d", "", "", ""),
    "SLNV": ("array_2d", "BV", "BV SLN", "SLNV"),
}


def table(placement: Placement) -> dict[str, tuple[str, set[str], set[str], set[str]]]:
    return {
        placed.name: (placed.unit, set(placed.dram_keeps), set(placed.buffer_keeps), set(placed.registers_1d_keeps))
        for placed in placement.einsums
    }


@pytest.mark.parametrize(("preset", "kept"), [("fusemax", FUSEMAX), ("fusemax-cascade", CASCADE)])
def test_each_level_keeps_the_published_tensors(
    preset: str, kept: dict[str, tuple[str, str, str, str]], design: Design
) -> None:
    found = table(place(ATTENTION_1PASS, design(preset).spec))
    assert found == {name: (unit, *(set(names.split()) for names in levels)) for name, (unit, *levels) in kept.items()}


def test_queries_keep_their_running_values_beside_them(design: Design) -> None:
    """P1 of the artifact: E + F + 2 words for each query, and two tiles of D keys more on the FLAT architecture."""
    resident = place(ATTENTION_1PASS, design().spec).resident
    assert set(resident) == {"Q", "RM", "RD", "RNV"}
    assert set(place(ATTENTION_1PASS, design("fusemax-cascade").spec).resident) == {*resident, "QK", "SLN"}


def test_names_do_not_matter(design: Design) -> None:
    """Only the maximum of the scores under other names: the same arrays, the same homes."""
    other = cascade("other-names", """
        KK[h,j,i,e]  = K[h,i+j*I,e]
        BEST[h,0,p]  = -inf
        S[h,j,i,p]   = Q[h,p,e] * KK[h,j,i,e]
        TOP[h,j,p]   max= S[h,j,i,p]
        BEST[h,j+1,p] = max(BEST[h,j,p], TOP[h,j,p])
        Y[h,p]       = exp(BEST[h,J,p])
    """)
    found = table(place(other, design().spec))
    assert found["S"] == ("array_2d", {"Q", "KK"}, {"Q", "KK"}, set())
    assert found["TOP"] == ("array_2d", set(), set(), {"TOP"})
    assert found["BEST"] == ("array_1d", set(), {"BEST0", "BEST"}, set())
    assert found["Y"] == ("array_1d", {"Y"}, {"BEST"}, set())


RUNNING_MAXIMUM_FIRST = cascade("running-maximum-first", """
    BK[h,m1,m0,e] = K[h,m1*M0+m0,e]
    RM[h,0,p]     = -inf
    QK[h,m1,m0,p] = Q[h,p,e] * BK[h,m1,m0,e]
    LM[h,m1,p]    max= QK[h,m1,m0,p]
    RM[h,m1+1,p]  = max(RM[h,m1,p], LM[h,m1,p])
    SN[h,m1,m0,p] = exp(QK[h,m1,m0,p] - RM[h,M1,p])   # the final maximum: the keys pass by once more
    SD[h,p]       = SN[h,m1,m0,p]
""")


SEVERAL_PASSES = [ATTENTION_2PASS, ATTENTION_3PASS, RUNNING_MAXIMUM_FIRST]


@pytest.mark.parametrize("several", SEVERAL_PASSES, ids=lambda each: each.name)
def test_cascades_of_several_passes_are_refused_with_what_runs_them(several: Cascade, design: Design) -> None:
    with pytest.raises(CascadeSimError, match=r"make 1 pass over the keys .* is [23]-pass .unfused and flat run"):
        place(several, design().spec)


ONE_STATE = cascade("maximum-only", """
    KK[h,m1,m0,e] = K[h,m1*M0+m0,e]
    RM[h,0,p]     = -inf
    QK[h,m1,m0,p] = Q[h,p,e] * KK[h,m1,m0,e]
    LM[h,m1,p]    max= QK[h,m1,m0,p]
    RM[h,m1+1,p]  = max(RM[h,m1,p], LM[h,m1,p])
    Y[h,p]        = exp(RM[h,M1,p])
""")


def test_other_1_pass_cascades_run_in_a_window_but_have_no_published_epochs(attention: Make, design: Design) -> None:
    operation = attention(1024, cascade=ONE_STATE)
    with pytest.raises(CascadeSimError, match=r"policy epochs is for the Einsums of attention-1pass; maximum-only"):
        design().plan(operation, "physical")
    window = design("fusemax", "binding.policy=interleave", "binding.in_flight=2").plan(operation, "physical")
    cycles = {activity.name: activity.cycles for activity in window.phases[0].activities}
    assert cycles == {"QK": 16 * 64, "LM": 16, "RM": 16, "Y": 4 * 6}  # exp: 6 MACs
    assert window.phases[0].program is not None
    assert window.phases[0].program().tiles == 16


def test_a_text_that_masks_needs_a_workload_that_masks(attention: Make, design: Design) -> None:
    """Which tiles are visited follows the mask of the operation; a text alone would be counted in full."""
    with pytest.raises(CascadeSimError, match=r"attention-1pass-causal masks keys in its text \(causal\)"):
        design().plan(attention(1024, cascade=ATTENTION_1PASS_CAUSAL), "physical")
    plain, masked = (
        design().plan(attention(1024, mask=CAUSAL, cascade=text), "physical").phases[0]
        for text in (ATTENTION_1PASS, ATTENTION_1PASS_CAUSAL)
    )
    assert plain.activities == masked.activities


def test_an_operation_that_no_array_has_is_named(design: Design) -> None:
    odd = cascade("odd", """
        KK[h,m1,m0,e] = K[h,m1*M0+m0,e]
        RM[h,0,p]     = -inf
        QK[h,m1,m0,p] = Q[h,p,e] * KK[h,m1,m0,e]
        LM[h,m1,p]    max= QK[h,m1,m0,p]
        RM[h,m1+1,p]  = max(RM[h,m1,p], tanh(LM[h,m1,p]))
        Y[h,p]        = RM[h,M1,p]
    """)
    with pytest.raises(CascadeSimError, match="RM: the 1D array has no tanh; it has mac, add, max"):
        place(odd, design().spec)
