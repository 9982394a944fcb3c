"""A model that several devices divide: what one of them runs, and what it must hold in its memory.

With one device, everything. Knows accelerators and workloads; executes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.einsum_cascades.tensor_parallel import divided, divided_operations
from cascadesim.einsum_cascades.workload import Scope, Workload
from cascadesim.simulator.workloads import AnyWorkload

WORD_BYTES = 2


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


def cache_bytes(workload: AnyWorkload, accelerator: Accelerator, length: int, batch: int) -> int:
    """KV cache of one device."""
    own = own_workload(workload, accelerator)
    return own.kv_cache_bytes(length, batch) if own.generates else 0


def refuse_what_does_not_fit(workload: AnyWorkload, accelerator: Accelerator, length: int, batch: int) -> None:
    """A KV cache that exceeds the memory of the accelerator."""
    cache = cache_bytes(workload, accelerator, length, batch)
    memory = accelerator.capabilities.memory_bytes
    if memory is not None and cache > memory:
        raise CascadeSimError(
            f"{workload.name}: a KV cache of {cache / 1e9:,.1f} GB{_each(accelerator)} exceeds the "
            f"{memory / 1e9:,.0f} GB of {accelerator.name}; give a smaller batch or length"
        )


def notes(
    workload: AnyWorkload, accelerator: Accelerator, scope: Scope, length: int, batch: int
) -> tuple[str, ...]:
    """Whose figures a report shows; parameters and KV cache together where they exceed the memory."""
    own, cache = own_workload(workload, accelerator), cache_bytes(workload, accelerator, length, batch)
    found: list[str] = []
    if devices(accelerator) > 1:
        found.append(
            f"tensor parallelism over {devices(accelerator)} devices: time, units and traffic are those of each; it "
            f"has {(own.parameters() or 0) / 1e9:,.2f} G parameters and {cache / 1e9:,.2f} GB of KV cache"
        )
    needed = cache + WORD_BYTES * (own.parameters() or 0)
    memory = accelerator.capabilities.memory_bytes
    if scope == "model" and memory is not None and needed > memory:
        found.append(
            f"parameters and KV cache take {needed / 1e9:,.1f} GB of {memory / 1e9:,.0f} GB of memory"
            f"{_each(accelerator)}"
        )
    return tuple(found)


def _each(accelerator: Accelerator) -> str:
    return " on each device" if devices(accelerator) > 1 else ""
