"""Where the cycle level of a phase of attention lies: between its closed form, a bound, and an estimate from above.

The estimate holds what no closed form of SpAtten covers exactly (`stream_allowance`, `program_bound`).
"""

from __future__ import annotations

from dataclasses import replace

from cascadesim.accelerators.cycle_range import CycleRange
from cascadesim.accelerators.protocol import Phase
from cascadesim.accelerators.spatten import program_bound
from cascadesim.accelerators.spatten.stream_allowance import most_cycles
from cascadesim.accelerators.spatten.stream_bound import stream_bound


def stating(phase: Phase) -> Phase:
    """The phase, which says of its cycle level what its heads or its program say."""

    def stated() -> CycleRange:
        least = phase.analytical_cycles
        return CycleRange(least, max(least, _most(phase)))

    return replace(phase, stated=stated)


def _most(phase: Phase) -> float:
    if phase.heads is not None:
        return most_cycles(stream_bound(phase.heads()))
    return 0 if phase.program is None else program_bound.most_cycles(phase.program())
