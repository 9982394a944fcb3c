"""Which part an Einsum plays, by its structure: whatever its tensors are called."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.binding import Part, bind_attention, contracts, part_of
from cascadesim.accelerators.spec import on_arrays, point_operations
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts.transformer import (
    ATTENTION_1PASS,
    ATTENTION_3PASS,
    ATTENTION_3PASS_DEFERRED,
    LINEAR,
    RMS_NORM,
)


def parts(text: str) -> dict[str, Part]:
    return {einsum.name: part_of(einsum) for einsum in cascade("some", text).einsums}


def test_operations_per_point_are_in_classes_of_arrays() -> None:
    einsums = cascade("some", "C[r,d] = A[r,d] * B[r,d]\nS[r] = C[r,d] * C[r,d]\nM[r] min= C[r,d]\n").einsums
    assert [dict(point_operations(einsum)) for einsum in einsums] == [{"mac": 1}, {"mac": 1}, {"max": 1}]
    assert on_arrays({"multiply": 2, "mac": 1, "compare": 3, "exp": 1}) == {"mac": 3, "max": 3, "exp": 1}


def test_three_passes_are_scores_statistics_and_an_output() -> None:
    found = [part_of(einsum) for einsum in ATTENTION_3PASS.einsums]
    assert found == ["scores", *["statistics"] * (len(found) - 2), "output"]


def test_keys_in_tiles_play_the_same_parts_and_results_are_updated() -> None:
    found = {einsum.name: part_of(einsum) for einsum in ATTENTION_1PASS.einsums}
    assert (found["QK"], found["SLNV"]) == ("scores", "output")
    assert {found[name] for name in ("LM", "RM", "SLN", "SLD", "PRM", "SPD", "RD")} == {"statistics"}
    assert {found[name] for name in ("SPNV", "RNV", "AV")} == {"update"}


def test_names_mean_nothing() -> None:
    renamed = {"apples[h,m,p] = pears[h,p,e] * figs[h,m,e]": "scores", "QK[h,p,f] = K[h,m,p] * Q[h,m,f]": "output"}
    for text, part in renamed.items():
        assert list(parts(text).values()) == [part]


def test_a_product_of_keys_and_values_is_no_output() -> None:
    """Linear attention: no queries yet, and no scores when they come."""
    assert set(parts("S[h,e,f] = K[h,m,e] * V[h,m,f]\nAV[h,p,f] = Q[h,p,e] * S[h,e,f]\n").values()) == {"update"}


def test_what_multiplies_along_a_depth_and_sums_contracts() -> None:
    assert contracts(LINEAR.einsums[0])
    assert not any(contracts(einsum) for einsum in RMS_NORM.einsums)  # sums of squares, but along no depth
    assert not contracts(cascade("some", "C[p,e] = A[p,e] * B[e]").einsums[0])  # multiplies, sums nothing


def test_a_deferred_division_is_the_epilogue() -> None:
    found = bind_attention(ATTENTION_3PASS_DEFERRED)
    assert [einsum.name for einsum in found.epilogue] == ["AV"]
    assert found.on_1d == (*found.softmax, *found.epilogue)
    assert {found.tensor(name) for name in ("Q", "K", "V")} == set(ATTENTION_3PASS_DEFERRED.inputs)


@pytest.mark.parametrize(
    "text",
    [
        "QK[h,m,p] = Q[h,p,e] * K[h,m,e]\nAV[h,p,f] = QK[h,m,p] * V[h,m,f]\n",  # nothing between
        "S[h,m,p] = Q[h,p,e] + K[h,m,e]\nA[h,m,p] = exp(S[h,m,p])\nAV[h,p,f] = A[h,m,p] * V[h,m,f]\n",  # no product
        "QK[h,m,p] = Q[h,p,e] * K[h,m,e]\nG[h,p] = Q[h,p,e]\nA[h,m,p] = QK[h,m,p] - G[h,p]\n"
        "AV[h,p,f] = A[h,m,p] * V[h,m,f]\n",  # work between that is not on scores
        "QK[h,m,p] = Q[h,p,e] * K[h,m,e]\nA[h,m,p] = exp(QK[h,m,p])\nAV[h,p,f] = A[h,m,p] * V[h,m,f]\n"
        "Z[h,p] = AV[h,p,f]\n",  # the output is summed
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(CascadeSimError, match="some: this machine runs a contraction over e, statistics of whole rows"):
        bind_attention(cascade("some", text))
