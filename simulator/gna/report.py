"""The answer to one question about a neighborhood: bounds in every mode, times, what to ask for instead, and why.

A frozen value that turns into the JSON of the contract (`cascadesim.gna/1`). It prints nothing: `render`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascadesim.simulator.gna.advice import advice
from cascadesim.simulator.gna.neighborhood import MODES, Bound, Mode, Question
from cascadesim.simulator.gna.recommend import (
    Recommendation,
    dilation_frontier,
    stride_frontier,
    tile_frontier,
    window_frontier,
)
from cascadesim.simulator.gna.shapes import BACKENDS, Backend, legal_tiles
from cascadesim.simulator.gna.time import Prediction, device, end_to_end_layers, predict

SCHEMA = "cascadesim.gna/1"


@dataclass(frozen=True)
class Run:
    """What the attention runs on and how often: for times, end-to-end figures and the tile shapes to search.

    `layers`: how many have the pattern asked about; `also`: other patterns of the same model and their layers.
    """

    device: str | None = None
    heads: int = 24  # as in the published kernel times
    head_dim: int = 128
    batch: int = 1
    attention_share: float | None = None  # of the end-to-end time, before
    sparse_steps: int = 1
    steps: int = 1
    layers: int = 1
    layers_per_permutation: int = 1
    also: tuple[tuple[Question, int], ...] = ()

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The device's kernels; without a device those of every generation that can run the head dimension."""
        if self.device is not None:
            return (device(self.device).kernels,)
        return tuple(backend for backend in BACKENDS.values() if self.head_dim <= backend.largest_head_dim)

    def predict(self, question: Question) -> Prediction | None:
        """The times of a question, where a device is named."""
        if self.device is None:
            return None
        return predict(question, device(self.device), self.heads, self.head_dim, self.batch,
                       layers_per_permutation=self.layers_per_permutation)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """Everything known about the question. `alternatives`: other windows, dilations and tile shapes."""

    question: Question
    run: Run
    modes: Mapping[Mode, Bound]
    backward: Bound
    prediction: Prediction | None
    recommendations: tuple[Recommendation, ...]
    alternatives: Mapping[str, tuple[Recommendation, ...]]
    advice: tuple[str, ...]

    @property
    def end_to_end(self) -> Mapping[str, float] | None:
        """Amdahl over all layers: on the bounds, and on the predicted time where there is one."""
        run = self.run
        if run.attention_share is None:
            return None
        share = run.attention_share * run.sparse_steps / run.steps
        patterns = ((_speedups(self.question, run), run.layers), *((_speedups(each, run), n) for each, n in run.also))
        return {
            name: end_to_end_layers([(speedups[name], layers) for speedups, layers in patterns], share)
            for name in patterns[0][0]
        }

    def to_dict(self) -> dict[str, object]:
        """The JSON object of the contract (design, section 5)."""
        question = self.question
        return {
            "schema": SCHEMA,
            "layout": list(question.pattern.layout),
            "window": list(question.pattern.window),
            "stride": list(question.pattern.stride),
            "dilation": list(question.pattern.dilation),
            "causal": list(question.pattern.causal),
            "q_tile": list(question.tiles.query),
            "kv_tile": list(question.tiles.key),
            "extra_kv": question.extra_keys,
            "attended_pairs": question.attended_pairs,
            "flop_bound": question.flop_bound,
            "sparsity": question.sparsity,
            "block_sparse": question.block_sparse,
            "modes": {mode: _bound(bound) for mode, bound in self.modes.items()},
            "backward": _bound(self.backward),
            "predicted": None if self.prediction is None else _prediction(self.prediction),
            "end_to_end": None if self.end_to_end is None else dict(self.end_to_end),
            "recommendations": [_recommendation(option, self.run) for option in self.recommendations],
            "alternatives": {
                name: [_recommendation(option, self.run) for option in options]
                for name, options in self.alternatives.items()
            },
            "advice": list(self.advice),
        }


def answer(question: Question, run: Run | None = None, recommend: bool = False) -> Answer:
    """All modes, advice, the time where a device is named, and with `recommend` what to ask for instead."""
    run = run or Run()
    prediction = run.predict(question)
    return Answer(
        question,
        run,
        {mode: question.bound(mode) for mode in MODES},
        question.backward(),
        prediction,
        stride_frontier(question) if recommend else (),
        alternatives(question, run) if recommend else {},
        advice(question, "multidim_static", prediction),
    )


def alternatives(question: Question, run: Run) -> dict[str, tuple[Recommendation, ...]]:
    """Frontiers in the other directions; a direction without a faster entry is left out."""
    found = {"windows": window_frontier(question), "dilations": dilation_frontier(question)}
    for backend in run.backends:
        shapes = legal_tiles(backend.name, len(question.pattern.layout), run.head_dim)
        found[f"tiles of {backend.name}"] = tile_frontier(question, shapes, backend.mode)
    return {name: options for name, options in found.items() if options}


def _speedups(question: Question, run: Run) -> dict[str, float]:
    static = question.bound("multidim_static")
    found = {"flop_bound": question.flop_bound, "worst_bound": static.worst, "mean_bound": static.mean}
    prediction = run.predict(question)
    return found if prediction is None else {**found, "predicted": prediction.speedup}


def _bound(bound: Bound) -> dict[str, object]:
    return {
        "total": bound.total,
        "max": bound.largest,
        "mean_bound": bound.mean,
        "worst_bound": bound.worst,
        "efficiency": bound.efficiency,
    }


def _prediction(prediction: Prediction) -> dict[str, object]:
    return {
        "device": prediction.device,
        "kernel_s": prediction.kernel_s,
        "permute_s": prediction.permute_s,
        "total_s": prediction.total_s,
        "dense_s": prediction.dense_s,
        "kernel_speedup": prediction.kernel_speedup,
        "speedup": prediction.speedup,
    }


def _recommendation(option: Recommendation, run: Run) -> dict[str, object]:
    pattern, tiles, prediction = option.question.pattern, option.question.tiles, run.predict(option.question)
    return {
        "change": option.change,
        "stride": list(pattern.stride),
        "window": list(pattern.window),
        "dilation": list(pattern.dilation),
        "q_tile": list(tiles.query),
        "kv_tile": list(tiles.key),
        "worst_bound": option.bound.worst,
        "mean_bound": option.bound.mean,
        "block_sparse": option.block_sparse,
        "predicted": None if prediction is None else _prediction(prediction),
    }
