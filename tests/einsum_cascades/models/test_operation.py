"""Operations: bound extents, and nothing that cannot run."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL
from cascadesim.einsum_cascades.texts.attention import ATTENTION_1PASS, ATTENTION_3PASS

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
