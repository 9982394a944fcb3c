"""Neighborhood patterns as a space: the figures of `gna`, the published stride among the answers."""

from __future__ import annotations

from typing import Any

import pytest

from cascadesim.accelerators.neighborhood_kernels import TileShapes, device
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import neighborhood
from cascadesim.simulator.explore.explore import explore
from cascadesim.simulator.gna.neighborhood import Question, predict

SPACE: dict[str, Any] = {
    "question": "Which stride?",
    "neighborhood": {"workload": "hunyuanvideo", "window": "18x24x24", "device": "b200"},
    "vary": {"stride_1": [1, 8, 16], "stride_2": [1, 8], "stride_3": [1, 8], "tiles": ["8x4x8 2x8x8"]},
    "objectives": ["latency_s", "queries_per_window"],
}


def test_the_published_stride_is_the_fastest() -> None:
    """GNA (arXiv 2504.16922): 16x8x8 is block-sparse for 18x24x24 on these tiles; with the text, tiles bound it."""
    frame = explore(SPACE)
    first = next(frame.rows())
    assert [first[f"stride_{axis}"] for axis in (1, 2, 3)] == [16, 8, 8]
    question = Question(neighborhood((30, 48, 80), (18, 24, 24), (16, 8, 8)), TileShapes((8, 4, 8), (2, 8, 8)), 256)
    time = predict(question, device("b200"), heads=24, head_dim=128)
    assert first["latency_s"] == time.total_s
    assert first["speedup"] == time.speedup
    assert first["worst_bound"] == question.bound("multidim_static").worst
    assert first["queries_per_window"] == 16 * 8 * 8
    assert "cycle_latency_s" not in frame.columns  # counts are exact
    assert [reference.name for reference in frame.references] == ["stride 1"]


def test_strides_beyond_the_window_cannot_be() -> None:
    frame = explore({**SPACE, "vary": {**SPACE["vary"], "stride_1": [1, 16, 20]}})
    assert frame.counts.possible == frame.counts.designs * 2 // 3


def test_without_a_device_there_are_bounds_but_no_times() -> None:
    pattern = {"layout": "64x64", "window": "16x16"}
    vary = {"window_1": [16, 32], "stride_2": [1, 4], "tiles": ["16x16 16x8"]}
    space = {**SPACE, "neighborhood": pattern, "vary": vary, "objectives": ["mean_bound", "attended_pairs"]}
    frame = explore(space)
    assert (frame["attended_pairs"].astype(float) >= 64 * 64 * 16 * 16).all()
    with pytest.raises(CascadeSimError, match=r"objectives.0: no objective 'latency_s'"):
        explore({**space, "objectives": ["latency_s"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neighborhood": {"window": "8"}}, "give a layout, or a workload that has one"),
        ({"neighborhood": {"workload": "bert", "window": "8"}}, "bert has no layout"),
        ({"neighborhood": {"layout": "64", "window": "8", "device": "h100"}}, "no device with neighborhood constants"),
        ({"vary": {"tiles": ["8x4x8"]}}, "give a query tile and a key tile"),
        ({"vary": {"stride_4": [1]}}, "vary.stride_4: no such field"),
        ({"set": {"stride_1": 2}}, "give it in `vary`"),
        ({"set": {"window_1": "a"}}, "window_1: expected a whole number, got 'a'"),
        ({"vary": {"window_1": [2.5]}}, "window_1: expected a whole number, got 2.5"),
        ({"neighborhood": {"layout": "16x16", "window": "8x8x8"}}, "give both the same number of dimensions"),
        ({"neighborhood": {"layout": "65536x65536", "window": "8x8"}}, "at most 16,777,216 tokens"),
        ({"search": {"fidelity": "cycle"}}, "this model has no cycle level"),
    ],
)
def test_what_cannot_be_asked_says_so(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CascadeSimError) as caught:
        explore({**SPACE, **changes})
    assert message in str(caught.value)
