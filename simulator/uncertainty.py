"""How far a model has been from what was published, for the work of a report: figures that the validation suites wrote.

`uncertainty.json` (written by `validation.uncertainty`): architecture -> strata, each the errors of published calls of
one kind, with the range of sizes that they span. A report is given the stratum nearest to its longest call, and
whether all of its calls lie inside what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.simulator.report import Uncertainty

_FILE = Path(__file__).parent / "uncertainty.json"
_SMALL_SHARE = 0.05  # of the time: calls below decide nothing
WHOLE_MODELS = "whole models are not validated"


@dataclass(frozen=True)
class Call:
    """One operation of a report. `kernel`, `types`: as its plan names them. `share`: of the report's time."""

    kind: str
    sizes: Mapping[str, float]
    mask: str
    kernel: str
    types: str
    fidelity: str
    share: float = 1.0


@dataclass(frozen=True)
class Stratum:
    """Published figures of one kind. `what`: in words. latency, p90, largest: half, nine tenths, all were within."""

    kind: str
    what: str
    fidelity: str
    rows: int
    latency: float
    p90: float
    largest: float
    ranges: Mapping[str, Sequence[float]]  # size -> smallest, largest
    masks: Sequence[str]
    types: Sequence[str] = field(default=("",))
    kernel: str = ""

    def problems(self, call: Call) -> tuple[str, ...]:
        """In what the call lies outside, the gravest first."""
        found = []
        if call.fidelity != self.fidelity:
            found.append({"cycle": "the cycle level", "analytical": "the closed form"}[call.fidelity])
        if self.kernel and call.kernel != self.kernel:
            found.append(f"kernel {call.kernel}")
        found += [f"mask {call.mask}"] * (call.mask not in self.masks)
        found += [f"types {call.types}"] * (call.types not in self.types)
        return (*found, *(_outside(name, call.sizes[name], *bounds) for name, bounds in self.ranges.items()
                          if not bounds[0] <= call.sizes[name] <= bounds[1]))  # fmt: skip

    def distance(self, call: Call) -> tuple[bool, bool, int, int]:
        """To order strata by: another fidelity is further than another kernel, than another shape."""
        other_kernel = bool(self.kernel) and call.kernel != self.kernel
        return call.fidelity != self.fidelity, other_kernel, len(self.problems(call)), -self.rows


def _outside(name: str, size: float, least: float, most: float) -> str:
    shown = _number(least) if least == most else f"{_number(least)} to {_number(most)}"
    return f"{name.replace('_', ' ')} {_number(size)} (measured: {shown})"


def _number(size: float) -> str:
    return f"{size:,.0f}" if size >= 1 else f"{size:.3g}"


def uncertainty_of(architecture: str, calls: Sequence[Call], reasons: Sequence[str] = ()) -> Uncertainty | None:
    """`reasons`: why nothing of the report was measured, beyond its shapes. None where no call of the kind was."""
    strata = _measured().get(architecture, ())
    near = {call: stratum for call in map(_Key, calls) if (stratum := _nearest(strata, call.call)) is not None}
    if not near:
        return None
    longest = max(near, key=lambda key: key.call.share)
    why = list(reasons) or [f"outside what was measured: {problem}" for problem in _problems(near, calls)[:1]]
    found = near[longest]
    basis = f"{'; '.join(why)}; nearest: {found.what}" if why else found.what
    return Uncertainty(found.latency, basis, found.p90, found.rows, not why)


@dataclass(frozen=True, eq=False)
class _Key:
    """A call by its identity: its sizes have no hash."""

    call: Call


def _nearest(strata: Sequence[Stratum], call: Call) -> Stratum | None:
    return min((one for one in strata if one.kind == call.kind), key=lambda one: one.distance(call), default=None)


def _problems(near: Mapping[_Key, Stratum], calls: Sequence[Call]) -> list[str]:
    """Of all calls that matter; a kind of work that was never measured is one."""
    known = {id(key.call) for key in near}
    found = [problem for key, stratum in near.items() if key.call.share >= _SMALL_SHARE
             for problem in stratum.problems(key.call)]  # fmt: skip
    return [*found, *(call.kind for call in calls if id(call) not in known and call.share >= _SMALL_SHARE)]


def sizes_of(operation: Operation, call_s: float) -> dict[str, float]:
    """What strata are told apart by."""
    size = dict(operation.extents)
    if operation.kind == "linear":
        return {"rows": size["r"], "outputs": size["n"], "depth": size["k"], "copies": size["x"], "call_s": call_s}
    return attention_sizes(size["b"], size["h"], size["h"] // size["g"], size["p"], size["m"], size["e"], size["f"],
                           call_s)  # fmt: skip


def attention_sizes(
    batch: float, heads: float, key_heads: float, queries: float, keys: float, head_dim: float, value_dim: float,
    call_s: float,
) -> dict[str, float]:  # fmt: skip
    """scores: of all sequences and heads together, unmasked."""
    return {
        "batch": batch, "heads": heads, "group": heads / key_heads, "queries": queries, "keys": keys,
        "head_dim": head_dim, "value_dim": value_dim, "scores": batch * heads * queries * keys, "call_s": call_s,
    }  # fmt: skip


def mask_name(mask: Mask) -> str:
    """full, causal, window, or the name of a pattern's kind."""
    if mask == FULL:
        return "full"
    if isinstance(mask, KeyInterval) and mask.chunk is None:
        return "causal" if mask.window is None else "window"
    return type(mask).__name__.lower()


@cache
def _measured() -> Mapping[str, tuple[Stratum, ...]]:
    import json

    written: Mapping[str, list[dict[str, Any]]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return {architecture: tuple(Stratum(**stratum) for stratum in strata) for architecture, strata in written.items()}
