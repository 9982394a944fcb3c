"""The GNA simulator: what a neighborhood pattern can give on given tiles. Modules are imported when they are used."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import submodules

if TYPE_CHECKING:
    from cascadesim.simulator.gna import comparison, neighborhood, pattern_report, plot, render, report

__all__ = ["comparison", "neighborhood", "pattern_report", "plot", "render", "report"]
__getattr__ = submodules(__name__, *__all__)
