"""A model that several devices divide: what each of them runs and must hold; runs that do not fit are refused.

With one device, everything. Weights and KV cache are exact, in the types that the accelerator stores them in.
Activations are a bound: the residual stream beside the inputs and outputs of whichever operation has most. assumed: an
engine frees everything else, and kernels that write scores work through the heads of a sequence one after another.
Executes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod

from cascadesim.accelerators.protocol import Stored
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.tensor_parallel import divided, divided_operations
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.report import MemoryUse
from cascadesim.simulator.request import AnyWorkload, Request

# assumed: a CUDA context takes about half of it, work space of libraries and buffers of communication the rest; engines
# set 10 % of the memory aside for all of this, which on 80 GB is more
WORKSPACE_BYTES = 1_000_000_000
RESULT_BYTES = 2  # of one number that a product writes, at least: narrower products give 16-bit results


def own_operations(request: Request) -> tuple[Operation, ...]:
    """List what one device runs; a whole model has the sums over all devices beside it."""

    def lowered(workload: AnyWorkload) -> tuple[Operation, ...]:
        return workload.operations(sequence_length=request.sequence_length, batch=request.batch, phase=request.phase,
                                   scope=request.scope, attention=request.cascade)  # fmt: skip

    whole, own = lowered(request.workload), _own_workload(request)
    if own is request.workload:
        return whole
    if request.scope != "model" or not isinstance(request.workload, Workload):
        return lowered(own)
    return tuple(divided_operations(request.workload, whole, lowered(own)))


def _own_workload(request: Request) -> AnyWorkload:
    """Divide the model among the devices. Raises CascadeSimError where it does not divide."""
    workload = request.workload
    return divided(workload, request.accelerator.capabilities.devices) if isinstance(workload, Workload) else workload


def notes(request: Request) -> tuple[str, ...]:
    """Say whose figures a report shows."""
    devices = request.accelerator.capabilities.devices
    if devices == 1:
        return ()
    parameters = _own_workload(request).parameters() or 0
    return (
        f"tensor parallelism over {devices} devices: time, units, traffic and memory are those of each; "
        f"it has {parameters / 1e9:,.2f} G parameters",
    )


def memory(request: Request) -> MemoryUse | None:
    """Add up what a device holds of the whole model; attention alone holds its KV cache alone.

    Returns None where the accelerator states no memory, or the workload nothing of what it holds.
    """
    capacity = request.accelerator.capabilities.memory_bytes
    own, stored = _own_workload(request) if capacity is not None else None, request.accelerator.capabilities.stored
    if capacity is None or not isinstance(own, Workload):
        return None
    cache = own.kv_cache_bytes(request.length, request.sequences, stored.kv) if own.generates else 0
    if request.scope == "attention":
        return MemoryUse(0, cache, 0, 0, capacity)
    experts = own.expert_parameters()
    weights = ceil((own.parameters() - experts) * stored.weights + experts * stored.experts)
    operations = own.operations(sequence_length=request.length, batch=request.sequences, phase=request.phase)
    queries = 1 if request.phase == "decode" else request.length + (own.text_length or 0)
    widest = max(layer.hidden or own.hidden for layer in own.layers.values())
    stream = request.sequences * queries * widest * stored.activations
    live = ceil(stream + max(_operand_bytes(operation, stored) for operation in operations))
    return MemoryUse(weights, cache, live, WORKSPACE_BYTES, capacity)


def _operand_bytes(operation: Operation, stored: Stored) -> float:
    """Count the bytes that one operation reads and writes besides weights and cache."""
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


def refuse_what_does_not_fit(request: Request) -> None:
    """Check a whole model with all it holds, and attention with its KV cache; products of one layer are not checked.

    Raises CascadeSimError, also for a type that was chosen for what the model does not have: it would change nothing.
    """
    workload, accelerator = request.workload, request.accelerator
    chosen = accelerator.capabilities.chosen_types
    if "kv" in chosen and not workload.generates:
        raise CascadeSimError(f"types.kv: {workload.name} keeps no KV cache; types.attention is that of its keys, too")
    if "experts" in chosen and not (isinstance(workload, Workload) and workload.expert_parameters()):
        raise CascadeSimError(f"types.experts: {workload.name} has no routed experts; types.weights is that of others")
    needed = None if request.scope == "linear" else memory(request)
    if needed is None or needed.fits:
        return
    fitting, too_many = 0, request.sequences  # what is held never shrinks with the batch
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        held = memory(replace(request, batch=middle))
        fitting, too_many = (middle, too_many) if held is not None and held.fits else (fitting, middle)
    advice = f"the largest batch that fits is {fitting:,}" if fitting else "not even a batch of 1 fits"
    each = " on each device" if accelerator.capabilities.devices > 1 else ""
    named = " + ".join(f"{name} {size / 1e9:,.2f}" for name, size in needed.parts.items() if size)
    total = f" = {needed.total / 1e9:,.2f}" if needed.weights else ""
    raise CascadeSimError(
        f"{workload.name}: {named}{total} GB exceed the {needed.capacity / 1e9:,.2f} GB of {accelerator.name}{each}; "
        f"{advice}"
    )
