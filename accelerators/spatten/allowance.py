"""By how much the cycle level of a plan may exceed its closed form: what no closed form of SpAtten covers exactly.

The closed form is a bound from below; the sum of both is an estimate from above (`stream_allowance`, `program_bound`).
"""

from __future__ import annotations

from cascadesim.accelerators.protocol import Phase, Plan
from cascadesim.accelerators.spatten import program_bound
from cascadesim.accelerators.spatten.stream_allowance import most_cycles
from cascadesim.accelerators.spatten.stream_bound import stream_bound


def allowance_cycles(plan: Plan) -> float:
    """Cycles of one operation, over all phases; divided by the closed form, its relative uncertainty."""
    return sum(_allowance(phase) for phase in plan.phases)


def _allowance(phase: Phase) -> float:
    if phase.heads is not None:
        most = most_cycles(stream_bound(phase.heads()))
    elif phase.program is not None:
        most = program_bound.most_cycles(phase.program())
    else:
        return 0.0
    return max(0.0, most - phase.analytical_cycles)
