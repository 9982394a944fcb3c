"""The command line; what a command alone needs is imported when it is asked for."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import submodules

if TYPE_CHECKING:
    from cascadesim.simulator.cli import listing, run, settings

__all__ = ["listing", "run", "settings"]
__getattr__ = submodules(__name__, *__all__)
