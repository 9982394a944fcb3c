"""Recurrent models against loops over their equations, in chunks of any size too; passes derived in words."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.bound_counts import bound_work
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.analysis.footprint import live_footprint
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.texts import find

Values = NDArray[np.float64]
RANDOM = np.random.default_rng(41)
HEADS, LENGTH, DEPTH, WIDTH = 2, 6, 3, 4
Q = RANDOM.normal(size=(HEADS, LENGTH, DEPTH))
K = RANDOM.normal(size=(HEADS, LENGTH, DEPTH))
V = RANDOM.normal(size=(HEADS, LENGTH, WIDTH))
BETA = RANDOM.uniform(0.1, 1.0, size=(HEADS, LENGTH))
DECAY = -RANDOM.uniform(0.0, 0.5, size=(HEADS, LENGTH))  # logarithms
CHUNKS = [1, 2, 3, 6]


def output(name: str, extents: dict[str, int] | None = None, **more: Values) -> Values:
    return evaluate(find(name), {"Q": Q, "K": K, "V": V, **more}, extents)["AV"]


def chunks(size: int) -> dict[str, int]:
    return {"M0": size, "P0": size}


def delta_rule(decay: Values) -> Values:
    """S <- (decay S), then towards v at k: S + beta k (v - k S); output q S. `decay`: (h, m, e), factors of rows."""
    found = np.zeros((HEADS, LENGTH, WIDTH))
    for head in range(HEADS):
        state = np.zeros((DEPTH, WIDTH))
        for step in range(LENGTH):
            key = K[head, step]
            state = decay[head, step][:, None] * state
            state = state + BETA[head, step] * np.outer(key, V[head, step] - key @ state)
            found[head, step] = Q[head, step] @ state
    return found


def test_gated_linear_attention_lets_rows_of_the_state_fade() -> None:
    gate = RANDOM.uniform(0.5, 1.0, size=(HEADS, LENGTH, DEPTH))
    expected = np.zeros((HEADS, LENGTH, WIDTH))
    for query in range(LENGTH):
        for key in range(query + 1):
            faded = Q[:, query] * np.prod(gate[:, key + 1 : query + 1], axis=1) * K[:, key]
            expected[:, query] += faded.sum(axis=1)[:, None] * V[:, key]
    assert np.allclose(output("linear-attention-gated", G=gate), expected)


def test_gates_of_one_give_linear_attention() -> None:
    ones = np.ones((HEADS, LENGTH, DEPTH))
    assert np.allclose(output("linear-attention-gated", G=ones), np.tril(Q @ K.transpose(0, 2, 1)) @ V)


def test_a_selective_scan() -> None:
    channels, states = 3, 2
    x, dt = RANDOM.normal(size=(LENGTH, channels)), RANDOM.uniform(0.1, 1, size=(LENGTH, channels))
    a, skip = -RANDOM.uniform(0.5, 2, size=(channels, states)), RANDOM.normal(size=channels)
    b, c = RANDOM.normal(size=(LENGTH, states)), RANDOM.normal(size=(LENGTH, states))
    expected, state = np.zeros((LENGTH, channels)), np.zeros((channels, states))
    for step in range(LENGTH):
        state = np.exp(dt[step][:, None] * a) * state + (dt[step] * x[step])[:, None] * b[step]
        expected[step] = state @ c[step] + skip * x[step]
    found = evaluate(find("mamba"), {"X": x, "DT": dt, "A": a, "B": b, "C": c, "SKIP": skip})["Y"]
    assert np.allclose(found, expected)


@pytest.mark.parametrize("size", CHUNKS)
def test_state_space_duality_gives_the_recurrence(size: int) -> None:
    """S <- exp(G) S + k v, output q S, whatever the chunk."""
    expected = np.zeros((HEADS, LENGTH, WIDTH))
    for head in range(HEADS):
        state = np.zeros((DEPTH, WIDTH))
        for step in range(LENGTH):
            state = np.exp(DECAY[head, step]) * state + np.outer(K[head, step], V[head, step])
            expected[head, step] = Q[head, step] @ state
    assert np.allclose(output("mamba-2-ssd", chunks(size), G=DECAY), expected)


def test_the_delta_rule() -> None:
    assert np.allclose(output("deltanet", BETA=BETA), delta_rule(np.ones((HEADS, LENGTH, DEPTH))))


def test_the_delta_rule_forgets_what_a_key_held() -> None:
    """With beta 1 and keys of length 1, reading a key just written gives its value, whatever was there."""
    unit = K / np.linalg.norm(K, axis=2, keepdims=True)
    found = evaluate(find("deltanet"), {"Q": unit, "K": unit, "V": V, "BETA": np.ones((HEADS, LENGTH))})["AV"]
    assert np.allclose(found, V)


def test_the_gated_delta_rule() -> None:
    decay = np.broadcast_to(np.exp(DECAY)[:, :, None], (HEADS, LENGTH, DEPTH))
    assert np.allclose(output("gated-deltanet", BETA=BETA, G=DECAY), delta_rule(decay))


@pytest.mark.parametrize("size", CHUNKS)
def test_the_gated_delta_rule_in_chunks(size: int) -> None:
    decay = np.broadcast_to(np.exp(DECAY)[:, :, None], (HEADS, LENGTH, DEPTH))
    assert np.allclose(output("gated-deltanet-chunked", chunks(size), BETA=BETA, G=DECAY), delta_rule(decay))


def test_kimi_decays_each_row_by_itself() -> None:
    decay = -RANDOM.uniform(0, 0.5, size=(HEADS, LENGTH, DEPTH))
    assert np.allclose(output("kimi-delta-attention", BETA=BETA, G=decay), delta_rule(np.exp(decay)))


@pytest.mark.parametrize("size", CHUNKS)
def test_kimi_in_chunks(size: int) -> None:
    decay = -RANDOM.uniform(0, 0.5, size=(HEADS, LENGTH, DEPTH))
    found = output("kimi-delta-attention-chunked", chunks(size), BETA=BETA, G=decay)
    assert np.allclose(found, delta_rule(np.exp(decay)))


@pytest.mark.parametrize("cuts", [(0, 6), (0, 2, 6), (0, 1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize(("step", "whole"), [
    ("mamba-2-step", "mamba-2-ssd"), ("gated-deltanet-step", "gated-deltanet"),
    ("kimi-delta-attention-step", "kimi-delta-attention"), ("linear-attention-step", "linear-attention-chunked"),
])  # fmt: skip
def test_steps_go_on_from_the_state_that_was_left(step: str, whole: str, cuts: tuple[int, ...]) -> None:
    """However the tokens are cut, one after another or all at once, the results are those of the whole text."""
    decay = -RANDOM.uniform(0, 0.5, size=(HEADS, LENGTH, DEPTH)) if "kimi" in step else DECAY
    given = {"Q": Q, "K": K, "V": V} | ({} if "linear" in step else {"G": decay})
    given |= {"BETA": BETA} if "delta" in step else {}
    state, found = np.zeros((HEADS, DEPTH, WIDTH)), []
    for first, last in pairwise(cuts):
        part = evaluate(find(step), {name: each[:, first:last] for name, each in given.items()} | {"S0": state})
        state, found = part["SM"], [*found, part["AV"]]
    sizes = {"mamba-2-ssd": chunks(3), "linear-attention-chunked": {"C0": 3, "P0": 3}}
    expected = evaluate(find(whole), given, sizes.get(whole))["AV"]
    assert np.allclose(np.concatenate(found, axis=1), expected)


@pytest.mark.parametrize("name", ["gated-deltanet-chunked", "gated-deltanet-step", "mamba-2-ssd", "mamba-2-step"])
def test_heads_that_share_queries_and_keys(name: str) -> None:
    """Both heads of values read the one head of queries and keys there is, as if each had a copy."""
    more = {} if "mamba" in name else {"BETA": BETA}
    more |= {"S0": RANDOM.normal(size=(HEADS, DEPTH, WIDTH))} if "step" in name else {}
    shared = {"Q": Q[:1], "K": K[:1], "V": V, "G": DECAY, **more}
    copied = {**shared, "Q": Q[[0, 0]], "K": K[[0, 0]]}
    extents = {} if "step" in name else chunks(2)
    found = [evaluate(find(name), given, extents | {"G": group})["AV"] for given, group in ((shared, 2), (copied, 1))]
    assert np.allclose(*found)


def test_a_convolution_looks_back_three_tokens() -> None:
    """Tap 3 is the token's own: with X before the first token zero, it is a sum over the last four of each channel."""
    x, taps = RANDOM.normal(size=(LENGTH, DEPTH)), RANDOM.normal(size=(4, DEPTH))
    padded = np.concatenate([np.zeros((3, DEPTH)), x])
    expected = np.array([sum(taps[tap] * padded[row + tap] for tap in range(4)) for row in range(LENGTH)])
    expected = expected / (1 + np.exp(-expected))
    weights = {f"W{tap}": taps[tap] for tap in range(4)}
    assert np.allclose(evaluate(find("causal-convolution"), {"X": padded, **weights})["Y"], expected)
    kept = {f"X{back}": padded[3 - back : LENGTH + 3 - back] for back in (1, 2, 3)}
    assert np.allclose(evaluate(find("causal-convolution-step"), {"X": x, **weights, **kept})["Y"], expected)


def test_gates_and_norms_of_recurrences() -> None:
    x, z, scale = RANDOM.normal(size=(5, DEPTH)), RANDOM.normal(size=(5, DEPTH)), RANDOM.normal(size=DEPTH)
    row, bias = RANDOM.normal(size=5), RANDOM.normal(size=DEPTH)
    gates = evaluate(find("delta-gates"), {"B": row, "A": -np.exp(row), "X": x, "BIAS": bias})
    assert np.allclose(gates["BETA"], 1 / (1 + np.exp(-row)))
    assert np.allclose(gates["G"], -np.exp(row)[:, None] * np.log1p(np.exp(x + bias)))
    assert (gates["G"] < 0).all()  # so that states fade
    step = np.log1p(np.exp(2 * row))
    found = evaluate(find("mamba-2-gates"), {"T": row, "BIAS": row, "A": -np.exp(row), "X": x})
    assert np.allclose(found["V"], step[:, None] * x)
    assert np.allclose(found["G"], -np.exp(row) * step)
    assert np.allclose(np.linalg.norm(evaluate(find("unit-norm"), {"X": x})["Y"], axis=1), 1, atol=1e-5)
    gate = z / (1 + np.exp(-z))

    def norm(rows: Values) -> Values:
        return rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5) * scale

    assert np.allclose(evaluate(find("gated-rms-norm"), {"X": x, "G": scale, "Z": z})["Y"], norm(x) * gate)
    found = evaluate(find("mamba-2-norm"), {"AV": x, "SKIP": bias, "X": z, "Z": z, "G": scale})
    assert np.allclose(found["Y"], norm((x + bias * z) * gate))


@pytest.mark.parametrize("magnitude", [1.0, 300.0])
def test_rwkv_is_a_weighted_average_of_the_past(magnitude: float) -> None:
    """Weights exp(k + (steps between) w), exp(k + u) of the token itself; in logarithms, so that nothing overflows."""
    channels = 3
    k, v = magnitude * RANDOM.normal(size=(LENGTH, channels)), RANDOM.normal(size=(LENGTH, channels))
    r, u, w = RANDOM.normal(size=(LENGTH, channels)), RANDOM.normal(size=channels), -RANDOM.uniform(0.1, 1, channels)
    expected = np.zeros((LENGTH, channels))
    for step in range(LENGTH):
        scores = np.array([k[past] + (step - 1 - past) * w for past in range(step)] + [k[step] + u])
        weights = np.exp(scores - scores.max(axis=0))
        average = (weights * v[: step + 1]).sum(axis=0) / weights.sum(axis=0)
        expected[step] = average / (1 + np.exp(-r[step]))
    assert np.allclose(evaluate(find("rwkv-4"), {"K": k, "V": v, "R": r, "U": u, "W": w})["Y"], expected)


def test_titans_descend_the_gradient_of_what_surprises() -> None:
    memory, rates = RANDOM.normal(size=(HEADS, DEPTH, WIDTH)), RANDOM.uniform(0, 1, size=(3, HEADS, LENGTH))
    alpha, eta, theta = rates
    expected = np.zeros((HEADS, LENGTH, WIDTH))
    for head in range(HEADS):
        state, momentum = memory[head], np.zeros((DEPTH, WIDTH))
        for step in range(LENGTH):
            key = K[head, step]
            gradient = np.outer(key, key @ state - V[head, step])
            momentum = eta[head, step] * momentum - theta[head, step] * gradient
            state = (1 - alpha[head, step]) * state + momentum
            expected[head, step] = Q[head, step] @ state
    found = output("titans-memory", MEM0=memory, ALPHA=alpha, ETA=eta, THETA=theta)
    assert np.allclose(found, expected)


@pytest.mark.parametrize(("name", "rank"), [
    ("linear-attention-gated", "m"), ("mamba", "l"), ("mamba-2-ssd", "m"), ("deltanet", "m"), ("gated-deltanet", "m"),
    ("kimi-delta-attention", "m"), ("gated-deltanet-chunked", "m"), ("kimi-delta-attention-chunked", "m"),
    ("linear-attention-step", "m"), ("mamba-2-step", "m"), ("gated-deltanet-step", "m"),
    ("kimi-delta-attention-step", "m"),
    ("rwkv-4", "t"), ("titans-memory", "m"),
])  # fmt: skip
def test_positions_are_walked_once(name: str, rank: str) -> None:
    """All that a later position needs of earlier ones is the state, which the step before it has written."""
    assert passes(find(name), rank) == 1
    assert live_footprint(find(name), rank).constant_in_rank


@pytest.mark.parametrize(("name", "expected"), [
    ("linear-attention-gated", 1),  # a row of the state decays, grows and is read, then the next row
    ("mamba-2-ssd", 1),  # the same, chunk by chunk: scores and reads of the state sum over e side by side
    ("deltanet", 2),  # what the state holds at k sums all its rows (1) before any of them is corrected and read (2)
    ("gated-deltanet", 2),
    ("kimi-delta-attention", 2),
    ("titans-memory", 2),
    # products of keys sum over e and give the inverse (1); W of the chunk and what the state holds there (2); only then
    # come corrections, with which the rows of the state change (3)
    ("gated-deltanet-chunked", 3),
    ("kimi-delta-attention-chunked", 3),
    ("linear-attention-step", 1),
    ("mamba-2-step", 1),
    ("gated-deltanet-step", 2),
    ("kimi-delta-attention-step", 2),
])  # fmt: skip
def test_passes_over_the_rows_of_the_state(name: str, expected: int) -> None:
    assert passes(find(name), "e") == expected


def test_work_by_hand() -> None:
    """2 heads x 6 positions x (3 x 4 elements of the state); chunks of 3 have 6 pairs with m0 <= p0, 3 with m0 < p0."""
    sizes = {"H": 2, "M": 6, "E": 3, "F": 4}
    rule = bound_work(find("deltanet"), sizes)
    assert rule["KS"] == rule["AV"] == {"mac": 144}
    assert rule["D"] == {"add": 48, "multiply": 48}
    assert rule["S"] == {"multiply": 144, "add": 144}
    chunked = bound_work(find("gated-deltanet-chunked"), {**sizes, "M0": 3, "P0": 3, "I0": 3, "G": 1})
    assert chunked["QK"] == {"mac": 2 * 2 * 6 * 3}
    assert chunked["KK"] == {"mac": 2 * 2 * 3 * 3}
    # row 0 leaves rows 1 and 2 in column 0, row 1 leaves row 2 in columns 0 and 1
    assert chunked["IT"] == {"multiply": 2 * 2 * 4, "add": 2 * 2 * 4}
    assert chunked["QS"] == {"mac": 2 * 6 * 3 * 4}
