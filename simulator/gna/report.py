"""The answer to one question about a neighborhood: bounds in every mode, times, what to ask for instead, and why.

A frozen value that turns into the JSON of the contract (`cascadesim.gna/1`). Every sentence of advice follows from
counts and times of the question at hand. It prints nothing: `render`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cascadesim.accelerators.neighborhood_kernels import Backend, backends, device, legal_tiles
from cascadesim.einsum_cascades.sparsity.masks import KeyInterval, times
from cascadesim.simulator.gna.neighborhood import (
    MODES,
    Bound,
    Mode,
    Prediction,
    Question,
    dense_s,
    end_to_end_layers,
    predict,
)
from cascadesim.simulator.gna.recommend import (
    Recommendation,
    dilation_frontier,
    stride_frontier,
    tile_frontier,
    window_frontier,
)
from cascadesim.simulator.views import output as say

SCHEMA = "cascadesim.gna/1"
NOTICEABLE = 0.02  # assumed: losses below 2 % are not worth a sentence
_SHOWN = 4  # tile shapes named
HOPELESS = 2.0  # NATTEN issue 306: mean bounds of 1.4 to 1.6 ran at half of dense attention's speed
_PERMUTATION = 0.1  # assumed: worth a sentence from a tenth of the time on
TIMES = ("device", "kernel_s", "permute_s", "total_s", "dense_s", "kernel_speedup", "speedup")


@dataclass(frozen=True)
class Scenario:
    """The device, the heads and how often the attention runs: for times, end-to-end figures and tile shapes to search.

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
        return tuple(backend for backend in backends().values() if self.head_dim <= backend.largest_head_dim)

    def predict(self, question: Question) -> Prediction | None:
        """The times of a question, where a device is named."""
        if self.device is None:
            return None
        return predict(question, device(self.device), self.heads, self.head_dim, self.batch,
                       layers_per_permutation=self.layers_per_permutation)  # fmt: skip

    def speedups(self, question: Question) -> dict[str, float]:
        """Every bound of a question and, where a device is named, its predicted speedup."""
        static, prediction = question.bound("multidim_static"), self.predict(question)
        found = {"flop_bound": question.flop_bound, "worst_bound": static.worst, "mean_bound": static.mean}
        return found if prediction is None else {**found, "predicted": prediction.speedup}


@dataclass(frozen=True)
class Answer:
    """Everything known about the question. `alternatives`: other windows, dilations and tile shapes."""

    question: Question
    scenario: Scenario
    modes: Mapping[Mode, Bound]
    backward: Bound
    prediction: Prediction | None
    recommendations: tuple[Recommendation, ...]
    alternatives: Mapping[str, tuple[Recommendation, ...]]
    advice: tuple[str, ...]

    @property
    def end_to_end(self) -> Mapping[str, float] | None:
        """Amdahl over all layers: on the bounds, and on the predicted time where there is one."""
        scenario = self.scenario
        if scenario.attention_share is None:
            return None
        share = scenario.attention_share * scenario.sparse_steps / scenario.steps
        patterns = ((self.question, scenario.layers), *scenario.also)
        found = [(scenario.speedups(question), layers) for question, layers in patterns]
        return {name: end_to_end_layers([(speedups[name], layers) for speedups, layers in found], share)
                for name in found[0][0]}  # fmt: skip

    def to_dict(self) -> dict[str, object]:
        """The JSON object of the contract (design, section 5)."""
        question = self.question
        return {
            "schema": SCHEMA, **_sizes(question, ("layout", "window", "stride", "dilation", "causal")),
            "extra_kv": question.extra_keys, "attended_pairs": question.attended_pairs,
            "flop_bound": question.flop_bound, "sparsity": question.sparsity, "block_sparse": question.block_sparse,
            "modes": {mode: _bound(bound) for mode, bound in self.modes.items()}, "backward": _bound(self.backward),
            "predicted": _prediction(self.prediction),
            "end_to_end": None if self.end_to_end is None else dict(self.end_to_end),
            "recommendations": [_recommendation(option, self.scenario) for option in self.recommendations],
            "alternatives": {name: [_recommendation(option, self.scenario) for option in options]
                             for name, options in self.alternatives.items()},
            "advice": list(self.advice),
        }  # fmt: skip


def _sizes(question: Question, names: Sequence[str]) -> dict[str, object]:
    of_pattern = {name: list(getattr(question.pattern, name)) for name in names}
    return {**of_pattern, "q_tile": list(question.tiles.query), "kv_tile": list(question.tiles.key)}


def answer(question: Question, scenario: Scenario | None = None, recommend: bool = False) -> Answer:
    """Answers in all modes, with advice, times on a named device, and with `recommend` what to ask for instead.

    Raises CascadeSimError for a head dimension that the kernels of the device do not run.
    """
    scenario = scenario or Scenario()
    foreign = tuple(_foreign_tiles(question, scenario))
    prediction = scenario.predict(question)
    modes = {mode: question.bound(mode) for mode in MODES}
    return Answer(
        question, scenario, modes, question.backward(), prediction, stride_frontier(question) if recommend else (),
        _alternatives(question, scenario) if recommend else {},
        (*foreign, *_advice(question, modes["multidim_static"], prediction),
         *_causal_baseline(question, scenario, prediction)),
    )  # fmt: skip


def _foreign_tiles(question: Question, scenario: Scenario) -> Iterator[str]:
    """Says that a device's kernels have no such tiles, whose time is what they would take at its rates."""
    if scenario.device is None:
        return
    kernels, dimensions = device(scenario.device).kernels, len(question.pattern.layout)
    shapes = legal_tiles(kernels.name, dimensions, scenario.head_dim)
    if question.tiles not in shapes:
        own = "; ".join(map(str, shapes[:_SHOWN])) + (f"; {len(shapes) - _SHOWN} more" if len(shapes) > _SHOWN else "")
        yield (f"{kernels.name} has no such tiles: no kernel takes this time on {scenario.device}; at head dimension "
               f"{scenario.head_dim} it has {own}")


def _causal_baseline(question: Question, scenario: Scenario, prediction: Prediction | None) -> Iterator[str]:
    """The speedup beside dense causal attention, which is what a causal sequence would run otherwise."""
    pattern = question.pattern
    if prediction is None or len(pattern.layout) > 1 or not pattern.causal[0]:
        return
    causal_s = dense_s(prediction.device, pattern.tokens, pattern.tokens + question.extra_keys, scenario.heads,
                       scenario.head_dim, scenario.batch, KeyInterval(True))  # fmt: skip
    yield (f"bounds and speedups are over full dense attention; over dense causal attention, {say.seconds(causal_s)}, "
           f"it is {causal_s / prediction.total_s:.2f}x")


def _alternatives(question: Question, scenario: Scenario) -> dict[str, tuple[Recommendation, ...]]:
    """Frontiers in the other directions; a direction without a faster entry is left out."""
    found = {"windows": window_frontier(question), "dilations": dilation_frontier(question)}
    for backend in scenario.backends:
        shapes = legal_tiles(backend.name, len(question.pattern.layout), scenario.head_dim)
        found[f"tiles of {backend.name}"] = tile_frontier(question, shapes, backend.mode)
    return {name: options for name, options in found.items() if options}


def _advice(question: Question, bound: Bound, prediction: Prediction | None) -> Iterator[str]:
    """Says why the pattern does not reach its bound in static tiling: warnings, the most important first."""
    causal = [str(number) for number, axis in enumerate(question.pattern.causal, start=1) if axis]
    if causal and not question.block_sparse:
        hope = ", expect no gain" if bound.mean < HOPELESS else ""
        yield (f"causal in dimension {', '.join(causal)}: never block-sparse, every visited tile is masked; at most "
               f"{bound.mean:.2f}x on average before masking{hope}")
    if bound.mean <= 1:
        yield f"dense would be faster: the tiles visited are {1 / bound.mean:.2f}x those of dense attention"
    if bound.efficiency <= 1 - NOTICEABLE and not causal:
        best = max(stride_frontier(question), key=lambda option: option.bound.efficiency)
        now = f"stride {times(question.pattern.stride)}: {bound.efficiency:.0%} of the work in visited tiles is useful"
        if best.bound.efficiency <= bound.efficiency + NOTICEABLE:
            yield f"{now}; no stride improves on it with these tiles"
        else:
            yield f"{now}; stride {times(best.question.pattern.stride)} makes it {best.bound.efficiency:.0%}"
    for number, (axis, size, _) in enumerate(question.sides, start=1):
        padded = axis.dilation * -(-axis.longest_group // size) * size
        if padded > axis.length * (1 + NOTICEABLE):
            yield (f"dimension {number}: {axis.length} tokens fill query tiles of {size} up to {padded}, "
                   f"{padded / axis.length - 1:.1%} of the work is padding")
    if prediction is not None:
        yield from _advice_on_times(prediction)
    small = [str(number) for number, size in enumerate(question.pattern.window, start=1) if size < 2]
    if small:
        yield f"NATTEN refuses windows below 2 (dimension {', '.join(small)})"


def _advice_on_times(prediction: Prediction) -> Iterator[str]:
    if prediction.total_s >= prediction.dense_s:
        yield f"dense would be faster on {prediction.device}: {prediction.speedup:.2f}x including token permutation"
    share = prediction.permute_s / prediction.total_s
    if share > _PERMUTATION:
        yield (f"token permutation takes {share:.0%} of the time: {prediction.kernel_speedup:.1f}x for the kernel "
               f"alone, {prediction.speedup:.1f}x with it")


def _bound(bound: Bound) -> dict[str, object]:
    return {"total": bound.total, "max": bound.largest, "mean_bound": bound.mean, "worst_bound": bound.worst,
            "efficiency": bound.efficiency}  # fmt: skip


def _prediction(prediction: Prediction | None) -> dict[str, object] | None:
    return None if prediction is None else {name: getattr(prediction, name) for name in TIMES}


def _recommendation(option: Recommendation, scenario: Scenario) -> dict[str, object]:
    return {
        "change": option.change, **_sizes(option.question, ("stride", "window", "dilation")),
        "worst_bound": option.bound.worst, "mean_bound": option.bound.mean, "block_sparse": option.block_sparse,
        "predicted": _prediction(scenario.predict(option.question)),
    }  # fmt: skip
