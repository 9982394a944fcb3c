"""Sparse patterns side by side: all that can keep a given share of the pairs, on one device, the fastest first.

Each has one amount that is free (blocks kept, a share, a window), which is set to the density. Patterns without one,
and those of new tokens, have a density of their own and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.pattern_names import named, pattern_fields
from cascadesim.einsum_cascades.sparsity.selection_methods import SELECTED, settings_of
from cascadesim.simulator.gna.pattern_report import PatternAnswer, pattern_answer
from cascadesim.simulator.gna.report import SCHEMA, Scenario

# name -> (fields that stay, the free one), of static patterns; most of the free one is all tokens
AMOUNTS: Mapping[str, tuple[str, str]] = {
    "sink-window": ("sinks=64,", "window"), "global-window": ("globals=64,", "window"), "halo": ("block=128,", "halo"),
}  # fmt: skip
NEAR = 0.05  # of the density asked for, that a pattern has to come; assumed: closer than published densities differ
STEPS = 40  # of bisection: halves a million tokens to less than one


@dataclass(frozen=True)
class PatternComparison:
    """Answers about patterns of one density, the fastest first. `refused`: why others have none."""

    tokens: int
    density: float
    causal: bool
    device: str
    answers: tuple[PatternAnswer, ...]
    refused: Mapping[str, str]

    @property
    def paying(self) -> int:
        """Patterns that are faster than dense attention."""
        return sum(self.speedup_of(answer) > 1 for answer in self.answers)

    @staticmethod
    def speedup_of(answer: PatternAnswer) -> float:
        return 0.0 if answer.prediction is None else answer.prediction.times.speedup

    def to_dict(self) -> dict[str, object]:
        return {
            "schema": SCHEMA, "tokens": self.tokens, "density": self.density, "causal": self.causal,
            "device": self.device, "paying": self.paying, "patterns": [answer.to_dict() for answer in self.answers],
            "refused": dict(self.refused),
        }  # fmt: skip


def compared(
    layout: tuple[int, ...], density: float, query_tile: tuple[int, ...], key_tile: tuple[int, ...], run: Scenario,
    causal: bool,
) -> PatternComparison:  # fmt: skip
    """All patterns that can have the density. Raises CascadeSimError where none can, with why."""
    found, refused = [], {}
    for name in pattern_fields():
        try:
            text = at_density(name, layout, density, causal)
            if text is not None:
                found.append(pattern_answer(layout, text, None, query_tile, key_tile, run))
        except CascadeSimError as problem:
            refused[name] = str(problem)
    if not found:
        raise CascadeSimError(next(iter(refused.values()), f"no pattern has a density of {density:g}"))
    fastest = tuple(sorted(found, key=PatternComparison.speedup_of, reverse=True))
    return PatternComparison(prod(layout), density, causal, run.device or "", fastest, refused)


def at_density(name: str, layout: tuple[int, ...], density: float, causal: bool) -> str | None:
    """The pattern with as much of its free amount; None where it has none, or not so few, or another causality."""
    method = SELECTED.get(name)
    if method is not None and (method.causal != causal or "prefill" not in method.phases):
        return None
    if method is not None and method.kept is None:
        return f"{name}:share={density:g}"
    fixed, field = AMOUNTS.get(name, ("", "kept" if method is not None and "kept" in settings_of(name) else ""))
    if not field or (method is None and named(f"{name}:{fixed}{field}=1", layout).causal != causal):
        return None
    most = prod(layout) // (method.block if method is not None else 2 if field == "halo" else 1)
    texts = _bisected(f"{name}:{fixed}{field}=", layout, density, most, method is None)
    return next(texts, None)


def _bisected(begin: str, layout: tuple[int, ...], density: float, most: int, whole: bool) -> Iterator[str]:
    """The text whose pairs come nearest to the density, if it is near."""
    low, high = 0.0, float(most)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _density(_text(begin, middle, whole), layout) < density else (low, middle)
    text = _text(begin, high, whole)
    if abs(_density(text, layout) / density - 1) <= NEAR:
        yield text


def _text(begin: str, amount: float, whole: bool) -> str:
    return f"{begin}{max(round(amount), 1)}" if whole else f"{begin}{amount:.5g}"


def _density(text: str, layout: tuple[int, ...]) -> float:
    pattern, tokens = named(text, layout), prod(layout)
    return pattern.attended_pairs / (tokens * (tokens + 1) / 2 if pattern.causal else tokens**2)
