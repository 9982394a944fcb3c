"""When it runs: simulation of an accelerator's plans, exploration of designs, neighborhood attention, views, commands.

No accelerator is named here. The functions `simulate` and `explore` have modules of their names in this package, so
`cascadesim` is where they are re-exported; the names below are imported when they are used.
"""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import exports

if TYPE_CHECKING:
    from cascadesim.simulator.engine.engine import Schedule, run
    from cascadesim.simulator.report import Report
    from cascadesim.simulator.request import Request
    from cascadesim.simulator.simulate import reports

__all__ = ["Report", "Request", "Schedule", "reports", "run"]
__getattr__ = exports(__name__, {
    "Report": "simulator.report", "Request": "simulator.request", "Schedule": "simulator.engine.engine",
    "reports": "simulator.simulate", "run": "simulator.engine.engine",
})  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)
