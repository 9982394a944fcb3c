"""Results as tables, figures, traces and files; its modules are imported when they are used."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import submodules

if TYPE_CHECKING:
    from cascadesim.simulator.views import describe, front_plot, graph_plot, mapping_plot, plot, render, trace

__all__ = ["describe", "front_plot", "graph_plot", "mapping_plot", "plot", "render", "trace"]
__getattr__ = submodules(__name__, *__all__)
