"""How long attention and whole transformers take on an accelerator, and what bounds them.

The names below are imported when they are used. Everything else is found by its folder: `einsum_cascades` (what is
computed), `accelerators` (where it runs), `simulator` (when it runs), `kernels` and `validation`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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
_WHERE = {
    "Report": "cascadesim.simulator.report:Report",
    "cascade": "cascadesim.einsum_cascades.notation.notation:cascade",
    "evaluate": "cascadesim.einsum_cascades.analysis.evaluate:evaluate",
    "explore": "cascadesim.simulator.explore.explore:explore",
    "load_accelerator": "cascadesim.accelerators.catalogue:load",
    "load_workload": "cascadesim.einsum_cascades.models.workload:load_workload",
    "simulate": "cascadesim.simulator.simulate:simulate",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
