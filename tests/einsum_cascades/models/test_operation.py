"""Operations: bound extents, and nothing that cannot run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.passes import partition
from cascadesim.einsum_cascades.models.operation import Operation, causal_by_itself, kept_states, mask_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval
from cascadesim.einsum_cascades.texts import cascade_names, find
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
    with pytest.raises(CascadeSimError, match=r"sums over all keys .* over pairs .* linear-attention-chunked"):
        mask_of(linear)
    window = replace(PLAIN, cascade=find("gated-deltanet"), mask=KeyInterval(True, window=3))
    with pytest.raises(CascadeSimError, match="gated-deltanet keeps all that came before a query in one state"):
        mask_of(window)
    decode = tuple((rank, 1 if rank == "p" else size) for rank, size in SIZES)
    assert mask_of(replace(linear, extents=decode)) == CAUSAL


def test_an_extent_that_only_a_condition_names_has_to_be_a_number() -> None:
    text = cascade("windowed", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m > p + M - P - W else 0
        AV[h,p,f] = QK[h,m,p] * V[h,m,f] if m > p + M - P - W else 0
    """)
    with pytest.raises(CascadeSimError, match="windowed: a condition needs the extent W"):
        mask_of(replace(PLAIN, cascade=text))


IN_ORDER = tuple(name for name in cascade_names() if {"Q", "K", "V"} <= set(find(name).inputs)
                 and causal_by_itself(find(name)))  # fmt: skip
NOT_IN_ORDER = ("linear-attention", "attention-1pass", "attention-3pass", "attention-sigmoid", "attention-softcap")
LENGTHS = {"h": 2, "m": 6, "p": 6, "c": 6, "e": 3, "f": 4}


def inputs(text: Cascade, random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Of 6 positions wherever a text has them; inputs that are no Q, K or V are between -1 and 0, as decays are."""
    found = {}
    for access in (access for einsum in text.einsums for access in einsum.inputs if access.tensor in text.inputs):
        shape = [LENGTHS[(partition(index) or index.ranks)[0][0]] for index in access.indices]
        values = random.normal(size=shape) if access.tensor in ("Q", "K", "V") else -random.uniform(size=shape)
        found.setdefault(access.tensor, values)
    return found


def changes(name: str) -> list[bool]:
    """Which results change where keys, values and gates from position 3 on do, queries left alone."""
    text, random = find(name), np.random.default_rng(5)
    given, other = inputs(text, random), inputs(text, random)
    cut = {tensor: np.concatenate([each[:, :3], other[tensor][:, 3:]], axis=1) for tensor, each in given.items()
           if tensor != "Q" and each.shape[1] == 6}  # fmt: skip
    sizes = {rank.upper(): 2 for rank in ("m0", "p0", "c0") if rank in text.ranks}
    own, changed = (evaluate(text, values, sizes)["AV"] for values in (given, given | cut))
    return [not np.allclose(own[:, place], changed[:, place]) for place in range(6)]


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_text_that_walks_in_order_does_not_see_what_comes_later(name: str) -> None:
    assert changes(name) == [False] * 3 + [True] * 3


@pytest.mark.parametrize("name", NOT_IN_ORDER)
def test_other_texts_see_every_key(name: str) -> None:
    assert not causal_by_itself(find(name))
    assert changes(name) == [True] * 6


def test_texts_in_order_are_those_with_a_state() -> None:
    assert IN_ORDER == (
        "deltanet", "gated-deltanet", "gated-deltanet-chunked", "gated-deltanet-step", "kimi-delta-attention",
        "kimi-delta-attention-chunked", "kimi-delta-attention-step", "linear-attention-chunked",
        "linear-attention-gated", "linear-attention-step", "mamba-2-ssd", "mamba-2-step", "titans-memory",
    )  # fmt: skip


def test_a_text_whose_chunks_are_seen_whole_is_not_in_order() -> None:
    text = find("linear-attention-chunked").text
    assert text.count("if c0 <= p0 else 0") == 2
    assert not causal_by_itself(cascade("ahead", text.replace("if c0 <= p0 else 0", "")))


def test_a_text_that_reads_the_last_state_is_not_in_order() -> None:
    text = find("linear-attention-gated").text
    assert text.count("Q[h,m,e] * S[h,m+1,e,f]") == 1
    assert not causal_by_itself(cascade("ahead", text.replace("Q[h,m,e] * S[h,m+1,e,f]", "Q[h,m,e] * S[h,M,e,f]")))


def test_a_text_that_sums_over_all_positions_is_not_in_order() -> None:
    assert not causal_by_itself(cascade("ahead", """
        KV[h,e,f] = K[h,m,e] * V[h,m,f]
        AV[h,m,f] = Q[h,m,e] * KV[h,e,f]
    """))


def test_a_state_is_what_a_text_begins_with_and_leaves() -> None:
    assert kept_states(find("gated-deltanet-step")) == {"S0", "SM"}
    assert kept_states(find("attention-sinks-1pass")) == frozenset()  # begins with the sink, leaves no maximum
    assert kept_states(find("gated-deltanet")) == kept_states(ATTENTION_3PASS) == frozenset()
