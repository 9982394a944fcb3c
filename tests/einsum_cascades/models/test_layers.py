"""The parts of a model: defaults, and combinations that no model has."""

from __future__ import annotations

from typing import Any

import pytest

from cascadesim.einsum_cascades.models.layers import Attention, Experts, FeedForward, Latent, Layer
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.einsum_cascades.notation.schema import Spec, validate
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval


def test_heads_keep_keys_and_values_of_their_own_unless_they_share() -> None:
    alone = Attention(heads=12, head_dim=64)
    shared = Attention(heads=32, kv_heads=8, head_dim=192, value_dim=128)
    assert (alone.key_heads, alone.values) == (12, 64)
    assert (shared.key_heads, shared.values) == (8, 128)


def test_a_layer_sees_everything_unless_it_is_causal() -> None:
    assert Layer(count=1).interval == FULL
    assert Layer(count=1, mask="causal").interval == CAUSAL
    assert Layer(count=1, mask="causal", window=128).interval == KeyInterval(True, 128)
    assert Layer(count=1, mask="causal", chunk=8192).interval == KeyInterval(True, chunk=8192)


def test_the_newest_query_sees_what_its_window_or_chunk_holds() -> None:
    assert Layer(count=1, mask="causal").cached_keys(1000) == 1000
    assert Layer(count=1, mask="causal", window=128).cached_keys(1000) == 128
    assert Layer(count=1, mask="causal", window=128).cached_keys(100) == 100
    assert Layer(count=1, mask="causal", chunk=300).cached_keys(1000) == 100  # the fourth chunk starts at 900
    assert Layer(count=1, mask="causal", chunk=250).cached_keys(1000) == 250  # its chunk is just full


@pytest.mark.parametrize(
    ("model", "content", "message"),
    [
        (Attention, {"heads": 32, "kv_heads": 5, "head_dim": 8}, "heads must be a multiple of kv_heads, got 32 and 5"),
        (
            Attention,
            {"heads": 2, "head_dim": 64, "latent": {"q_rank": 8, "kv_rank": 8, "rope_dim": 64}},
            "latent.rope_dim must be below head_dim 64, got 64",
        ),
        (Experts, {"experts": 8, "chosen": 9, "width": 4}, "chosen must be at most experts 8, got 9"),
        (Layer, {"count": 1, "window": 8}, "a window or chunk needs mask: causal"),
        (Layer, {"count": 1, "chunk": 8}, "a window or chunk needs mask: causal"),
        (Layer, {"count": 1, "mask": "causal", "window": 8, "chunk": 8}, "window and chunk exclude each other"),
        (Layer, {"count": 1, "mask": "causal", "neighborhood": 7}, "a neighborhood needs mask: full"),
        (Layer, {"count": 1, "neighborhood": 7, "memory": 3}, "a neighborhood needs mask: full and no memory"),
        (Layer, {"count": 1, "dilation": 2, "neighborhood": {"window": 7, "dilation": 2}}, "exclude each other"),
        (Layer, {"count": 1, "neighborhood": {"window": "7y7"}}, "window: should be sizes such as 80x80 (got '7y7')"),
        (Layer, {"count": 1, "neighborhood": {"window": "7x0"}}, "neighborhood.window.1: should be greater than 0"),
        (Layer, {"count": 1, "neighborhood": {"window": 7, "causal": "2"}}, "neighborhood.causal: should be 0 or 1"),
        (Layer, {"count": 1, "neighborhood": {"window": 7, "strid": 7}}, "unknown field; did you mean 'stride'?"),
        (Layer, {"count": 0}, "count: should be greater than 0 (got 0)"),
        (Layer, {"count": 1, "mask": "casual"}, "mask: should be 'full' or 'causal' (got 'casual')"),
        (FeedForward, {"width": 4, "activation": "swish"}, "activation: should be "),
        (FeedForward, {"width": 2**50, "activation": "relu"}, "width: should be less than or equal to"),
        (Latent, {"q_rank": 1, "kv_rank": 1}, "rope_dim: missing"),
    ],
)
def test_a_part_that_no_model_has_is_refused(model: type[Spec], content: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        validate(model, content, "model.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("model.yaml: ")
    assert "\n" not in str(error.value)
