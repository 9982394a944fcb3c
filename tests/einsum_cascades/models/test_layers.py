"""The parts of a model: defaults, and combinations that no model has."""

from __future__ import annotations

from typing import Any

import pytest

from cascadesim.einsum_cascades.models.layers import Layer
from cascadesim.einsum_cascades.models.sections import (
    Attention,
    Experts,
    FeedForward,
    Latent,
    NeighborhoodSizes,
    layout_of,
    layout_sizes,
    neighborhood_of,
)
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.schema import Spec, validate
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, ExtraKeys, KeyInterval, neighborhood


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


def sizes(**fields: object) -> NeighborhoodSizes:
    return NeighborhoodSizes.model_validate(fields)


def test_a_layer_has_the_layout_of_its_model() -> None:
    assert layout_of(24, (2, 3, 4)) == (2, 3, 4)
    assert neighborhood_of(24, (2, 3, 4), sizes(window="2x3x2")) == neighborhood((2, 3, 4), (2, 3, 2))


def test_merged_tokens_have_a_smaller_layout_of_the_same_proportions() -> None:
    assert layout_of(784, (56, 56)) == (28, 28)
    assert layout_of(8 * 6 // 4, (8, 6)) == (4, 3)
    assert layout_of(4 * 8 * 6, (8, 6)) == (16, 12)


def test_a_square_or_a_cube_may_have_any_side() -> None:
    assert layout_of(25, None) == (5, 5)
    assert layout_of(25, (56, 56)) == (5, 5)
    assert layout_of(27, (4, 4, 4)) == (3, 3, 3)


@pytest.mark.parametrize(
    ("tokens", "layout", "message"),
    [
        (10, None, "needs a square layout, got 10 tokens"),
        (3072, (56, 56), "needs a square layout, got 3072 tokens"),
        (100, (30, 48, 80), "needs the 115,200 tokens of its layout 30x48x80"),
    ],
)
def test_tokens_that_fill_no_such_layout_are_refused(tokens: int, layout: tuple[int, ...], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        layout_of(tokens, layout)


def test_one_window_for_all_dimensions_shrinks_to_a_small_layout() -> None:
    """NAT: 5 x 5 tokens, dilation 2: groups of 3 and 2, so 2 of the 7 keys asked for are there in each."""
    assert neighborhood_of(25, None, sizes(window=7, dilation=2)) == neighborhood((5, 5), (2, 2), dilation=(2, 2))
    assert neighborhood_of(25, None, sizes(window=7, stride=6)) == neighborhood((5, 5), (5, 5), (5, 5))


def test_a_window_given_per_dimension_must_fit() -> None:
    with pytest.raises(CascadeSimError, match="dimension 2: window 7 is larger than the layout 5"):
        neighborhood_of(25, None, sizes(window="5x7"))
    with pytest.raises(CascadeSimError, match="the layout has 2 dimensions, but window has 3"):
        neighborhood_of(25, None, sizes(window="5x5x5"))


def test_a_layout_in_words_is_refused() -> None:
    assert layout_sizes("30x48x80") == (30, 48, 80)
    with pytest.raises(CascadeSimError, match="layout: expected sizes such as 30x48x80, got 'square'"):
        layout_sizes("square")


@pytest.mark.parametrize("text", ["80x80", "[80, 80]", "80"])
def test_flux_takes_a_neighborhood_by_setting(text: str) -> None:
    """4096 x 4096 pixels: 256 x 256 tokens; every one attends 80 x 80 of them and 512 of text."""
    flux = load_workload("flux-4k", [f"layers.{kind}.neighborhood.window={text}" for kind in ("double", "single")])
    tokens, text_queries = flux.operations(scope="attention")
    assert tokens.mask == ExtraKeys(neighborhood((256, 256), (80, 80)), 512)
    assert tokens.mask.attended_pairs(65536, 66048) == 65536 * (80 * 80 + 512)
    assert (text_queries.extent("p"), text_queries.mask) == (512, FULL)
    assert any("double, single: tokens attend their neighborhood and all text" in note for note in flux.notes())


def test_hunyuan_and_cosmos_take_one_too() -> None:
    hunyuan = load_workload("hunyuanvideo", ["layers.double.neighborhood={window: 18x24x24, stride: 16x8x8}"])
    masks = {operation.layer: operation.mask for operation in hunyuan.operations(scope="attention")}
    assert str(masks["double"]) in (
        "neighborhood, layout 30x48x80, window 18x24x24, stride 16x8x8, 256 extra keys", "full",
    )  # fmt: skip
    cosmos = load_workload("cosmos", ["layers.block.neighborhood={window: 4x4x16, dilation: 4x11x5}"])
    (own, _) = cosmos.operations(scope="attention")
    assert str(own.mask) == "neighborhood, layout 16x44x80, window 4x4x16, dilation 4x11x5"


def test_a_longer_sequence_scales_the_layout() -> None:
    """Four times the tokens of 64 x 64: 128 x 128."""
    flux = load_workload("flux-1k", ["layers.double.neighborhood.window=16x16"])
    found = next(iter(flux.operations(scope="attention", sequence_length=4 * 4096)))
    assert isinstance(found.mask, ExtraKeys)
    assert found.mask.pattern.layout == (128, 128)


@pytest.mark.parametrize("other", [{"feed_forward": "none"}, {"attention": "none"}, {"cross": "encoder"}])
def test_parts_side_by_side_need_both(other: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="parallel needs attention and a feed-forward part"):
        validate(Layer, {"count": 1, "mask": "causal", "parallel": True, **other}, "mine.yaml")
