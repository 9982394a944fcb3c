"""How long attention and whole transformers take on an accelerator, and what bounds them.

    import cascadesim as cs
    cs.simulate("h100-sxm", "llama", phase="decode", batch=64, seq_len="8K")

The names below are imported when they are used; the functions of commands are those of `simulator.api`. Everything else
is found by its folder: `einsum_cascades` (what is computed), `accelerators` (where it runs), `simulator` (when it runs),
`kernels` and `validation`.
"""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import exports

if TYPE_CHECKING:
    from cascadesim.accelerators.catalogue import load as load_accelerator
    from cascadesim.einsum_cascades.analysis.evaluate import evaluate
    from cascadesim.einsum_cascades.models.workload import load_workload
    from cascadesim.einsum_cascades.notation.errors import CascadeSimError
    from cascadesim.einsum_cascades.notation.notation import cascade
    from cascadesim.simulator.api import explore, generate, gna, passes, simulate, validate
    from cascadesim.simulator.api import map_cascade as map
    from cascadesim.simulator.report import Report
    from cascadesim.simulator.result import Result

_SECTIONS = ("architectures", "workloads", "cascades", "mappings", "patterns", "spaces", "kernels", "devices", "suites")
_COMMANDS = ("explore", "generate", "gna", "passes", "simulate", "validate", *(f"list_{section}" for section in _SECTIONS))
__all__ = [
    "CascadeSimError", "Report", "Result", "cascade", "evaluate", "explore", "generate", "gna", "load_accelerator",
    "load_workload", "map", "passes", "simulate", "validate",
]  # fmt: skip
__version__ = "1.0.0rc1"
__getattr__ = exports(__name__, {
    "CascadeSimError": "einsum_cascades.notation.errors", "Report": "simulator.report", "Result": "simulator.result",
    "cascade": "einsum_cascades.notation.notation", "evaluate": "einsum_cascades.analysis.evaluate",
    "load_accelerator": "accelerators.catalogue:load", "load_workload": "einsum_cascades.models.workload",
    "map": "simulator.api:map_cascade", **dict.fromkeys(_COMMANDS, "simulator.api"),
})  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, *_COMMANDS, "__version__"]
