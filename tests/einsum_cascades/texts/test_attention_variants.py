"""Variants of attention against plain NumPy, one head and query at a time; passes over the keys derived in words."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.online import rewritten_to
from cascadesim.einsum_cascades.analysis.passes import passes, rank_group, traversal
from cascadesim.einsum_cascades.texts import find

Values = NDArray[np.float64]
RANDOM = np.random.default_rng(14)
HEADS, QUERIES, KEYS, DEPTH, WIDTH = 2, 3, 6, 4, 5
Q = RANDOM.normal(size=(HEADS, QUERIES, DEPTH))
K = RANDOM.normal(size=(HEADS, KEYS, DEPTH))
V = RANDOM.normal(size=(HEADS, KEYS, WIDTH))
SCORES: Values = np.einsum("hpe,hme->hpm", Q, K)


def softmax(scores: Values) -> Values:
    weights: Values = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def output(name: str, extents: dict[str, int] | None = None, **more: object) -> Values:
    inputs = {"Q": Q, "K": K, "V": V, **{key: np.asarray(value) for key, value in more.items()}}
    return evaluate(find(name), inputs, extents)[find(name).outputs[0]]


def test_sigmoid_attention_weighs_each_key_by_itself() -> None:
    weights = 1 / (1 + np.exp(-(SCORES - np.log(KEYS))))
    assert np.allclose(output("attention-sigmoid"), weights @ V)


def test_relu_attention_divides_by_the_number_of_keys() -> None:
    assert np.allclose(output("attention-relu"), np.maximum(SCORES, 0) / KEYS @ V)


def test_capped_scores_stay_below_fifty() -> None:
    assert np.allclose(output("attention-softcap"), softmax(50 * np.tanh(SCORES / 50)) @ V)
    assert np.allclose(output("attention-softcap", Q=1e4 * Q), softmax(50 * np.tanh(1e4 * SCORES / 50)) @ V)


@pytest.mark.parametrize(("name", "extents"), [
    ("attention-sinks", {}), ("attention-sinks-1pass", {"M0": 1}), ("attention-sinks-1pass", {"M0": 3}),
])  # fmt: skip
@pytest.mark.parametrize("sinks", [[-50.0, 1.0], [30.0, -0.5]])
def test_a_sink_is_one_more_score_without_a_value(name: str, extents: dict[str, int], sinks: list[float]) -> None:
    extra = np.broadcast_to(np.array(sinks)[:, None, None], (HEADS, QUERIES, 1))
    expected = softmax(np.concatenate([SCORES, extra], axis=2))[:, :, :KEYS] @ V
    assert np.allclose(output(name, extents, SINK=sinks), expected)


def test_alibi_penalises_distance() -> None:
    """The full bias, -slope * (query - key) with queries as the last positions, gives the same weights."""
    slope, positions = np.array([0.5, 0.25]), np.arange(KEYS)
    distance = (positions[-QUERIES:, None] - positions)[None] * slope[:, None, None]
    assert np.allclose(output("attention-alibi", SLOPE=slope, POS=positions), softmax(SCORES - distance) @ V)


def test_differential_attention_subtracts_a_second_softmax() -> None:
    q, k = (np.concatenate([x, RANDOM.normal(size=x.shape)]) for x in (Q, K))  # heads 0, 1 of 2: pairs 01 and 23
    maps = [softmax(np.einsum("hpe,hme->hpm", q[first::2], k[first::2])) for first in (0, 1)]
    expected = (maps[0] - 0.8 * maps[1]) @ V
    assert np.allclose(output("attention-differential", Q=q, K=k, LAMBDA=0.8), expected)


@pytest.mark.parametrize("unified", [-3.0, 0.0, 7.0])
def test_any_unified_maximum_gives_softmax(unified: float) -> None:
    assert np.allclose(output("attention-unified-max", PHI=unified), softmax(SCORES) @ V)


@pytest.mark.parametrize("tile", [1, 2, 6])
def test_any_number_of_splits_gives_softmax(tile: int) -> None:
    assert np.allclose(output("attention-flash-decoding", {"M0": tile}), softmax(SCORES) @ V)


def test_a_running_maximum_and_a_second_pass_give_softmax() -> None:
    assert np.allclose(output("attention-2pass-online"), softmax(SCORES) @ V)


@pytest.mark.parametrize(("name", "extents"), [
    ("attention-3pass-map-reduce", {}), ("attention-2pass-map-reduce", {"M0": 2}),
])  # fmt: skip
def test_one_operator_a_line_gives_softmax(name: str, extents: dict[str, int]) -> None:
    assert np.allclose(output(name, extents), softmax(SCORES) @ V)


def test_triangle_attention_has_one_bias_for_all_rows() -> None:
    rows = 3
    q, k = RANDOM.normal(size=(HEADS, rows, QUERIES, DEPTH)), RANDOM.normal(size=(HEADS, rows, KEYS, DEPTH))
    v, gate = RANDOM.normal(size=(HEADS, rows, KEYS, WIDTH)), RANDOM.normal(size=(HEADS, rows, QUERIES, WIDTH))
    bias = RANDOM.normal(size=(HEADS, KEYS, QUERIES))
    expected = np.empty((HEADS, rows, QUERIES, WIDTH))
    for head in range(HEADS):
        for row in range(rows):
            weights = softmax(q[head, row] @ k[head, row].T + bias[head].T)
            expected[head, row] = weights @ v[head, row] / (1 + np.exp(-gate[head, row]))
    assert np.allclose(output("triangle-attention", Q=q, K=k, V=v, B=bias, G=gate), expected)


def test_a_layer_with_its_projections() -> None:
    tokens, model = 5, 7
    x, wo = RANDOM.normal(size=(tokens, model)), RANDOM.normal(size=(HEADS, WIDTH, model))
    wq, wk = RANDOM.normal(size=(HEADS, model, DEPTH)), RANDOM.normal(size=(HEADS, model, DEPTH))
    wv = RANDOM.normal(size=(HEADS, model, WIDTH))
    heads = [softmax((x @ wq[h]) @ (x @ wk[h]).T) @ (x @ wv[h]) for h in range(HEADS)]
    expected = sum(head @ wo[h] for h, head in enumerate(heads))
    found = evaluate(find("multi-head-attention"), {"X": x, "WQ": wq, "WK": wk, "WV": wv, "WO": wo})["Z"]
    assert np.allclose(found, expected)


def test_absorbed_weights_give_attention_over_keys_and_values_written_out() -> None:
    latent, rotary = 3, 2
    c, kr = RANDOM.normal(size=(KEYS, latent)), RANDOM.normal(size=(KEYS, rotary))
    qr = RANDOM.normal(size=(HEADS, QUERIES, rotary))
    wk, wv = RANDOM.normal(size=(HEADS, DEPTH, latent)), RANDOM.normal(size=(HEADS, latent, WIDTH))
    expected = np.empty((HEADS, QUERIES, WIDTH))
    for head in range(HEADS):
        keys = np.concatenate([c @ wk[head].T, kr], axis=1)
        queries = np.concatenate([Q[head], qr[head]], axis=1)
        expected[head] = softmax(queries @ keys.T) @ (c @ wv[head])
    inputs = {"Q": Q, "WK": wk, "C": c, "QR": qr, "KR": kr, "WV": wv}
    assert np.allclose(evaluate(find("mla-absorbed"), inputs)["AV"], expected)


@pytest.mark.parametrize(("name", "expected"), [
    ("attention-sigmoid", 1),  # a weight needs its own score only
    ("attention-relu", 1),  # likewise; the division by M comes after the sum, once per query
    ("attention-softcap", 3),  # maximum of capped scores; exponentials and their sum; division and product with V
    ("attention-sinks", 3),  # the sink joins maximum and sum after their passes: it makes none of its own
    ("attention-sinks-1pass", 1),  # running state: every tile is used up as it comes
    ("attention-alibi", 3),  # the bias is added as a score appears
    ("attention-differential", 3),  # both softmaxes walk side by side: maxima; sums; weights
    ("attention-unified-max", 1),  # nothing to wait for before the exponential; division after the sums
    ("attention-flash-decoding", 1),  # each split once; what is combined afterwards are M1 results, not keys
    ("attention-2pass-online", 2),  # maximum and denominator together; then weights
    ("attention-3pass-map-reduce", 3),  # lines that ride along make no pass of their own
    ("attention-2pass-map-reduce", 2),  # what is corrected waits for all tiles, which are then walked again
    ("triangle-attention", 3),
    ("multi-head-attention", 3),
    ("mla-absorbed", 3),
])  # fmt: skip
def test_passes_over_the_keys(name: str, expected: int) -> None:
    assert passes(find(name), "m") == expected


def test_mla_reads_the_latent_vector_twice() -> None:
    """Over its C numbers: scores sum all of them (pass 1); the weighted sum of latents follows, one by one (pass 2)."""
    assert passes(find("mla-absorbed"), "c") == 2


def test_projections_run_in_the_pass_of_what_reads_them() -> None:
    """K rides with the scores (pass 1). V is made there, too, or again in pass 3, where it is read."""
    whole = find("multi-head-attention")
    times = traversal(whole, rank_group(whole, "m"))
    pass_of = {einsum.name: times.pass_of(number) for number, einsum in enumerate(whole.einsums)}
    assert pass_of == {"Q": 1, "K": 1, "V": 1, "QK": 1, "GM": 1, "SN": 2, "SD": 2, "A": 3, "AV": 3, "Z": 3}


@pytest.mark.parametrize("name", ["attention-softcap", "attention-alibi", "attention-sinks", "triangle-attention"])
def test_three_passes_become_one(name: str) -> None:
    """By the rewrites of softmax attention; a sink keeps its place in the maximum, so its text stays as it is."""
    found = find(name)
    steps = ["defer-division", "split:m=M0", "online:m"]
    if name == "attention-sinks":
        steps = steps[:1]  # GM is not the maximum of the scores alone
    for step in steps:
        found = rewritten_to(found, step)
    assert passes(found, "m") == (2 if name == "attention-sinks" else 1)


def test_work_by_hand() -> None:
    """2 heads x 3 queries x 6 keys are 36 scores, of depth 4; values of width 5."""
    sizes = {"H": 2, "P": 3, "M": 6, "E": 4, "F": 5}
    assert bound_work(find("attention-sigmoid"), sizes) == {
        "QK": {"mac": 144}, "A": {"exp": 36, "add": 72, "divide": 36}, "AV": {"mac": 180}}
    sinks = bound_work(find("attention-sinks"), sizes)
    assert sinks["GM"] == {"max": 6}  # one sink beside each row's maximum
    assert sinks["SD"] == {"add": 12, "exp": 6}  # SINK - GM, its exponential, and the sum
    pair = bound_work(find("attention-differential"), sizes)
    assert pair["QK1"] == pair["QK2"] == {"mac": 144}
    assert pair["A"] == {"divide": 36, "multiply": 36, "add": 36}
