"""Our kernels: static counts, gates, records, and what the model says of them."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import submodules

if TYPE_CHECKING:
    from cascadesim.validation.kernels import record_claims, records

__all__ = ["record_claims", "records"]
__getattr__ = submodules(__name__, *__all__)
