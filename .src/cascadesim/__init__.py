"""How long attention and whole transformers take on an accelerator, and what bounds them.

The names below are imported when they are used. Everything else is found by its folder: `einsum_cascades` (what is
computed), `accelerators` (where it runs), `simulator` (when it runs), `kernels` and `validation`.
"""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import exports

if TYPE_CHECKING:
    from cascadesim.accelerators.catalogue import load as load_accelerator
    from cascadesim.einsum_cascades.analysis.evaluate import evaluate
    from cascadesim.einsum_cascades.models.workload import load_workload
    from cascadesim.einsum_cascades.notation.notation import cascade
    from cascadesim.simulator.explore.explore import explore
    from cascadesim.simulator.report import Report
    from cascadesim.simulator.simulate import simulate

__all__ = ["Report", "cascade", "evaluate", "explore", "load_accelerator", "load_workload", "simulate"]
__version__ = "0.1.0"
__getattr__ = exports(__name__, {
    "Report": "simulator.report", "cascade": "einsum_cascades.notation.notation",
    "evaluate": "einsum_cascades.analysis.evaluate", "explore": "simulator.explore.explore",
    "load_accelerator": "accelerators.catalogue:load", "load_workload": "einsum_cascades.models.workload",
    "simulate": "simulator.simulate",
})  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
