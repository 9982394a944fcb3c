"""Why a pattern does not reach its bound, in plain words: warnings that follow from the counts.

Every sentence is derived from figures of the question at hand; nothing is said that the counts do not show.
"""

from __future__ import annotations

from collections.abc import Iterator

from cascadesim.einsum_cascades.sparsity.neighborhood import times
from cascadesim.simulator.gna.neighborhood import Bound, Mode, Question
from cascadesim.simulator.gna.recommend import Recommendation, stride_frontier
from cascadesim.simulator.gna.time import Device, Prediction, device, predict

NOTICEABLE = 0.02  # assumed: losses below 2 % are not worth a sentence
HOPELESS = 2.0  # NATTEN issue 306: mean bounds of 1.4 to 1.6 ran at half of dense attention's speed


def advice(question: Question, mode: Mode, prediction: Prediction | None = None) -> tuple[str, ...]:
    """Warnings about one question in one tiling mode, the most important first."""
    bound = question.bound(mode)
    lines = [*_causal(question, bound), *_useful(question, mode, bound), *_padding(question)]
    if prediction is not None:
        lines += _times(question, prediction)
    return tuple([*lines, *_refused(question)])


def _causal(question: Question, bound: Bound) -> Iterator[str]:
    causal = [number for number, axis in enumerate(question.pattern.causal, start=1) if axis]
    if causal and not question.block_sparse:
        which = ", ".join(map(str, causal))
        hope = ", expect no gain" if bound.mean < HOPELESS else ""
        yield (
            f"causal in dimension {which}: never block-sparse, every visited tile is masked; at most "
            f"{bound.mean:.2f}x on average before masking{hope}"
        )


def _useful(question: Question, mode: Mode, bound: Bound) -> Iterator[str]:
    if bound.mean <= 1:
        yield f"dense would be faster: the tiles visited are {1 / bound.mean:.2f}x those of dense attention"
    if bound.efficiency > 1 - NOTICEABLE or any(question.pattern.causal):
        return
    better = _more_useful(question, mode, bound)
    now = f"stride {times(question.pattern.stride)}: {bound.efficiency:.0%} of the work in visited tiles is useful"
    if better is None:
        yield f"{now}; no stride improves on it with these tiles"
    else:
        stride = times(better.question.pattern.stride)
        yield f"{now}; stride {stride} makes it {better.bound.efficiency:.0%}"


def _more_useful(question: Question, mode: Mode, bound: Bound) -> Recommendation | None:
    if mode not in ("multidim_static", "multidim_dynamic"):
        return None
    best = max(stride_frontier(question, mode), key=lambda option: option.bound.efficiency)
    return best if best.bound.efficiency > bound.efficiency + NOTICEABLE else None


def _padding(question: Question) -> Iterator[str]:
    for number, (axis, size) in enumerate(zip(question.pattern.axes, question.tiles.query, strict=True), start=1):
        padded = axis.dilation * -(-axis.longest_group // size) * size
        if padded > axis.length * (1 + NOTICEABLE):
            yield (
                f"dimension {number}: {axis.length} tokens fill query tiles of {size} up to {padded}, "
                f"{padded / axis.length - 1:.1%} of the work is padding"
            )


def _times(question: Question, prediction: Prediction) -> Iterator[str]:
    if prediction.total_s >= prediction.dense_s:
        yield f"dense would be faster on {prediction.device}: {prediction.speedup:.2f}x including token permutation"
    share = prediction.permute_s / prediction.total_s
    if share > 0.1:  # assumed: worth a sentence from a tenth of the time on
        yield (
            f"token permutation takes {share:.0%} of the time: {prediction.kernel_speedup:.1f}x for the kernel alone, "
            f"{prediction.speedup:.1f}x with it"
        )


def _refused(question: Question) -> Iterator[str]:
    small = [number for number, size in enumerate(question.pattern.window, start=1) if size < 2]
    if small:
        yield f"NATTEN refuses windows below 2 (dimension {', '.join(map(str, small))})"


def predicted(
    question: Question, device_name: str, heads: int, head_dim: int, batch: int
) -> tuple[Device, Prediction]:
    on = device(device_name)
    return on, predict(question, on, heads=heads, head_dim=head_dim, batch=batch)
