"""What a report may say of its own error: `python -m cascadesim.validation.uncertainty` writes it for the simulator.

The figure of an architecture is the largest relative error of its latency over the published rows, at the fidelity
and accounting that are the default (cycle level, physical), as the suites `fusemax-cycle` and `spatten-rtl-streams`
find it; of a GPU, the median error of measured calls. Architectures that nothing was published for stay without one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from cascadesim.validation.claims import FUSEMAX_CYCLE
from cascadesim.validation.claims_spatten import SPATTEN_RTL_STREAMS
from cascadesim.validation.cli import verdicts_of
from cascadesim.validation.compare import Errors
from cascadesim.validation.gpu_uncertainty import of_gpus

DIGITS = 2  # of the figure: an error estimate deserves no more
RTL_CONFIGURATIONS = {"m512c16": "spatten", "m64c2": "spatten-1-8"}  # of the RTL's streams -> our preset


def measured() -> dict[str, Mapping[str, object]]:
    """architecture -> its latency error and what that rests on."""
    found: dict[str, Errors] = {}
    for verdict in verdicts_of((FUSEMAX_CYCLE.name,)):
        if verdict.claim.metric == "latency_s" and verdict.claim.measure == "deviation":
            found |= {str(part.value): part.errors for part in verdict.strata if part.column == "architecture"}
    basis = f"validation suite {FUSEMAX_CYCLE.name}, attention, largest of {{rows}} published rows"
    entries = {architecture: _entry(errors, basis) for architecture, errors in found.items()}
    return dict(sorted({**entries, **_of_streams(), **of_gpus(DIGITS)}.items()))


def _of_streams() -> dict[str, dict[str, object]]:
    """Total cycles of streams of single queries; where many share their keys nothing was measured."""
    basis = f"validation suite {SPATTEN_RTL_STREAMS.name}, single queries, largest of {{rows}} streams"
    (verdict,) = (one for one in verdicts_of((SPATTEN_RTL_STREAMS.name,)) if one.claim.metric == "total")
    return {
        RTL_CONFIGURATIONS[str(part.value)]: _entry(part.errors, basis)
        for part in verdict.strata if part.column == "config" and part.value in RTL_CONFIGURATIONS
    }  # fmt: skip


def _entry(errors: Errors, basis: str) -> dict[str, object]:
    basis = basis.format(rows=errors.rows)
    return {"latency": float(f"{errors.maximum:.{DIGITS}g}"), "basis": basis}


def text(entries: Mapping[str, Mapping[str, object]]) -> str:
    return json.dumps(entries, indent=1) + "\n"


def file() -> Path:
    """Package data of the simulator."""
    from cascadesim.simulator import report

    return Path(report.__file__).with_name("uncertainty.json")


if __name__ == "__main__":
    file().write_text(text(measured()), encoding="utf-8")
    sys.exit(0)
