"""Pruning schedules: how much each layer keeps where attention maps are not at hand.

SpAtten (HPCA'21), section V-A, and the public workload files of mit-han-lab/spatten, whose rows these schedules give
again (`pruning_trace.token_rows`). Counts are rounded down, at least one is kept. Knows no hardware and no scores:
which tokens stay is `pruning`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor
from types import MappingProxyType

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError

TOKENS_FIRST = 0.15  # SpAtten, sec. V-A: no token pruning in the first 15 % of layers
HEADS_FIRST = 0.30  # SpAtten, sec. V-A: no head pruning in the first 30 %
LOW_BITS = 4  # SpAtten, sec. III-D: the least significant plane


@dataclass(frozen=True)
class PruningSchedule:
    """What each layer keeps. `token_keep`: shares of `base` tokens; None, and beyond `base`: of the
    tokens there are.

    `value_keep`: share of the kept keys whose values are fetched. `low_bit_share`: of the heads, how many fetch low
    bits, spread evenly where no maps decide; `threshold` decides where there are maps.
    """

    name: str
    token_keep: tuple[float, ...]
    heads: tuple[int, ...]
    value_keep: float = 1.0
    base: int | None = None
    key_bits: int | None = None
    value_bits: int | None = None
    query_bits: int | None = None
    threshold: float | None = None
    low_bit_share: float = 0.0
    rescales: bool = False
    accumulates: bool = True
    source: str = ""

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise CascadeSimError("\n".join(f"pruning schedule {self.name}: {problem}" for problem in problems))

    def _problems(self) -> Iterator[str]:
        if not self.token_keep or len(self.token_keep) != len(self.heads):
            yield f"token_keep has {len(self.token_keep)} layers and heads {len(self.heads)}; both need every layer"
        for name, shares in (("token_keep", self.token_keep), ("value_keep", (self.value_keep,))):
            wrong = [share for share in shares if not 0 < share <= 1]
            if wrong:
                yield f"{name} must be above 0 and at most 1, got {wrong[0]:g}"
        if any(heads < 1 for heads in self.heads):
            yield f"heads must be at least 1, got {min(self.heads)}"
        for name, counts in (("token_keep", self.token_keep), ("heads", self.heads)):
            if any(later > earlier for earlier, later in pairwise(counts)):
                yield f"{name} must not rise from layer to layer: what is dropped never returns"
        if not 0 <= self.low_bit_share <= 1:
            yield f"low_bit_share must be 0 to 1, got {self.low_bit_share:g}"

    @property
    def layers(self) -> int:
        return len(self.heads)

    def tokens(self, layer: int, length: int) -> int:
        """Tokens that a layer sees of `length`."""
        share = self.token_keep[layer]
        return length if share == 1 else min(length, kept(share, self._whole(length)))

    def values(self, layer: int, length: int) -> int:
        """Rows of V that a query fetches; where all tokens are kept, a share of `base`."""
        tokens = self.tokens(layer, length)
        whole = self.token_keep[layer] == 1
        return min(tokens, kept(self.value_keep, self._whole(length) if whole else tokens))

    def _whole(self, length: int) -> int:
        """What shares are of; assumed: beyond the context that a schedule was made for, of the tokens there are."""
        return max(self.base or length, length)

    def unpruned(self) -> PruningSchedule:
        """The same model and formats without any pruning: the first rung of the ladder."""
        heads = self.heads[:1] * self.layers
        return replace(self, name=f"{self.name}-dense", token_keep=(1.0,) * self.layers, heads=heads, value_keep=1.0)


def kept(share: float, count: int) -> int:
    """Rounded down, not counting rounding errors of the product; at least one."""
    return max(1, floor(share * count + 1e-9))


def ramp(layers: int, average: float, first: float, start: float = 0.0) -> tuple[float, ...]:
    """Shares pruned by layer: none in the `first` share of layers, then linear from `start` to 2 average - start.

    SpAtten, sec. V-A: r_start + r_end = 2 r_avg. assumed: ratios are of all tokens (heads), so rising ones prune more
    and more; part layers of `first` count whole; start 0 where the text does not say.
    """
    end = 2 * average - start
    if not 0 <= start <= end < 1:
        raise CascadeSimError(f"a mean pruning ratio of {average:g} from {start:g} ends at {end:g}; "
                              f"the ratio must rise and stay below 1")
    front = min(ceil(first * layers - 1e-9), layers)
    ramped = layers - front
    steps = [start + (end - start) * step / (ramped - 1) for step in range(ramped)] if ramped > 1 else [average]
    return (*(0.0,) * front, *steps[:ramped])


def ramp_schedule(
    name: str, layers: int, heads: int, *, token_ratio: float, head_ratio: float = 0.0, token_start: float = 0.0,
    head_start: float = 0.0, value_keep: float = 1.0, base: int | None = None, key_bits: int | None = None,
    value_bits: int | None = None, threshold: float | None = None, low_bit_share: float = 0.0, source: str = "",
) -> PruningSchedule:  # fmt: skip
    """The published kind of schedule from mean ratios of pruned tokens and heads over the layers that prune."""
    return PruningSchedule(name, tuple(1 - ratio for ratio in ramp(layers, token_ratio, TOKENS_FIRST, token_start)),
                           tuple(kept(1 - ratio, heads) for ratio in ramp(layers, head_ratio, HEADS_FIRST, head_start)),
                           value_keep, base, key_bits, value_bits, 16, threshold, low_bit_share, source=source)


def spans(*steps: tuple[int, float]) -> tuple[float, ...]:
    """(layers, share) side by side."""
    return tuple(share for layers, share in steps for _ in range(layers))


_FILES = "mit-han-lab/spatten workload file"
_PUBLISHED = (
    PruningSchedule(
        "gpt-2-small", spans((1, 0.9), (1, 0.7), (4, 0.2), (6, 0.1)), (12,) * 12, 0.2, 1024, 6, 6, 16, 0.05,
        low_bit_share=323 / 4608,  # counted in the file
        rescales=True, source=f"{_FILES} small-wikitext2-per8",
    ),
    PruningSchedule(
        "gpt-2-medium", spans((2, 1.0), (1, 0.9), (2, 0.8), (6, 0.6), (13, 0.3)), (16,) * 16 + (13,) * 6 + (10,) * 2,
        0.3, 1024, 12, 8, 16, source=f"{_FILES} medium-wikitext2",
    ),
    # assumed: bits and mean ratios. SpAtten, sec. V-B: 1.9x of tokens and values, 1.1x of heads over 30 benchmarks;
    # 1.9x is kept = 1/1.9, shared evenly (its root) by tokens and values. 8 + 4 bits; 5.9 % of inputs fetch low bits.
    ramp_schedule(
        "bert-base", 12, 12, token_ratio=1 - 1.9**-0.5, head_ratio=1 - 1 / 1.1, value_keep=1.9**-0.5,
        key_bits=8, value_bits=8, threshold=0.1, low_bit_share=0.059,
        source="SpAtten, sec. V-A and V-B; assumed ratios",
    ),
)  # fmt: skip
SCHEDULES: Mapping[str, PruningSchedule] = MappingProxyType({
    **(_named := {schedule.name: schedule for schedule in _PUBLISHED}),
    "bert": _named["bert-base"],  # FuseMax's name for it
})


def published_schedule(workload: str) -> PruningSchedule:
    """The default schedule of a workload. Raises UnknownNameError."""
    if workload not in SCHEDULES:
        raise UnknownNameError("pruning schedule for workload", workload, SCHEDULES)
    return SCHEDULES[workload]
