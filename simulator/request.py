"""What is asked of a simulation, what each device then runs and must hold, and what cannot be: refused, nothing is run.

A workload is a model, or the file of a pruning trace, which has its own lengths and phase and is attention only. A
model divided among devices: each holds a part of every matrix; heads, widths of feed-forward parts and the vocabulary
are divided (Megatron-LM, arXiv 1909.08053); a product over a divided depth leaves a part of its sum on every device,
which an all-reduce adds up. Norms and latent vectors are computed everywhere. Not modelled: the sum of embeddings, and
bringing scores of the vocabulary together.

Weights and KV cache are exact, as the accelerator stores them. Activations are a bound: the residual stream beside
what the largest operation reads and writes. assumed: an engine frees everything else, kernels that write scores work
through the heads of a sequence one after another, and what a sparse pattern adds works in slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from cascadesim import einsum_cascades
from cascadesim.accelerators.protocol import Accelerator, Accounting, Prepares, Stored, TakesMappings
from cascadesim.einsum_cascades.models.layers import Layer, Phase
from cascadesim.einsum_cascades.models.operation import PATTERN, Operation, TiledMask
from cascadesim.einsum_cascades.models.sections import RECURRENCE, Attention, Recurrence
from cascadesim.einsum_cascades.models.workload import Scope, Workload, is_trace, load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, listed, shortened
from cascadesim.einsum_cascades.texts import transformer
from cascadesim.simulator.report import MemoryUse

if TYPE_CHECKING:
    from cascadesim.einsum_cascades import TracedWorkload

AnyWorkload: TypeAlias = "Workload | TracedWorkload"
Fidelity: TypeAlias = Literal["analytical", "cycle"]
Loaded = TypeVar("Loaded")
_MOST_POINTS = 2**62  # of one operation, so that counts fit the 64 bits of arrays


@dataclass(frozen=True)
class Request:
    """One simulation. None stands for the workload's own length or batch, and the accelerator's own attention."""

    workload: AnyWorkload
    accelerator: Accelerator
    sequence_length: int | None = None
    batch: int | None = None
    phase: Phase = "prefill"
    scope: Scope = "model"
    fidelity: Fidelity = "cycle"
    accounting: Accounting = "physical"
    attention: str | None = None
    settings: tuple[str, ...] = ()  # what the user changed, to be said in the report

    @property
    def cascade(self) -> str:
        return self.attention or self.accelerator.attention

    @property
    def length(self) -> int:
        return self.workload.sequence_length if self.sequence_length is None else self.sequence_length

    @property
    def sequences(self) -> int:
        return self.workload.batch if self.batch is None else self.batch

    @property
    def machine(self) -> Accelerator:
        """Prepare the accelerator for the workload, where it runs known ones in its own way."""
        if isinstance(self.accelerator, Prepares):
            return self.accelerator.prepared((), self.workload.name)[0]
        return self.accelerator

    def layers(self, kinds: str | None) -> int:
        """Count the layers of the kinds `a+b`, 5 to 10 of `a:5-10`, or all of the model for None."""
        if kinds is not None and ":" in kinds:
            first, _, last = kinds.rpartition(":")[2].partition("-")
            return int(last or first) - int(first) + 1
        chosen = self.workload.layers if kinds is None else kinds.split("+")
        return sum(self.workload.layers[name].count for name in chosen)


def load_any_workload(name_or_path: str | AnyWorkload, settings: Sequence[str] = ()) -> AnyWorkload:
    """Read a model by name or file, or a pruning trace; one that is loaded stays as it is.

    Raises SpecError or UnknownNameError where it cannot.
    """
    if not isinstance(name_or_path, str):
        return as_it_is(name_or_path, settings)
    if not is_trace(name_or_path):
        return load_workload(name_or_path, settings)
    if settings:
        raise SpecError(f"--set {settings[0]}: a pruning trace has no such field; it is read as its rows say")
    return einsum_cascades.workload_from_rows(name_or_path)


def as_it_is(loaded: Loaded, settings: Sequence[str]) -> Loaded:
    """Pass on what has been loaded. Raises SpecError for settings, which are made when a file is read."""
    if settings:
        raise SpecError(f"--set {shortened(settings[0])}: goes with a name or a file; give it where this was loaded")
    return loaded


def refuse_unused_mapping(operations: Sequence[Operation], accelerator: Accelerator) -> None:
    """Raises CascadeSimError for a mapping, or a search for one, that no operation of the run would use."""
    if not isinstance(accelerator, TakesMappings):
        return
    chosen, run = accelerator.mapping, {operation.cascade.name: operation.kind for operation in operations}
    if chosen is not None and chosen.cascade not in run:
        raise CascadeSimError(f"{chosen.name} is a mapping for {chosen.cascade}; this run has {listed(run)}")
    if accelerator.searches and "attention" not in run.values():
        raise CascadeSimError("--mapping search maps attention; this run has none")


def refuse_impossible(operation: Operation, accelerator: Accelerator) -> None:
    """Raises CascadeSimError for counts beyond 64 bits, for a trace where models run, for patterns without a list."""
    points = prod(size for rank, size in operation.extents if rank not in ("f", "g"))  # f goes with e, g is within h
    if points > _MOST_POINTS:
        sizes = " ".join(f"{rank}={size}" for rank, size in operation.extents)
        raise CascadeSimError(f"{operation.name}: {points:.1e} multiply-accumulates ({sizes}); at most 2^62 count")
    if operation.trace is not None and not accelerator.capabilities.traces:
        raise CascadeSimError(
            f"{operation.trace.source}: {accelerator.name} runs models; pruning traces are for accelerators that run "
            "heads one by one"
        )
    _refuse_pattern(operation, accelerator)


def _refuse_pattern(operation: Operation, accelerator: Accelerator) -> None:
    """Raises CascadeSimError for a pattern on a machine without lists of tiles, or without passes that make them."""
    mask, takes = operation.mask, accelerator.capabilities.patterns
    if takes == "none" and isinstance(mask, TiledMask):
        raise CascadeSimError(
            f"{mask}: {accelerator.name} walks the keys in order and has no list of tiles to visit; give a window, a "
            "chunk or a neighborhood, or a machine whose kernels take such a list"
        )
    if takes != "all" and (operation.name.startswith(PATTERN) or (isinstance(mask, TiledMask) and mask.by_data)):
        raise CascadeSimError(
            f"{operation.name}: {accelerator.name} has no passes that choose blocks by the data or move rows by index; "
            "give a pattern that is known before"
        )


# assumed: a CUDA context takes about half of it, work space of libraries and buffers of communication the rest; engines
# set 10 % of the memory aside for all of this, which on 80 GB is more
WORKSPACE_BYTES = 1_000_000_000
NODE_DEVICES = 8  # of an HGX board, A100 to B300 (datasheets); racks of GB200 and GB300 link 72. For a note alone
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


def divided(workload: Workload, devices: int) -> Workload:
    """What each of `devices` computes and stores. Raises CascadeSimError where heads or widths do not divide.

    Key heads are repeated on several devices where there are fewer than devices. The vocabulary is padded.
    """
    if devices == 1:
        return workload
    problems = tuple(dict.fromkeys(_problems(workload, devices)))
    if problems:
        raise CascadeSimError(f"{workload.name}: no tensor parallelism over {devices} devices: {'; '.join(problems)}")
    experts = workload.experts and workload.experts.model_copy(update={"width": workload.experts.width // devices})
    vocabulary = workload.vocabulary and -(-workload.vocabulary // devices)
    layers = {name: layer.model_copy(update=_sections(layer, devices)) for name, layer in workload.layers.items()}
    return workload.model_copy(update={
        **_sections(workload, devices), "experts": experts, "vocabulary": vocabulary, "layers": layers})


def divided_operations(
    workload: Workload, whole: Sequence[Operation], parts: Sequence[Operation]
) -> Iterator[Operation]:
    """`parts` are `whole` on one device of several; with an all-reduce after what leaves parts of sums.

    The parts of experts are weighted and added first, with those of shared ones, so that one all-reduce serves all; so
    are those of attention and feed-forward that run side by side.
    """
    waiting: list[Operation] = []
    for one, part in zip(whole, parts, strict=True):
        parallel = part.layer in workload.layers and workload.layers[part.layer].parallel
        if part.cascade == transformer.SCALED_ADD and workload.experts is not None:
            waiting = [_all_reduce(part, part.extent("r") // workload.experts.chosen, part.extent("d"))]
        elif part.kind == "linear" and part.extent("k") < one.extent("k") and part.extent("x") == 1:
            waiting = [*(() if parallel else waiting), _all_reduce(part, part.extent("r"), part.extent("n"))]
        elif part.kind != "linear" and (not parallel or part.cascade == transformer.PARALLEL_RESIDUAL):
            yield from waiting
            waiting = []
        yield part
    yield from waiting


def _all_reduce(after: Operation, rows: int, width: int) -> Operation:
    return replace(after, name=f"{after.name}_all_reduce", kind="collective", cascade=transformer.ALL_REDUCE,
                   extents=(("r", rows), ("d", width)))  # fmt: skip


def _sections(part: Workload | Layer, devices: int) -> dict[str, Any]:
    attention = part.attention
    if isinstance(attention, Attention):
        attention = attention.model_copy(update={
            "heads": attention.heads // devices,
            "kv_heads": attention.kv_heads and max(attention.kv_heads // devices, 1)})
    ffn = part.ffn and part.ffn.model_copy(update={"width": part.ffn.width // devices})
    found: dict[str, Any] = {"attention": attention, "ffn": ffn}
    if isinstance(part, Layer) and (recurrence := part.recurrence) is not None:
        found["recurrence"] = recurrence.model_copy(update={
            "heads": recurrence.heads // devices, "qk_heads": max(recurrence.key_heads // devices, 1)})
    return found


def _problems(workload: Workload, devices: int) -> Iterator[str]:
    """What does not divide in the sections of the model, and in those that a kind of layer has of its own."""
    sections: tuple[Workload | Layer, ...] = (workload, *workload.layers.values())
    for part in sections:
        recurrence = part.recurrence if isinstance(part, Layer) else None
        for heads, key_heads in ((found.heads, found.key_heads) for found in (part.attention, recurrence)
                                 if isinstance(found, Attention | Recurrence)):  # fmt: skip
            if heads % devices:
                allowed = [count for count in range(2, heads + 1) if not heads % count]
                yield f"{heads} heads divide over {', '.join(map(str, allowed)) or 'none'}"
            elif key_heads % devices and devices % key_heads:
                yield f"{key_heads} key heads neither divide nor repeat evenly"
        if part.ffn is not None and part.ffn.width % devices:
            yield f"a feed-forward width of {part.ffn.width} does not divide"
    if workload.experts is not None and workload.experts.width % devices:
        yield f"experts of width {workload.experts.width} do not divide"


def _own_workload(request: Request) -> AnyWorkload:
    """Divide the model among the devices. Raises CascadeSimError where it does not divide."""
    workload = request.workload
    return divided(workload, request.accelerator.capabilities.devices) if isinstance(workload, Workload) else workload


def notes_on_devices(request: Request) -> tuple[str, ...]:
    """Say whose figures a report shows."""
    devices = request.accelerator.capabilities.devices
    if devices == 1:
        return ()
    parameters = _own_workload(request).parameters() or 0
    whose = (f"tensor parallelism over {devices} devices: time, units, traffic and memory are those of each; "
             f"it has {parameters / 1e9:,.2f} G parameters")  # fmt: skip
    beyond = f"all {devices} devices are taken to be linked as those of one node, which mostly has {NODE_DEVICES}"
    return (whose, beyond) if devices > NODE_DEVICES else (whose,)


def memory(request: Request) -> MemoryUse | None:
    """Add up what a device holds of the whole model; attention alone holds its KV cache alone.

    Returns None where the accelerator states no memory, or the workload nothing of what it holds.
    """
    capacity = request.accelerator.capabilities.memory_bytes
    own, stored = _own_workload(request) if capacity is not None else None, request.accelerator.capabilities.stored
    if capacity is None or not isinstance(own, Workload):
        return None
    cache = own.kv_cache_bytes(request.length, request.sequences, stored.kv) if own.generates else 0
    kept = own.state_bytes(request.sequences, stored.activations)
    if request.scope == "attention":
        return MemoryUse(0, cache, *kept, 0, 0, capacity)
    experts, head = own.expert_parameters(), own.vocabulary_parameters()
    head_bytes = head * (stored.weights if stored.head is None else stored.head)
    weights = ceil((own.parameters() - experts - head) * stored.weights + experts * stored.experts + head_bytes)
    operations = own.operations(sequence_length=request.length, batch=request.sequences, phase=request.phase)
    queries = 1 if request.phase == "decode" else request.length + (own.text_length or 0)
    widest = max(layer.hidden or own.hidden for layer in own.layers.values())
    stream = request.sequences * queries * widest * stored.activations
    live = ceil(stream + max(_operand_bytes(operation, stored) for operation in operations
                             if not operation.name.startswith(PATTERN)))
    return MemoryUse(weights, cache, *kept, live, WORKSPACE_BYTES, capacity)


def _operand_bytes(operation: Operation, stored: Stored) -> float:
    """Count the bytes that one operation reads and writes besides weights and cache."""
    size = dict(operation.extents)
    results = max(stored.activations, RESULT_BYTES)
    if operation.kind == "linear":
        return size["x"] * size["r"] * (size["k"] * stored.activations + size["n"] * results)
    if operation.name == RECURRENCE:  # queries and keys of shared heads; values, results
        shared, own = size["h"] // size["g"] * size["e"], size["h"] * size["f"]
        return size["b"] * size["m"] * ((2 * shared + own) * stored.activations + own * results)
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
    if "head" in chosen and not (isinstance(workload, Workload) and workload.vocabulary_parameters()):
        raise CascadeSimError(f"types.head: {workload.name} has no vocabulary")
    needed = None if request.scope == "linear" else memory(request)
    if needed is not None:
        refuse_too_large(request, needed, lambda batch: memory(replace(request, batch=batch)))


def refuse_too_large(request: Request, needed: MemoryUse, needed_by: Callable[[int], MemoryUse | None]) -> None:
    """Raises CascadeSimError where `needed` exceeds the memory, with the largest batch that fits by `needed_by`."""
    if needed.fits:
        return
    machine, fitting = request.accelerator, largest_batch(request.sequences - 1, needed_by)
    advice = f"the largest batch that fits is {fitting:,}" if fitting else "not even a batch of 1 fits"
    each = " on each device" if machine.capabilities.devices > 1 else ""
    named = " + ".join(f"{name} {size / 1e9:,.2f}" for name, size in needed.parts.items() if size)
    total = f" = {needed.total / 1e9:,.2f}" if needed.weights else ""
    raise CascadeSimError(f"{request.workload.name}: {named}{total} GB exceed the {needed.capacity / 1e9:,.2f} GB of "
                          f"{machine.name}{each}; {advice}")


def largest_batch(most: int, needed_by: Callable[[int], MemoryUse | None]) -> int:
    """The largest batch up to `most` that fits, 0 where none does; what is held never shrinks with the batch.

    It grows almost evenly: what is tried is where a line through both ends meets the memory, at times the middle."""
    fitting, too_large, left, missing, tried, tries = 0, most + 1, 0, 0, 1, 0
    while too_large - fitting > 1:
        if (needed := needed_by(tried)) is None:
            return most
        if needed.fits:
            fitting, left = tried, needed.capacity - needed.total
        else:
            too_large, missing = tried, needed.total - needed.capacity
        tries, apart = tries + 1, too_large - fitting
        guess = apart // 2 if tries % 4 == 0 else apart * left // (left + missing) if missing else apart
        tried = min(max(fitting + guess, fitting + 1), too_large - 1)
    return fitting
