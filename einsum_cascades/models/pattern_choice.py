"""The passes of a sparse pattern as operations of a layer: what is chosen and moved before attention, and merged after.

Means, scores, softmax, the largest, sorts, lists, gathered rows: element-wise kernels, products, attention of their own
texts, which a machine prices by bytes and instructions like any other. Names begin with `operation.PATTERN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, log2

from cascadesim.einsum_cascades.models.operation import PATTERN, Operand, Operation, elementwise, linear
from cascadesim.einsum_cascades.models.sections import Attention
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.block_selection import Selected
from cascadesim.einsum_cascades.sparsity.choice_passes import AFTER, DECODED, Pass, size_of
from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import SOFTMAX_ROUTER

PLACE_NUMBERS = 2  # a place in a list is a 32-bit integer: two numbers of 16 bits
# assumed: a pass of a radix sort moves a 32-bit score and its 64-bit place, 8 bits of the score a pass
RADIX_NUMBERS, RADIX_PASSES = 6, 4


@dataclass(frozen=True)
class _Work:
    """A pass with its sizes in numbers: `rows` and `width` of one head, `heads` of all sequences."""

    part: Pass
    name: str
    rows: int
    width: int
    heads: int
    depth: int
    keep: int
    cascade: Cascade
    decodes: bool


def choice_operations(
    mask: PatternMask, attention: Attention, batch: int, decodes: bool, cascade: Cascade
) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """Operations before attention and after it, of one layer; none for a pattern that is known before.

    `decodes`: one new token a sequence, which repeats what depends on its query. `cascade`: the layer's attention.
    """
    pattern = mask.pattern
    if not isinstance(pattern, Selected):
        return (), ()
    sizes = {**pattern.sizes(1 if decodes else mask.tokens), "depth": attention.head_dim}
    found: dict[bool, list[Operation]] = {False: [], True: []}
    for part in pattern.passes:
        if decodes and part.kind not in DECODED:
            continue
        heads = batch * (attention.heads if part.heads == "query" else attention.key_heads)
        work = _Work(part, f"{PATTERN}{part.name}", *part.shape(sizes), heads, part.depth * attention.head_dim,
                     size_of(part.keep, sizes), cascade, decodes)  # fmt: skip
        found[part.kind in AFTER] += [replace(each, count=part.runs * each.count) for each in _MADE[part.kind](work)]
    return tuple(found[False]), tuple(found[True])


def _rows(text: str, **widths: Callable[[_Work], int]) -> Callable[[_Work], Iterator[Operation]]:
    """Element-wise kernels over the rows of all heads; other extents by what they are of the work."""

    def made(work: _Work) -> Iterator[Operation]:
        extents = (("r", work.rows * work.heads), *((rank, size(work)) for rank, size in widths.items()))
        yield Operation(work.name, "elementwise", find(text), extents)

    return made


def _source(work: _Work) -> Operand:
    """Decoding finds what queries are multiplied by in the cache."""
    return "kv" if work.decodes else "activations"


def _scores(work: _Work) -> Iterator[Operation]:
    """Written to memory."""
    yield linear(work.name, work.rows, work.depth, work.width, work.heads, _source(work))


def _softmax(work: _Work) -> Iterator[Operation]:
    yield elementwise(work.name, SOFTMAX_ROUTER, work.rows * work.heads, work.width)


def _attention(text: Cascade | None) -> Callable[[_Work], Iterator[Operation]]:
    """A kernel that keeps scores on the chip; None: the layer's own attention."""

    def made(work: _Work) -> Iterator[Operation]:
        extents = (("b", 1), ("h", work.heads), ("g", 1), ("m", work.width), ("p", work.rows), ("e", work.depth),
                   ("f", work.depth))  # fmt: skip
        yield Operation(work.name, "attention", text or work.cascade, extents, operand=_source(work),
                        numbers="int4" if work.part.codes else None)  # fmt: skip

    return made


def _radix(work: _Work) -> Iterator[Operation]:
    """All scores of a head are sorted together."""
    yield replace(elementwise(work.name, find("moved-numbers"), work.rows * work.heads, RADIX_NUMBERS * work.width),
                  count=RADIX_PASSES)  # fmt: skip


def _gather(work: _Work) -> Iterator[Operation]:
    yield elementwise(work.name, find("gathered-rows"), work.rows * work.width * work.heads, work.depth)


def _merge(work: _Work) -> Iterator[Operation]:
    """Partial results are in fp32."""
    extents = (("r", work.rows * work.heads), ("s", work.width), ("d", work.depth))
    yield Operation(work.name, "elementwise", find("merged-parts"), extents, numbers="fp32")


def _stages(work: _Work) -> int:
    """Of a bitonic network over a row."""
    steps = max(ceil(log2(max(work.width, 2))), 1)
    return steps * (steps + 1) // 2


_MADE: Mapping[str, Callable[[_Work], Iterator[Operation]]] = {
    "mean": _rows("block-mean", s=lambda work: work.width, d=lambda work: work.depth),
    "scores": _scores, "fused-scores": _attention(find("block-scores")), "softmax": _softmax,
    "select": _rows("largest-of-a-row", d=lambda work: work.width, keep=lambda work: min(work.keep, work.width)),
    "sort": _rows("sorting-network", s=_stages, d=lambda work: work.width), "radix": _radix,
    "list": _rows("moved-numbers", d=lambda work: PLACE_NUMBERS * work.width), "gather": _gather, "merge": _merge,
    "attend": _attention(None), "stream": _rows("moved-numbers", d=lambda work: work.width),
}  # fmt: skip
