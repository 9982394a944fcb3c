"""Which kernel computes a text of attention: decided by its work, never by names of texts or tensors.

A fused kernel (FlashAttention and its kin) does per score a multiply-accumulate for each element of query and key, a
maximum, an exponential of a difference, a sum and a multiply-accumulate for each element of the value, in one pass
over the keys; an unfused one stores scores and divides each of them, in three. Any other text is refused: no rate of a
kernel says how long it would take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY
from cascadesim.einsum_cascades.analysis.counts import charged_regions
from cascadesim.einsum_cascades.analysis.passes import all_passes
from cascadesim.einsum_cascades.analysis.rank_groups import partitions
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.texts.attention import ATTENTION_1PASS, ATTENTION_3PASS

Text: TypeAlias = Literal["fused", "unfused"]
Place: TypeAlias = frozenset[str]  # ranks of an Einsum: keys, or tiles of them, queries, elements
Work: TypeAlias = Mapping[tuple[Place, str], int]  # operations of a point: (place, class) -> count
TILE = "tile of keys"
KERNELS: Mapping[Text, Cascade] = {"fused": ATTENTION_1PASS, "unfused": ATTENTION_3PASS}
_ELEMENTS = ("e", "f")
_LONGEST = 75  # characters of a description


def kernel_text(cascade: Cascade) -> Text:
    """Raises CascadeSimError for a text whose work or passes are those of no kernel."""
    own = _work(cascade)
    for text, known in KERNELS.items():
        if own == _work(known) and all_passes(cascade).get(KEY) == all_passes(known)[KEY]:
            return text
    raise CascadeSimError(
        "not yet: GPUs run texts whose work per score is that of a kernel (attention-1pass, attention-3pass, causal "
        f"and grouped forms), no text unit by unit; {cascade.name} has {_described(cascade)}"
    )


def key_tiles(cascade: Cascade) -> tuple[str, ...]:
    """The parts of the keys, outermost first; empty where the text does not tile them."""
    return next((parts for parts in partitions(cascade) if parts[0].startswith(KEY)), ())


@cache
def _work(cascade: Cascade) -> Work:
    """Operations of a point, under whatever conditions: the mask says how many points there are."""
    parts = key_tiles(cascade)
    names = {**dict.fromkeys(parts[:-1], TILE), **dict.fromkeys(parts[-1:], KEY)}
    found: Counter[tuple[Place, str]] = Counter()
    for einsum in cascade.einsums:
        for counts, region in charged_regions(einsum):
            ranks = frozenset(names.get(rank, rank) for rank in region.ranks)
            place = ranks - {TILE} if KEY in ranks else ranks
            found.update({(place, name): count for name, count in counts.items()})
    return {work: count for work, count in found.items() if count}


def _described(cascade: Cascade) -> str:
    """As in `1 mac per e, 1 max, 1 exp per score in 2 passes`."""
    work = _work(cascade)
    number = all_passes(cascade).get(KEY, 1)
    if any(_of_scores(work) == _of_scores(_work(known)) for known in KERNELS.values()) and number in (1, 3):
        return "other work beside that of its scores"
    score = ", ".join(
        f"{count} {name}" + "".join(f" per {rank}" for rank in _ELEMENTS if rank in place)
        for (place, name), count in _of_scores(work).items()
    )
    shown = score if len(score) < _LONGEST else f"{score[:_LONGEST]}..."
    return f"{shown or 'no work'} per score" + (f" in {number} passes" if number > 1 else "")


def _of_scores(work: Work) -> Work:
    """Sorted, so that equal work is described alike."""
    found = [item for item in work.items() if {KEY, QUERY} <= item[0][0]]
    return dict(sorted(found, key=lambda item: (-len(item[0][0]), sorted(item[0][0]), item[0][1])))
