"""The answer as a whole: advice that follows from the counts, directions of change, end-to-end figures over layers."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import KeyInterval, neighborhood
from cascadesim.simulator.gna.neighborhood import dense_s, question
from cascadesim.simulator.gna.report import Scenario, answer


def test_advice_names_the_stride_that_makes_more_of_the_work_useful() -> None:
    """Window 16 on tiles of 8: stride 1 visits 3 tiles of which 2 are useful, stride 16 visits 2."""
    (line,) = answer(question(neighborhood((256,), (16,)), (8,), (8,))).advice
    assert line.startswith("stride 1: ")
    assert line.endswith("% of the work in visited tiles is useful; stride 16 makes it 100%")
    assert answer(question(neighborhood((256,), (16,), (16,)), (8,), (8,))).advice == ()


def test_advice_on_a_causal_dimension_is_about_masks_and_names_no_stride() -> None:
    (line,) = answer(question(neighborhood((256,), (64,), causal=(True,)), (8,), (8,))).advice
    assert line.startswith("causal in dimension 1: never block-sparse, every visited tile is masked")


def test_padding_and_windows_that_natten_refuses_are_said() -> None:
    """Thirty tokens in tiles of 16 fill 32."""
    *_, padding, refused = answer(question(neighborhood((30,), (1,)), (16,), (1,))).advice
    assert padding == "dimension 1: 30 tokens fill query tiles of 16 up to 32, 6.7% of the work is padding"
    assert refused == "NATTEN refuses windows below 2 (dimension 1)"


def test_without_a_device_every_backend_that_runs_the_head_dimension_is_searched() -> None:
    asked = question(neighborhood((256, 256), (80, 80)), (16, 8), (16, 8))
    wide = Scenario(head_dim=256)
    assert [backend.name for backend in wide.backends] == ["hopper-fna", "cutlass-fna", "flex-fna"]
    assert [backend.name for backend in Scenario(device="b200").backends] == ["blackwell-fna"]
    assert {name for name in answer(asked, wide, recommend=True).alternatives if name.startswith("tiles")} == {
        "tiles of hopper-fna", "tiles of cutlass-fna", "tiles of flex-fna"}  # fmt: skip


def test_end_to_end_figures_weigh_patterns_by_their_layers() -> None:
    """Half of the run is attention: 3 layers at 2x, 1 layer dense. 1 / (0.5 + 0.5 / 4 x (3 / 2 + 1)) = 1 / 0.8125."""
    sparse = question(neighborhood((64,), (32,), (32,)), (8,), (8,))
    dense = question(neighborhood((64,), (64,)), (8,), (8,))
    found = answer(sparse, Scenario(attention_share=0.5, layers=3, also=((dense, 1),))).end_to_end
    assert found is not None
    assert found["worst_bound"] == pytest.approx(1 / 0.8125)


def test_tiles_that_a_device_has_no_kernel_for_are_said() -> None:
    asked = question(neighborhood((32, 32, 32), (16, 16, 16)), (1, 1, 1), (1, 1, 1))
    line, *_ = answer(asked, Scenario(device="b200")).advice
    assert line.startswith("blackwell-fna has no such tiles: no kernel takes this time on b200; at head dimension 128")
    assert "q 8x4x8, kv 4x4x8" in line
    own = question(neighborhood((32, 32, 32), (16, 16, 16)), (8, 4, 8), (4, 4, 8))
    assert not any("no such tiles" in each for each in answer(own, Scenario(device="b200")).advice)
    with pytest.raises(CascadeSimError, match="blackwell-fna: head dimension must be 1 to 128, got 256"):
        answer(own, Scenario(device="b200", head_dim=256))


def test_a_causal_sequence_is_held_against_dense_causal_attention_too() -> None:
    asked = question(neighborhood((65536,), (4096,), causal=(True,)), (128,), (128,))
    found = answer(asked, Scenario(device="h100-sxm", heads=32))
    assert found.prediction is not None
    causal_s = dense_s("h100-sxm", 65536, 65536, 32, 128, 1, KeyInterval(True))
    assert found.advice[-1].endswith(f"it is {causal_s / found.prediction.total_s:.2f}x")
    assert causal_s < 0.6 * found.prediction.dense_s
