"""A model's attention layers under a pruning schedule: each kind of layer becomes an operation of its own.

Layers of equal tokens, heads and values are one kind. Knows schedules and operations; knows no sizes of hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from cascadesim.accelerators.spatten.spec import Formats, Pruning, SpattenSpec
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.pruning_schedules import SCHEDULES, PruningSchedule, kept, published_schedule

STORED = (4, 6, 8)  # bits that the format has; wider keys run as 8 bits and 4 more (TestSpAtten)


def schedule_for(pruning: Pruning, workload: str) -> PruningSchedule | None:
    """Raises UnknownNameError on a schedule that does not exist."""
    if pruning.schedule == "none":
        return None
    if pruning.schedule == "published":
        return SCHEDULES.get(workload)
    return published_schedule(pruning.schedule)


def formats(schedule: PruningSchedule, given: Formats) -> Formats:
    """Bits of a schedule as the design stores them."""
    wide = schedule.key_bits not in STORED
    bits = {
        "key_bits": 8 if wide else schedule.key_bits,
        "value_bits": schedule.value_bits if schedule.value_bits in STORED else 8,
        "low_bit_share": 1.0 if wide else schedule.low_bit_share,
    }
    return given.model_copy(update=bits)


def pruned(operation: Operation, schedule: PruningSchedule | None, spec: SpattenSpec) -> Iterator[Operation]:
    """The operation as each kind of layer runs it; itself where nothing is pruned."""
    layers = schedule.layers if schedule is not None else 1
    other = schedule is not None and operation.count not in (1, layers)
    if operation.kind != "attention" or operation.trace is not None or other:
        yield operation
        return
    size = dict(operation.extents)
    kinds = groupby(range(layers), lambda layer: _kept(size, schedule, layer, spec.pruning))
    for (tokens, heads, values), members in kinds:
        queries = tokens if size["p"] == size["m"] else size["p"]  # dropped tokens ask nothing either
        extents = {**size, "h": heads, "m": tokens, "p": queries, "k": values}
        found, numbers = replace(operation, extents=tuple(extents.items())), list(members)
        if schedule is not None:
            span = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
            count = len(numbers) if operation.count > 1 else 1
            found = replace(
                found, name=f"{operation.name} {span}", layer=f"{operation.layer}:{span}", count=count
            )
        yield found


def _kept(
    size: Mapping[str, int], schedule: PruningSchedule | None, layer: int, pruning: Pruning
) -> tuple[int, int, int]:
    """Tokens, heads and values of a layer: the schedule's counts, or the shares that the user gave."""
    tokens, heads, values = size["m"], size["h"], size["m"]
    if schedule is not None:
        tokens, values = schedule.tokens(layer, tokens), schedule.values(layer, tokens)
        heads = min(heads, schedule.heads[layer]) if size["g"] == 1 else heads
    tokens = tokens if pruning.token_keep is None else kept(pruning.token_keep, size["m"])
    heads = heads if pruning.head_keep is None else size["g"] * kept(pruning.head_keep, size["h"] // size["g"])
    if pruning.value_keep is not None or (pruning.token_keep is not None and schedule is not None):
        share = pruning.value_keep if pruning.value_keep is not None or schedule is None else schedule.value_keep
        values = kept(share or 1.0, tokens)
    return tokens, heads, min(values, tokens)
