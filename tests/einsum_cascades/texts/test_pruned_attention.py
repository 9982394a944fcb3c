"""The pruned cascades against a plain rendering of the paper's text; `test_pruned_cost` counts what they cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.footprint import analyse, live_footprint, minimum_words
from cascadesim.einsum_cascades.texts import find

Array = NDArray[np.float64]
RANDOM = np.random.default_rng(4)
INPUTS = {"Q": RANDOM.normal(size=(2, 3, 4)), "K": RANDOM.normal(size=(2, 7, 4)), "V": RANDOM.normal(size=(2, 7, 5))}


def probabilities(q: Array, k: Array) -> Array:
    """P[h, q, k], the softmax of Q K^T. The paper's scale is in Q."""
    scores = q @ k.transpose(0, 2, 1)
    numerators = np.exp(scores - scores.max(axis=2, keepdims=True))
    return np.asarray(numerators / numerators.sum(axis=2, keepdims=True))


def survivors(importance: Array, keep: int) -> list[int]:
    """The most important, in their own order; the lower index of equal ones."""
    return sorted(sorted(range(len(importance)), key=lambda each: (-importance[each], each))[:keep])


@st.composite
def layers(draw: st.DrawFn) -> dict[str, Array]:
    """Queries, keys, values, and the importance of tokens and heads so far, which has ties."""
    heads, queries, keys = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {
        "Q": random.normal(size=(heads, queries, 4)), "K": random.normal(size=(heads, keys, 4)),
        "V": random.normal(size=(heads, keys, 3)), "PS": random.integers(0, 3, keys).astype(float),
        "PSH": random.integers(0, 3, heads).astype(float),
    }  # fmt: skip


def test_keeping_every_key_is_attention() -> None:
    kept = evaluate(find("attention-top-k"), INPUTS, {"KEEP": 7})["AV"]
    assert np.allclose(kept, evaluate(find("attention-3pass"), INPUTS)["AV"], rtol=1e-12)


def test_keeping_one_key_looks_its_value_up() -> None:
    best = np.argmax(INPUTS["Q"] @ INPUTS["K"].transpose(0, 2, 1), axis=2)
    found = evaluate(find("attention-top-k"), INPUTS, {"KEEP": 1})["AV"]
    assert np.allclose(found, np.stack([INPUTS["V"][head, best[head]] for head in range(2)]))


def test_the_kept_rows_are_the_best_ones() -> None:
    found = evaluate(find("top-k-gather"), INPUTS, {"KEEP": 2})
    scores = found["QK"][0, :, 0]
    assert found["I"][0, 0].tolist() == np.argsort(-scores)[:2].tolist()
    assert np.array_equal(found["GV"][0, 0], INPUTS["V"][0, np.argsort(-scores)[:2]])


@settings(max_examples=50, deadline=None)
@given(layers(), st.data())
def test_tokens_are_pruned_by_what_all_heads_and_queries_of_all_layers_gave_them(
    layer: dict[str, Array], data: st.DataObject
) -> None:
    tokens = layer["PS"].size
    keep = data.draw(st.integers(1, tokens))
    inputs = {name: layer[name] for name in ("Q", "K", "V", "PS")} | {"X": np.arange(tokens * 2.0).reshape(tokens, 2)}
    found = evaluate(find("cascade-token-pruning"), inputs, {"KEEP": keep})
    p = probabilities(layer["Q"], layer["K"])
    importance = layer["PS"] + p.sum(axis=(0, 1))
    kept = survivors(found["S"], keep)
    assert np.allclose(found["AV"], p @ layer["V"])
    assert np.allclose(found["S"], importance)
    assert found["T"].tolist() == kept
    assert np.array_equal(found["TS"], found["S"][kept])
    assert np.array_equal(found["TX"], inputs["X"][kept])


@settings(max_examples=50, deadline=None)
@given(layers(), st.data())
def test_heads_are_pruned_by_the_magnitude_of_their_outputs(layer: dict[str, Array], data: st.DataObject) -> None:
    heads = layer["PSH"].size
    keep = data.draw(st.integers(1, heads))
    inputs = {name: layer[name] for name in ("Q", "K", "V")} | {"PS": layer["PSH"], "W": np.ones((heads, 2, 2))}
    found = evaluate(find("cascade-head-pruning"), inputs, {"KEEP": keep})
    output = probabilities(layer["Q"], layer["K"]) @ layer["V"]
    assert np.allclose(found["S"], layer["PSH"] + np.abs(output).sum(axis=(1, 2)))
    assert found["H"].tolist() == survivors(found["S"], keep)
    assert np.array_equal(found["HS"], found["S"][survivors(found["S"], keep)])


def locally_pruned(layer: dict[str, Array], keep: int) -> Array:
    """Only the `keep` rows of V with the largest probabilities are fetched; the others contribute nothing."""
    p = probabilities(layer["Q"], layer["K"])
    output = np.zeros((*p.shape[:2], layer["V"].shape[2]))
    for head, query in np.ndindex(p.shape[:2]):
        rows = survivors(p[head, query], keep)
        output[head, query] = p[head, query, rows] @ layer["V"][head, rows]
    return output


@settings(max_examples=50, deadline=None)
@given(layers(), st.data())
def test_values_are_pruned_per_head_and_query(layer: dict[str, Array], data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, layer["PS"].size))
    inputs = {name: layer[name] for name in ("Q", "K", "V")}
    for name, extents in (("local-value-pruning", {}), ("local-value-pruning-2pass", {}),
                          ("local-value-pruning-1pass", {"M0": 1})):
        found = evaluate(find(name), inputs, {"KEEP": keep, **extents})["AV"]
        assert np.allclose(found, locally_pruned(layer, keep)), name


@settings(max_examples=50, deadline=None)
@given(layers(), st.data())
def test_a_layer_with_all_prunings_is_each_of_them(layer: dict[str, Array], data: st.DataObject) -> None:
    heads, _, _ = layer["Q"].shape
    keep = {"TOKENS": data.draw(st.integers(1, layer["PS"].size)), "HEADS": data.draw(st.integers(1, heads)),
            "VALUES": data.draw(st.integers(1, layer["PS"].size))}
    found = evaluate(find("attention-pruned"), layer, keep)
    output = locally_pruned(layer, keep["VALUES"])
    assert np.allclose(found["AV"], output)
    assert np.allclose(found["S"], layer["PS"] + probabilities(layer["Q"], layer["K"]).sum(axis=(0, 1)))
    assert np.allclose(found["SH"], layer["PSH"] + np.abs(output).sum(axis=(1, 2)))
    assert found["T"].tolist() == survivors(found["S"], keep["TOKENS"])
    assert found["H"].tolist() == survivors(found["SH"], keep["HEADS"])


def test_bit_planes_are_the_number_and_its_lowest_four_bits() -> None:
    """-37 = 16 * -3 + 11; 2.5 rounds to the even 2."""
    found = evaluate(find("bit-planes"), {"K": [[[-3.7, 0.25]]], "SCALE": [0.1]})
    assert found["KI"].tolist() == [[[-37, 2]]]
    assert found["KM"].tolist() == [[[-3, 0]]]
    assert found["KL"].tolist() == [[[11, 2]]]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(layers(), st.integers(4, 12), st.floats(0, 1))
def test_low_bits_are_fetched_by_the_queries_whose_distribution_is_flat(
    layer: dict[str, Array], bits: int, threshold: float
) -> None:
    q, k, v = layer["Q"], layer["K"], layer["V"]
    scale = np.abs(k).max(axis=(1, 2)) / (2 ** (bits + 3) - 1)
    planes = evaluate(find("bit-planes"), {"K": k, "SCALE": scale})
    high, low = planes["KM"], planes["KL"]
    sharpest = probabilities(q, 16 * scale[:, None, None] * high).max(axis=2)
    flat = sharpest < threshold
    if np.any(np.abs(sharpest - threshold) < 1e-9):
        return  # rounding decides
    first, whole = (probabilities(q, scale[:, None, None] * each) for each in (16 * high, 16 * high + low))
    wanted = np.where(flat[:, :, None], whole, first) @ v
    inputs = {"Q": q, "KM": high, "KL": low, "SCALE": scale, "V": v, "THRESHOLD": threshold}
    found = evaluate(find("progressive-quantization"), inputs)
    assert np.array_equal(found["LOW"], flat)
    assert np.allclose(found["AV"], wanted)
    again = evaluate(find("progressive-quantization-2pass"), inputs, {"M0": 1})
    assert np.array_equal(again["LOW"], flat)
    assert np.allclose(again["AV"], wanted)


@pytest.mark.parametrize("tile", [1, 2, 4, 8])
def test_importance_of_a_one_pass_layer_is_that_of_three_passes(tile: int) -> None:
    random = np.random.default_rng(5)
    q, k, v = (random.normal(size=(2, size, 4)) for size in (3, 8, 8))
    before = random.random(8)
    p = probabilities(q, k)
    found = evaluate(find("pruned-1pass"), {"Q": q, "K": k, "V": v, "PS": before}, {"M0": tile})
    assert np.allclose(found["AV"], p @ v)
    assert np.allclose(found["S"].reshape(8), before + p.sum(axis=(0, 1)))
    first = evaluate(find("attention-1pass"), {"Q": q, "K": k, "V": v}, {"M0": tile})
    statistics = {name: first[name][:, -1] for name in ("RM", "RD")}
    second = evaluate(find("token-importance"), {"Q": q, "K": k, "PS": before, **statistics}, {"M0": tile})
    assert np.allclose(second["S"], found["S"])


@pytest.mark.parametrize("tile", [1, 2, 4])
def test_importance_of_tiles_is_the_sum_of_their_tokens(tile: int) -> None:
    random = np.random.default_rng(6)
    q, k, v = (random.normal(size=(2, size, 4)) for size in (3, 8, 8))
    p = probabilities(q, k)
    inputs = {"Q": q, "K": k, "V": v, "PS": np.zeros(8 // tile)}
    found = evaluate(find("pruned-1pass-tiles"), inputs, {"M0": tile, "KEEP": 2})
    assert np.allclose(found["AV"], p @ v)
    assert np.allclose(found["S"], p.sum(axis=(0, 1)).reshape(-1, tile).sum(axis=1))
    assert found["T"].tolist() == survivors(found["S"], 2)


SIZES = {"H": 2, "P": 3, "M": 64, "M0": 8, "M1": 8, "E": 4, "F": 4, "KEEP": 16, "K": 16, "J": 16}


def passes_of(name: str) -> dict[str, int]:
    """Einsum -> the pass over m in which it runs, the last line of a name."""
    main = analyse(find(name), "m").main
    return {einsum.name: main.pass_of(number) for number, einsum in enumerate(find(name).einsums)}


def test_importance_of_tokens_costs_one_pass_attention_a_second_pass_over_keys() -> None:
    """Column sums need the final maximum and denominator of every row."""
    assert find("attention-1pass").passes("m") == 1
    assert find("pruned-1pass").passes("m") == 2
    second = {name for name, number in passes_of("pruned-1pass").items() if number == 2}
    assert second == {"LS", "S"}


def test_and_keeps_the_numerators_of_all_queries_live() -> None:
    assert live_footprint(find("attention-1pass"), "m").constant_in_rank
    kept = live_footprint(find("pruned-1pass"), "m")
    assert not kept.constant_in_rank
    assert kept.elements.bound(SIZES) == 2 * 3 * (64 + 8)  # h, p: all numerators, and one maximum a tile


def test_the_second_pass_by_itself_reads_no_values_and_divides_once_a_query() -> None:
    assert find("token-importance").passes("m") == 1
    assert "V" not in find("token-importance").inputs
    divided = [name for name, counts in analyse(find("token-importance")).operations.items() if "divide" in counts]
    assert [find("token-importance").einsum(name).output.ranks for name in divided] == [("h", "p")]
    assert live_footprint(find("token-importance"), "m").constant_in_rank


def test_importance_of_tiles_costs_no_pass() -> None:
    assert find("pruned-1pass-tiles").passes("m") == 1
    live = live_footprint(find("pruned-1pass-tiles"), "m").elements
    assert live.bound(SIZES) == 2 * 2 * 3 * 8 + 8  # SLD and RM of 8 tiles


@pytest.mark.parametrize("name", ["cascade-token-pruning", "cascade-head-pruning", "local-value-pruning",
                                  "attention-pruned"])
def test_attention_of_three_passes_is_pruned_in_its_third(name: str) -> None:
    """Probabilities are there only then; whatever `top` keeps is read after it."""
    assert find(name).passes("m") == 3
    assert passes_of(name)["A"] == 3


def test_local_value_pruning_by_scores_walks_keys_once_but_keeps_them_all_live() -> None:
    pruned = find("local-value-pruning-1pass")
    assert pruned.passes("m") == 1
    assert live_footprint(pruned, "m").elements.bound(SIZES) == 64


def test_local_value_pruning_reads_the_kept_values_only() -> None:
    """A row of each head: here all queries' choices could be the same 16 of 64."""
    dense, pruned = minimum_words(find("attention-3pass")), minimum_words(find("local-value-pruning"))
    assert (dense - pruned).bound(SIZES) == 2 * (64 - 16) * 4


def test_the_largest_probability_is_known_in_the_third_pass_or_at_the_end_of_the_first() -> None:
    assert passes_of("progressive-quantization")["PM"] == 3
    assert find("progressive-quantization").passes("m") == 6
    assert passes_of("progressive-quantization-2pass")["LOW"] == 1
    assert find("progressive-quantization-2pass").passes("m") == 2


def test_a_choice_compares_each_element_once() -> None:
    """assumed by `top`: a streaming selector. The engine's rounds are the accelerator's business."""
    assert bound_work(find("cascade-token-pruning"), {**SIZES, "I": 16, "D": 1})["I"] == {"compare": 64}
