"""The claims ledger: published figures of attention systems beside our predictions. Imported when it is asked for."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import submodules

if TYPE_CHECKING:
    from cascadesim.validation.systems import ledger, views

__all__ = ["ledger", "views"]
__getattr__ = submodules(__name__, *__all__)
