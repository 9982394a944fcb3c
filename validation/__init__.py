"""Models against published figures and measurements; what a command alone needs is imported when it is asked for."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import submodules

if TYPE_CHECKING:
    from cascadesim.validation import render, suites

__all__ = ["render", "suites"]
__getattr__ = submodules(__name__, *__all__)
