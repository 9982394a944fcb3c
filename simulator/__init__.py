"""When it runs: simulation of an accelerator's plans, exploration of designs, neighborhood attention, views, commands.

No accelerator is named here. The functions `simulate` and `explore` have modules of their names in this package, so
`cascadesim` is where they are re-exported; the names below are imported when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascadesim.simulator.engine.engine import Schedule, run
    from cascadesim.simulator.report import Report
    from cascadesim.simulator.request import Request
    from cascadesim.simulator.simulate import reports

__all__ = ["Report", "Request", "Schedule", "reports", "run"]
_WHERE = {
    "Report": "cascadesim.simulator.report",
    "Request": "cascadesim.simulator.request",
    "Schedule": "cascadesim.simulator.engine.engine",
    "reports": "cascadesim.simulator.simulate",
    "run": "cascadesim.simulator.engine.engine",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
