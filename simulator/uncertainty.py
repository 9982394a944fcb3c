"""How far a model has been from what was published, for the work of a report: figures that the validation suites wrote.

`uncertainty.json` (written by `validation.uncertainty`): architecture -> strata, each the errors of published calls of
one kind, with the range of sizes that they span. A report is given the stratum nearest to its longest call, and
whether all of its calls lie inside what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from cascadesim.accelerators.catalogue import load, preset_names
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.operation import Operation, TiledMask
from cascadesim.einsum_cascades.models.sections import RECURRENCE
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.simulator.execution import OperationRun
from cascadesim.simulator.report import Uncertainty
from cascadesim.simulator.request import Request

_FILE = Path(__file__).parent / "uncertainty.json"
_PAGED = "-paged"  # ends the names of kernels that read keys from pages
DEPTHS = ("head_dim", "value_dim")
_SMALL_SHARE = 0.05  # of the time: calls below decide nothing
_OF_THE_CALL = ("dtype", "types", "kernel", "parallel")  # settings that show in sizes, types and kernel of a call


@dataclass(frozen=True)
class Call:
    """One operation of a report: its plan names `kernel` and `types`, `share` is its part of the report's time."""

    kind: str
    sizes: Mapping[str, float]
    mask: str
    kernel: str
    types: str
    fidelity: str
    share: float = 1.0


@dataclass(frozen=True)
class MeasuredStratum:
    """Published figures of one kind: half of their errors were within `latency`, nine tenths within `p90`, all within
    `largest`; `what` says in words which figures they are.
    """

    kind: str
    what: str
    fidelity: str
    rows: int
    latency: float
    p90: float
    largest: float
    ranges: Mapping[str, Sequence[float]]  # size -> smallest, largest; of one of DEPTHS, each that was measured
    masks: Sequence[str]
    types: Sequence[str] = field(default=("",))
    kernel: str = ""

    def problems(self, call: Call) -> tuple[str, ...]:
        """Say in what the call lies outside, the gravest first."""
        found = []
        if call.fidelity != self.fidelity:
            found.append({"cycle": "the cycle level", "analytical": "the closed form"}[call.fidelity])
        if self._is_other(call.kernel):
            found.append(f"kernel {call.kernel}")
        found += [f"mask {call.mask}"] * (call.mask not in self.masks)
        found += [f"types {call.types}"] * (call.types not in self.types)
        return (*found, *(_outside(name, call.sizes[name], measured) for name, measured in self.ranges.items()
                          if not _is_among(name, call.sizes[name], measured)))  # fmt: skip

    def distance(self, call: Call) -> tuple[bool, bool, int, int]:
        """Order strata by this: another fidelity is further than another kernel, that further than another shape."""
        return call.fidelity != self.fidelity, self._is_other(call.kernel), len(self.problems(call)), -self.rows

    def _is_other(self, kernel: str) -> bool:
        """Whether another kernel was measured; the same over keys on pages is none."""
        return bool(self.kernel) and self.kernel.removesuffix(_PAGED) != kernel.removesuffix(_PAGED)


def _is_among(name: str, size: float, measured: Sequence[float]) -> bool:
    """Kernels are made for some depths, and pad others."""
    return size in measured if name in DEPTHS else measured[0] <= size <= measured[-1]


def _outside(name: str, size: float, measured: Sequence[float]) -> str:
    ends = tuple(dict.fromkeys(map(_number, measured)))
    shown = ", ".join(ends) if name in DEPTHS else " to ".join(ends)
    return f"{name.replace('_', ' ')} {_number(size)} (measured: {shown})"


def _number(size: float) -> str:
    return f"{size:,.0f}" if size >= 1 else f"{size:.3g}"


def of_report(request: Request, runs: Sequence[OperationRun]) -> Uncertainty | None:
    """Find the uncertainty of the calls that suites may have compared; None where no call of their kind was."""
    total, clock_hz = sum(run.exact_cycles for run in runs), request.accelerator.clock_hz
    calls = [
        Call(
            run.operation.kind, sizes_of(run.operation, run.execution.exact_cycles / clock_hz),
            mask_name(run.operation.mask), run.execution.plan.kernel, run.execution.plan.types, request.fidelity,
            run.exact_cycles / total,
        )
        for run in runs if run.operation.kind in ("attention", "linear") and run.execution.plan.validated
        and run.operation.name != RECURRENCE
    ]  # fmt: skip
    return uncertainty_of(request.accelerator.name, calls, tuple(_never_measured(request)))


def _never_measured(request: Request) -> Iterator[str]:
    """Say why the suites do not run such a report, whatever its shape."""
    accelerator = request.accelerator
    if request.scope == "model":
        yield "whole models are not validated"
    if request.accounting == "artifact":
        yield "artifact accounting has suites of its own"
    if request.scope != "linear" and request.cascade != accelerator.attention:
        yield f"no run of {request.cascade} was measured"
    typed = tuple(setting for setting in request.settings if setting.split(".")[0].split("=")[0] in _OF_THE_CALL)
    if accelerator != _as_preset(accelerator.name, typed):
        yield f"measured without {', '.join(request.settings) or 'what was changed'}"


@lru_cache(maxsize=4096)
def _as_preset(name: str, settings: tuple[str, ...]) -> Accelerator | None:
    """Load the preset of that name with the settings of which each call says what they make of it."""
    if name not in preset_names():
        return None
    try:
        return load(name, settings)
    except CascadeSimError:
        return None


def uncertainty_of(architecture: str, calls: Sequence[Call], reasons: Sequence[str] = ()) -> Uncertainty | None:
    """Take the stratum nearest to the longest call; None where no call of its kind was measured.

    `reasons` say why nothing of the report was measured, beyond its shapes.
    """
    strata = _measured().get(architecture, ())
    nearest = [(call, _nearest(strata, call)) for call in calls]
    near = [(call, stratum) for call, stratum in nearest if stratum is not None]
    if not near:
        return None
    _, found = max(near, key=lambda pair: pair[0].share)
    outside = [problem for call, stratum in near if call.share >= _SMALL_SHARE for problem in stratum.problems(call)]
    outside += [call.kind for call, stratum in nearest if stratum is None and call.share >= _SMALL_SHARE]
    why = list(reasons) or [f"outside what was measured: {problem}" for problem in outside[:1]]
    basis = f"{'; '.join(why)}; nearest: {found.what}" if why else found.what
    return Uncertainty(found.latency, basis, found.p90, found.rows, not why)


def _nearest(strata: Sequence[MeasuredStratum], call: Call) -> MeasuredStratum | None:
    return min((one for one in strata if one.kind == call.kind), key=lambda one: one.distance(call), default=None)


def sizes_of(operation: Operation, call_s: float) -> dict[str, float]:
    """List the sizes that strata are told apart by; `call_s` is how long one call takes."""
    size = dict(operation.extents)
    if operation.kind == "linear":
        return {"rows": size["r"], "outputs": size["n"], "depth": size["k"], "copies": size["x"], "call_s": call_s}
    return attention_sizes(size["b"], size["h"], size["h"] // size["g"], size["p"], size["m"], size["e"], size["f"],
                           call_s)  # fmt: skip


def attention_sizes(
    batch: float, heads: float, key_heads: float, queries: float, keys: float, head_dim: float, value_dim: float,
    call_s: float,
) -> dict[str, float]:  # fmt: skip
    """Name the sizes of an attention; `scores` counts those of all sequences and heads together, unmasked."""
    return {
        "batch": batch, "heads": heads, "group": heads / key_heads, "queries": queries, "keys": keys,
        "head_dim": head_dim, "value_dim": value_dim, "scores": batch * heads * queries * keys, "call_s": call_s,
    }  # fmt: skip


def mask_name(mask: Mask) -> str:
    """Name a mask: full, causal, window, or the kind of a pattern."""
    if mask == FULL:
        return "full"
    if isinstance(mask, KeyInterval) and mask.chunk is None:
        return "causal" if mask.window is None else "window"
    return "pattern" if isinstance(mask, TiledMask) else type(mask).__name__.lower()


def validated_rows(architecture: str) -> int:
    """Count the published figures that suites compare with an architecture."""
    return sum(stratum.rows for stratum in _measured().get(architecture, ()))


@cache
def _measured() -> Mapping[str, tuple[MeasuredStratum, ...]]:
    written: Mapping[str, list[dict[str, Any]]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return {name: tuple(MeasuredStratum(**stratum) for stratum in strata) for name, strata in written.items()}
