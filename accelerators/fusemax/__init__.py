"""FuseMax: one-pass attention on a 2D and a 1D array of processing elements."""

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import exports

if TYPE_CHECKING:
    from cascadesim.accelerators.fusemax.pruned import by_schedule, is_pruned, plan_pruned

__all__ = ["by_schedule", "is_pruned", "plan_pruned"]
__getattr__ = exports(__name__, dict.fromkeys(__all__, "accelerators.fusemax.pruned"))  # for texts that prune alone
