"""From maps to traces: who stays, in which order, and that nobody returns."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.sparsity.pruning import (
    flat_queries,
    kept_values,
    prune_encoder,
    prune_generation,
    read_maps,
    rows_of,
    survivors,
)
from cascadesim.einsum_cascades.sparsity.pruning_schedules import PruningSchedule, ramp_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import format_rows, parse_rows, read_rows
from cascadesim.einsum_cascades.texts import find

Array = NDArray[np.float64]


def softmax(scores: Array) -> Array:
    numerators = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(numerators / numerators.sum(axis=-1, keepdims=True))


def test_two_layers_by_hand() -> None:
    """One head, two queries over three tokens: columns sum to 0.8, 0.3, 0.9, so tokens 0 and 2 go on."""
    first = [[0.6, 0.1, 0.3], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]]
    found = prune_encoder([[first], [first]], PruningSchedule("two", (1.0, 0.67), (1, 1), threshold=0.7))
    assert [layer.tokens.tolist() for layer in found.layers] == [[0, 1, 2], [0, 2]]
    assert found.layers[0].flat.tolist() == [[True, False, False]]  # 0.6 is below the threshold
    assert found.layers[1].flat.tolist() == [[True, False]]  # 0.6 / 0.9 = 0.67 and 0.8 / 0.9 = 0.89 of those kept


def test_a_query_that_attends_only_dropped_tokens_attends_all_kept_ones_alike() -> None:
    first, second = [[0.6, 0.1, 0.3], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]], [[0, 1, 0], [0, 1, 0], [0.7, 0, 0.3]]
    found = prune_encoder([[first], [second]], PruningSchedule("two", (1.0, 0.67), (1, 1), threshold=0.6))
    assert found.layers[1].tokens.tolist() == [0, 2]
    assert found.layers[1].flat.tolist() == [[True, False]]  # 0.5 each, and 0.7
    found = prune_encoder([[first], [second]], PruningSchedule("two", (1.0, 0.67), (1, 1), threshold=0.4))
    assert found.layers[1].flat.tolist() == [[False, False]]


def test_survivors_keep_their_order_and_ties_go_to_the_lower() -> None:
    importance = np.array([1.0, 3.0, 1.0, 2.0, 1.0])
    assert survivors(importance, np.arange(5), 3).tolist() == [0, 1, 3]
    assert survivors(importance, np.array([0, 2, 4]), 2).tolist() == [0, 2]


def test_values_of_the_largest_probabilities_are_kept() -> None:
    assert kept_values(np.array([0.1, 0.4, 0.1, 0.4]), 3).tolist() == [0, 1, 3]


def test_low_bits_are_fetched_only_below_a_threshold() -> None:
    maps = np.array([[0.05, 0.95], [0.5, 0.5]])
    assert flat_queries(maps, 0.6).tolist() == [False, True]
    assert flat_queries(maps, None).tolist() == [False, False]


@st.composite
def models(draw: st.DrawFn) -> tuple[Array, Array, PruningSchedule]:
    """Maps, outputs and a schedule whose counts fall."""
    layers, heads, tokens = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = random.integers(0, 3, (layers, heads, tokens, tokens)).astype(float)  # with ties
    shares = sorted(draw(st.lists(st.floats(0.1, 1), min_size=layers, max_size=layers)), reverse=True)
    counts = sorted(draw(st.lists(st.integers(1, heads), min_size=layers, max_size=layers)), reverse=True)
    schedule = PruningSchedule("any", (1.0, *shares[1:]), (heads, *counts[1:]), draw(st.floats(0.1, 1)), threshold=0.3)
    return softmax(scores), random.normal(size=(layers, heads, tokens, 2)), schedule


@settings(max_examples=100, deadline=None)
@given(models())
def test_the_dropped_never_return_and_survivors_keep_their_order(model: tuple[Array, Array, PruningSchedule]) -> None:
    maps, outputs, schedule = model
    layers = prune_encoder(maps, schedule, outputs).layers
    for number, layer in enumerate(layers):
        assert layer.tokens.size == schedule.tokens(number, maps.shape[3])
        assert layer.heads.size == schedule.heads[number]
        assert list(layer.tokens) == sorted(set(layer.tokens.tolist()))
        assert list(layer.heads) == sorted(set(layer.heads.tolist()))
        assert 1 <= layer.values <= layer.tokens.size
        assert layer.flat.shape == (layer.heads.size, layer.tokens.size)
    for earlier, later in pairwise(layers):
        assert set(later.tokens.tolist()) <= set(earlier.tokens.tolist())
        assert set(later.heads.tolist()) <= set(earlier.heads.tolist())


@settings(max_examples=100, deadline=None)
@given(models())
def test_a_trace_of_maps_is_a_file(model: tuple[Array, Array, PruningSchedule]) -> None:
    maps, outputs, schedule = model
    rows = rows_of([prune_encoder(maps, schedule, outputs)], schedule)
    assert parse_rows(format_rows(rows), "rows.csv") == rows
    assert len(rows) == sum(schedule.heads)


def test_a_first_layer_chooses_as_the_cascade_does() -> None:
    random = np.random.default_rng(3)
    q, k, v = (random.normal(size=(2, 6, 3)) for _ in range(3))
    inputs = {"Q": q, "K": k, "V": v, "PS": np.zeros(6), "PSH": np.zeros(2)}
    cascade = evaluate(find("attention-pruned"), inputs, {"TOKENS": 3, "HEADS": 1, "VALUES": 6})
    maps = softmax(q @ k.transpose(0, 2, 1))
    outputs = np.stack([maps @ v] * 2)
    layer = prune_encoder(np.stack([maps] * 2), PruningSchedule("two", (1.0, 0.5), (2, 1)), outputs).layers[1]
    assert layer.tokens.tolist() == cascade["T"].tolist()
    assert layer.heads.tolist() == cascade["H"].tolist()


def generated(tokens: int, first: int, layers: int = 3, heads: int = 2, seed: int = 0) -> list[Array]:
    random = np.random.default_rng(seed)
    return [softmax(random.normal(size=(layers, heads, first + each))) for each in range(tokens)]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(4, 12))
def test_generation_prunes_from_the_second_token_on(seed: int, tokens: int, first: int) -> None:
    schedule = PruningSchedule("any", (0.75, 0.5, 0.5), (2, 2, 2), base=12)
    found = prune_generation(generated(tokens, first, seed=seed), schedule)
    assert all(layer.tokens.tolist() == list(range(first)) for layer in found[0].layers)
    dropped: set[int] = set()
    for iteration in found[1:]:
        sets = [set(layer.tokens.tolist()) for layer in iteration.layers]
        assert [len(each) for each in sets] == [schedule.tokens(layer, iteration.length) for layer in range(3)]
        assert sets[2] <= sets[1] <= sets[0]
        assert not sets[0] & dropped  # what the first layer has dropped never returns
        dropped |= set(range(iteration.length)) - sets[0]


def test_rows_of_generation_say_when_a_choice_is_made() -> None:
    """12 tokens at most: 9, 6, 6 of them. The last layer chooses for the next token."""
    schedule = PruningSchedule("any", (0.75, 0.5, 0.5), (2, 2, 2), value_keep=0.5, base=12)
    rows = rows_of(prune_generation(generated(2, 10), schedule), schedule)
    assert [row.keys for row in rows] == [10] * 6 + [9] * 2 + [6] * 4
    assert [row.values for row in rows] == [6] * 6 + [4] * 2 + [3] * 4
    assert [row.kept for row in rows] == [None] * 5 + [9, None, 6, None, None, None, 9]
    assert all(row.queries == 1 for row in rows)


MAPS = softmax(np.zeros((2, 2, 3, 3)))
DENSE = PruningSchedule("dense", (1.0, 1.0), (2, 2))


@pytest.mark.parametrize(("maps", "schedule", "message"), [
    (MAPS[0], DENSE, "maps need 4 dimensions"),
    (MAPS[:1], DENSE, "maps of 1 layers, pruning schedule dense has 2"),
    (MAPS[:, :1], DENSE, "maps of 1 heads, pruning schedule dense begins with 2"),
    (MAPS[:, :, :2], DENSE, "as many queries as keys"),
    (MAPS * 2, DENSE, "each row sums to 1"),
    (MAPS * np.nan, DENSE, "each row sums to 1"),
    (MAPS, replace(DENSE, heads=(2, 1)), "prunes heads by their outputs: none are given"),
    (MAPS, replace(DENSE, token_keep=(0.5, 0.5)), "nothing to choose by"),
])  # fmt: skip
def test_arrays_that_are_no_maps_are_refused(maps: Array, schedule: PruningSchedule, message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        prune_encoder(maps, schedule)


def test_half_precision_maps_are_maps() -> None:
    maps = np.broadcast_to(softmax(np.random.default_rng(1).normal(size=(2, 2, 1, 300))), (2, 2, 300, 300))
    half, full = prune_encoder(maps.astype(np.float16), DENSE), prune_encoder(maps, DENSE)
    assert half.layers[1].tokens.tolist() == full.layers[1].tokens.tolist()


def test_outputs_must_fit_and_tokens_must_come_one_after_another() -> None:
    with pytest.raises(CascadeSimError, match="outputs need the layers, heads and queries of the maps"):
        prune_encoder(MAPS, DENSE, np.zeros((2, 2, 4, 1)))
    with pytest.raises(CascadeSimError, match="no more than the 4 of the one before"):
        prune_generation([generated(1, 4, layers=2)[0]] * 2, DENSE)
    with pytest.raises(CascadeSimError, match="no maps"):
        prune_generation([], DENSE)


EXAMPLE = Path(__file__).parents[3] / "examples" / "maps_to_trace.py"
FLAT = np.full((3, 2, 8, 8), 1 / 8, dtype=np.float32)
SCHEDULE = ramp_schedule("mine", 3, 2, token_ratio=0.25)  # one layer whole, then 0 and 50 %


def test_an_encoder_is_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "maps.npy", FLAT)
    (iteration,) = read_maps(tmp_path / "maps.npy").pruned(SCHEDULE)
    assert [layer.tokens.tolist() for layer in iteration.layers] == [[*range(8)], [*range(8)], [*range(4)]]


def test_generated_tokens_are_an_array_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", maps_0=np.full((3, 2, 8), 1 / 8), maps_1=np.full((3, 2, 9), 1 / 9))
    found = read_maps(tmp_path / "maps.npz")
    assert (found.layers, found.heads, found.encoder) == (3, 2, False)
    assert [[layer.tokens.size for layer in each.layers] for each in found.pruned(SCHEDULE)] == [[8, 8, 8], [9, 9, 4]]


@pytest.mark.parametrize(("arrays", "message"), [
    ({"map": FLAT[0]}, "holds map; expected maps and outputs, or maps_0"),
    ({"maps_0": FLAT[:, :, 0], "outputs_0": FLAT[:, 0, 0]}, r"outputs_0: expected numbers in 3 dimensions"),
    ({"maps_1": FLAT[:, :, 0]}, "holds maps_1; expected"),
    ({"maps": np.array("text")}, "maps: expected numbers in 4 dimensions"),
    ({"maps_0": FLAT[:, :, 0], "maps_1": FLAT[:, :, 0], "outputs_0": FLAT[:, :, 0]}, "outputs are there for 1 of 2"),
])  # fmt: skip
def test_other_arrays_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=message):
        read_maps(tmp_path / "maps.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "maps.npz").write_bytes(content)
    with pytest.raises(SpecError, match=r"maps\.npz: cannot be read"):
        read_maps(tmp_path / "maps.npz")


def test_the_example_writes_a_trace(tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", maps=FLAT)
    rows = tmp_path / "rows.csv"
    found = subprocess.run([sys.executable, EXAMPLE, tmp_path / "maps.npz", rows, "--token-ratio", "0.25"],
                           capture_output=True, text=True, check=True)
    assert [row.keys for row in read_rows(rows)] == [8, 8, 8, 8, 4, 4]
    assert found.stdout == "6 heads; 75.0% of all scores, 75.0% of them times values\n"  # (64 + 64 + 16) / (3 * 64)


def test_the_example_refuses_in_one_line(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, EXAMPLE, tmp_path / "none.npz", tmp_path / "rows.csv"],
                           capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
