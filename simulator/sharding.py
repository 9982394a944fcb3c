"""A model that several devices divide: what one of them runs and stores.

With one device, everything. Knows accelerators and workloads; executes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.tensor_parallel import divided, divided_operations
from cascadesim.einsum_cascades.models.workload import Scope, Workload
from cascadesim.simulator.workloads import AnyWorkload


def devices(accelerator: Accelerator) -> int:
    """That divide a model among them."""
    return accelerator.capabilities.devices


def own_operations(
    workload: AnyWorkload, accelerator: Accelerator, scope: Scope, lower: Callable[[AnyWorkload], tuple[Operation, ...]]
) -> tuple[Operation, ...]:
    """What one device runs; of a whole model with the sums over all devices. `lower`: operations of a workload."""
    whole, own = lower(workload), own_workload(workload, accelerator)
    if own is workload:
        return whole
    parts = lower(own)
    if scope != "model" or not isinstance(workload, Workload):
        return parts
    return tuple(divided_operations(workload, whole, parts))


def own_workload(workload: AnyWorkload, accelerator: Accelerator) -> AnyWorkload:
    """What one device computes and stores of the model. Raises CascadeSimError where it does not divide."""
    return divided(workload, devices(accelerator)) if isinstance(workload, Workload) else workload


def notes(workload: AnyWorkload, accelerator: Accelerator) -> tuple[str, ...]:
    """Whose figures a report shows."""
    if devices(accelerator) == 1:
        return ()
    parameters = own_workload(workload, accelerator).parameters() or 0
    return (
        f"tensor parallelism over {devices(accelerator)} devices: time, units, traffic and memory are those of each; "
        f"it has {parameters / 1e9:,.2f} G parameters",
    )
