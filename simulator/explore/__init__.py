"""Design-space exploration: spaces, search, fronts, their pages and plots. Modules are imported when they are used."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import submodules

if TYPE_CHECKING:
    from cascadesim.simulator.explore import explore, plot, results

__all__ = ["explore", "plot", "results"]
__getattr__ = submodules(__name__, *__all__)
