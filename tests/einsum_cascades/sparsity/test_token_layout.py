"""Layouts of tokens: scaled to a layer's tokens, read from text, and the neighborhoods of layers in them."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.models.zoo import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL
from cascadesim.einsum_cascades.sparsity.neighborhood import ExtraKeys, neighborhood
from cascadesim.einsum_cascades.sparsity.token_layout import NeighborhoodSizes, layout_of, layout_sizes, neighborhood_of


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
