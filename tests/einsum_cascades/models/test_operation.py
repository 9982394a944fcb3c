"""Operations: bound extents, and nothing that cannot run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.einsum_cascades.models.operation import Operation, mask_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval
from cascadesim.einsum_cascades.texts.transformer import (
    ATTENTION_1PASS,
    ATTENTION_1PASS_CAUSAL,
    ATTENTION_3PASS,
    ATTENTION_3PASS_CAUSAL,
    LINEAR_ATTENTION,
)

EXTENTS = (("b", 2), ("h", 4), ("g", 2), ("m", 16), ("p", 8), ("e", 32), ("f", 64))


def test_an_operation_knows_its_extents() -> None:
    operation = Operation("attention", "attention", ATTENTION_3PASS, EXTENTS)
    assert operation.extent("m") == 16
    assert operation.extent("f") == 64
    assert operation.count == 1
    assert operation.mask == FULL


def test_another_cascade_is_the_same_work() -> None:
    operation = Operation("attention", "attention", ATTENTION_3PASS, EXTENTS, count=3, mask=CAUSAL, layer="decoder")
    other = operation.with_cascade(ATTENTION_1PASS)
    assert other.cascade is ATTENTION_1PASS
    assert (other.extents, other.count, other.mask, other.layer) == (EXTENTS, 3, CAUSAL, "decoder")


def test_every_extent_that_is_too_small_is_named() -> None:
    with pytest.raises(CascadeSimError, match=r"attention: every extent must be at least 1, got b=0, m=-5, count=0"):
        Operation("attention", "attention", ATTENTION_3PASS, (("b", 0), ("m", -5), ("p", 8)), count=0)


def test_operations_can_be_keys() -> None:
    """Reports keep one per distinct operation."""
    one = Operation("attention", "attention", ATTENTION_3PASS, EXTENTS)
    assert len({one, Operation("attention", "attention", ATTENTION_3PASS, EXTENTS)}) == 1


SIZES = (("b", 1), ("h", 2), ("g", 1), ("m", 10), ("p", 6), ("e", 4), ("f", 4))
PLAIN = Operation("attention", "attention", ATTENTION_3PASS, SIZES)


def test_a_text_without_conditions_has_the_mask_of_the_workload() -> None:
    assert mask_of(PLAIN) == FULL
    assert mask_of(replace(PLAIN, mask=KeyInterval(True, window=3))) == KeyInterval(True, window=3)


@pytest.mark.parametrize("text", [ATTENTION_3PASS_CAUSAL, ATTENTION_1PASS_CAUSAL])
@pytest.mark.parametrize("mask", [FULL, CAUSAL])
def test_a_causal_text_is_causal_on_any_workload(text, mask) -> None:  # type: ignore[no-untyped-def]
    assert mask_of(replace(PLAIN, cascade=text, mask=mask)) == CAUSAL


def test_a_causal_text_leaves_a_narrower_window_as_it_is() -> None:
    window = KeyInterval(True, window=3)
    assert mask_of(replace(PLAIN, cascade=ATTENTION_3PASS_CAUSAL, mask=window)) == window


def test_a_window_in_the_text_is_a_window() -> None:
    text = cascade("windowed", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m <= p + M - P and m > p + M - P - 3 else 0
        AV[h,p,f] = QK[h,m,p] * V[h,m,f] if m <= p + M - P and m > p + M - P - 3 else 0
    """)
    assert mask_of(replace(PLAIN, cascade=text)) == KeyInterval(True, window=3)


def test_conditions_that_differ_from_einsum_to_einsum_are_no_mask() -> None:
    text = cascade("half", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m <= p + M - P else 0
        AV[h,p,f] = QK[h,m,p] * V[h,m,f]
    """)
    with pytest.raises(CascadeSimError, match="different conditions"):
        mask_of(replace(PLAIN, cascade=text))


def test_every_other_key_is_no_interval() -> None:
    text = cascade("future", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m >= p else 0
        AV[h,p,f] = QK[h,m,p] * V[h,m,f] if m >= p else 0
    """)
    with pytest.raises(CascadeSimError, match="no causal interval"):
        mask_of(replace(PLAIN, cascade=text))


def test_a_text_without_pairs_cannot_be_masked_but_one_query_sees_all_keys_anyway() -> None:
    linear = replace(PLAIN, cascade=LINEAR_ATTENTION, mask=CAUSAL)
    with pytest.raises(CascadeSimError, match="no Einsum over pairs"):
        mask_of(linear)
    decode = tuple((rank, 1 if rank == "p" else size) for rank, size in SIZES)
    assert mask_of(replace(linear, extents=decode)) == CAUSAL


def test_an_extent_that_only_a_condition_names_has_to_be_a_number() -> None:
    text = cascade("windowed", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m > p + M - P - W else 0
        AV[h,p,f] = QK[h,m,p] * V[h,m,f] if m > p + M - P - W else 0
    """)
    with pytest.raises(CascadeSimError, match="windowed: a condition needs the extent W"):
        mask_of(replace(PLAIN, cascade=text))
