"""What a run must hold in the memory of each device, kind by kind; runs that do not fit are refused.

Weights and KV cache are exact, in the types that the accelerator stores them in. Activations are a bound: the residual
stream beside the inputs and outputs of whichever operation has most. assumed: an engine frees everything else, and
kernels that write scores work through the heads of a sequence one after another. Executes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod

from cascadesim.accelerators.protocol import Accelerator, Stored
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.projections import Phase
from cascadesim.einsum_cascades.models.workload import Scope, Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.report import Memory
from cascadesim.simulator.sharding import devices, own_workload
from cascadesim.simulator.workloads import AnyWorkload

# assumed: a CUDA context takes about half of it, work space of libraries and buffers of communication the rest; engines
# set 10 % of the memory aside for all of this, which on 80 GB is more
WORKSPACE_BYTES = 1_000_000_000
RESULT_BYTES = 2  # of one number that a product writes, at least: narrower products give 16-bit results


def memory(
    workload: AnyWorkload, accelerator: Accelerator, scope: Scope, length: int, batch: int, phase: Phase
) -> Memory | None:
    """None where the accelerator states no memory, or the workload nothing of what it holds."""
    capacity = accelerator.capabilities.memory_bytes
    if capacity is None or not isinstance(workload, Workload):
        return None
    own, stored = own_workload(workload, accelerator), accelerator.capabilities.stored
    assert isinstance(own, Workload)
    cache = own.kv_cache_bytes(length, batch, stored.kv) if own.generates else 0
    if scope == "attention":
        return Memory(0, cache, 0, 0, capacity)
    experts = own.expert_parameters()
    weights = ceil((own.parameters() - experts) * stored.weights + experts * stored.experts)
    live = ceil(_live_bytes(own, stored, length, batch, phase))
    return Memory(weights, cache, live, WORKSPACE_BYTES, capacity)


def refuse_what_does_not_fit(
    workload: AnyWorkload, accelerator: Accelerator, scope: Scope, length: int, batch: int, phase: Phase
) -> None:
    """A whole model with all it holds, attention alone with its KV cache; the products of one layer are not checked."""
    _refuse_types_of_nothing(workload, accelerator)

    def of(sequences: int) -> Memory | None:
        return memory(workload, accelerator, scope, length, sequences, phase)

    needed = None if scope == "linear" else of(batch)
    if needed is None or needed.fits:
        return
    most = _largest(lambda sequences: (held := of(sequences)) is not None and held.fits, batch)
    advice = f"the largest batch that fits is {most:,}" if most else "not even a batch of 1 fits"
    each = " on each device" if devices(accelerator) > 1 else ""
    raise CascadeSimError(
        f"{workload.name}: {_sum(needed)} exceed the {needed.capacity / 1e9:,.2f} GB of {accelerator.name}{each}; "
        f"{advice}"
    )


def _refuse_types_of_nothing(workload: AnyWorkload, accelerator: Accelerator) -> None:
    """A type that was chosen for what the model does not have would change nothing."""
    chosen = accelerator.capabilities.chosen_types
    if "kv" in chosen and not workload.generates:
        raise CascadeSimError(f"types.kv: {workload.name} keeps no KV cache; types.attention is that of its keys, too")
    if "experts" in chosen and not (isinstance(workload, Workload) and workload.expert_parameters()):
        raise CascadeSimError(f"types.experts: {workload.name} has no routed experts; types.weights is that of others")


def _sum(held: Memory) -> str:
    parts = {"weights": held.weights, "KV cache": held.kv, "activations": held.activations, "workspace": held.workspace}
    named = " + ".join(f"{name} {size / 1e9:,.2f}" for name, size in parts.items() if size)
    return f"{named}{f' = {held.total / 1e9:,.2f}' if held.weights else ''} GB"


def _largest(fits: Callable[[int], bool], beyond: int) -> int:
    """The largest batch below `beyond` that fits, 0 for none: what is held never shrinks with the batch."""
    low, high = 0, beyond
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _live_bytes(own: Workload, stored: Stored, length: int, batch: int, phase: Phase) -> float:
    operations = own.operations(sequence_length=length, batch=batch, phase=phase)
    queries = 1 if phase == "decode" else length + (own.text_length or 0)
    widest = max(layer.hidden or own.hidden for layer in own.layers.values())
    stream = batch * queries * widest * stored.activations
    return stream + max(_around(operation, stored) for operation in operations)


def _around(operation: Operation, stored: Stored) -> float:
    """Bytes of what one operation reads and writes besides weights and cache."""
    size = dict(operation.extents)
    results = max(stored.activations, RESULT_BYTES)
    if operation.kind == "linear":
        return size["x"] * size["r"] * (size["k"] * stored.activations + size["n"] * results)
    if operation.kind == "attention":
        keys = size["m"] * size["h"] // size["g"] if operation.operand == "activations" else 0
        rows = size["b"] * (size["h"] * size["p"] + keys)
        return rows * size["e"] * stored.activations + rows * size["f"] * results
    cascade = operation.cascade
    accesses = [access for einsum in cascade.einsums for access in (einsum.output, *einsum.inputs)]
    outside = {access.tensor: access.ranks for access in accesses if access.tensor in cascade.inputs + cascade.outputs}
    return sum(prod(size[rank] for rank in ranks) for ranks in outside.values()) * stored.activations
