"""How long attention under a sparse pattern takes on a device, what its bound promised, and where the rest went.

Attention, the passes that choose and those that move rows are priced as `simulate` prices them. Between the promise
(dense time over the FLOP bound) and the time lie named parts that add up to the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import TimesLists
from cascadesim.einsum_cascades.models.operation import PATTERN, Operation
from cascadesim.einsum_cascades.models.pattern_choice import choice_operations
from cascadesim.einsum_cascades.models.sections import Attention
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import KeyInterval
from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS
from cascadesim.simulator.gna.neighborhood import Prediction, dense_s, planned_s
from cascadesim.simulator.gna.report import TIMES, Scenario

MOVES = ("gathered-rows", "merged-parts")  # texts that move rows; all others of a pattern choose


@dataclass(frozen=True)
class PatternPrediction:
    """Times of one attention call, forward, against dense attention under the same causality.

    `passes_s`: what choosing and moving take, by name. `promised_s`: dense time over the FLOP bound. `gap_s`: what lies
    between that and the time.
    """

    times: Prediction
    promised_s: float
    passes_s: Mapping[str, float]
    gap_s: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """The keys of every prediction of `gna`, and what this one consists of."""
        found = {name: getattr(self.times, name) for name in (*TIMES, "choice_s")}
        return {**found, "promised_s": self.promised_s, "passes_s": dict(self.passes_s), "gap_s": dict(self.gap_s)}


@lru_cache(maxsize=256)
def pattern_prediction(mask: PatternMask, run: Scenario) -> PatternPrediction:
    """Times on the scenario's device. Raises CascadeSimError without one, and where its kernels take no lists."""
    machine = catalogue.load(run.device or "")
    if not isinstance(machine, TimesLists):
        raise CascadeSimError(f"{machine.name} does not say what a list of key tiles costs; give a GPU, or ask "
                              f"simulate --set attention.pattern={mask.name}")
    if not mask.runs_in("prefill"):
        raise CascadeSimError(f"pattern {mask.name} limits new tokens only; simulate it with --phase decode")
    attention = Attention(heads=run.heads, head_dim=run.head_dim)
    tokens, causal, depth = mask.tokens, mask.pattern.causal, run.head_dim
    extents = {"b": run.batch, "h": run.heads, "g": 1, "m": tokens, "p": tokens, "e": depth, "f": depth}
    operation = Operation("attention", "attention", ATTENTION_1PASS, tuple(extents.items()), mask=mask)
    added = [each for side in choice_operations(mask, attention, run.batch, False, ATTENTION_1PASS) for each in side]
    passes = {each.name.removeprefix(PATTERN): planned_s(each, machine) for each in added}
    moved = sum(passes[each.name.removeprefix(PATTERN)] for each in added if each.cascade.name in MOVES)
    whole = dense_s(machine.name, tokens, tokens, run.heads, depth, run.batch, KeyInterval(causal))
    found, kernel_s = machine.listed_seconds(operation), planned_s(operation, machine)
    promised = whole * mask.attended_pairs(tokens, tokens) / (tokens * (tokens + 1) / 2 if causal else tokens**2)
    gap = {
        "tile rounding": whole * found.visited - promised, "launch and waves": found.plain_s - whole * found.visited,
        "masked tiles": found.masked_s - found.plain_s, "tiles from a list": kernel_s - found.masked_s,
        "choice": sum(passes.values()) - moved, "moved rows": moved,
    }  # fmt: skip
    return PatternPrediction(Prediction(machine.name, kernel_s, moved, whole, gap["choice"]), promised, passes, gap)
