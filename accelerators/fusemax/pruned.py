"""Pruned attention on FuseMax: the 1-pass cascade, and a second pass over the keys for the importance of every token.

The second pass is mapped as any text is. A workload with a published schedule runs both on the tokens that each layer
keeps. SpAtten (HPCA'21), section III; nothing is published of it on this array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from math import ceil

from cascadesim.accelerators.energy import DRAM_PJ_PER_BYTE
from cascadesim.accelerators.fusemax.accelerator import element_bytes, plan_attention
from cascadesim.accelerators.fusemax.spec import ARRAY_1D, DRAM, FuseMaxSpec
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.plan import plan_mapped
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.program import After, Program, Task, TileRun
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.pruning_schedules import SCHEDULES
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

SECOND_PASS = cascade("pruned-1pass-importance", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]         # again
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1,p])  # again, with the maximum as it was after this tile
    CM[h,m1,p]      = exp(RM[h,m1,p] - GM[h,p]) / RD[h,p]
    LS[m1,m0]       = SLN[h,m1,m0,p] * CM[h,m1,p]
    S[m1,m0]        = PS[m1*M0+m0] + LS[m1,m0]
""")
_AGAIN = ("QK", "SLN")
_MAPPING = """
mapping importance for pruned-1pass-importance
{staying}
for h, p2, m1, p1:
  split p: p2 by divisor global_buffer else fit, p1 by array_2d.columns, p0
  split m: m1 by {keys}, m0
  array_2d [m0 over rows, p0 over columns]: QK for e; SLN; LS
  array_1d [p0 over lanes]: CM
  keep Q, GM, RD in global_buffer at p2 double
  keep K in global_buffer at m1 double
  keep RM in global_buffer at p1 double
  overlap pipeline
for m1:
  split m: m1 by {keys}, m0
  array_1d [m0 over lanes]: S
  keep PS in global_buffer at m1 double
  overlap pipeline
"""  # the loops of the first pass: queries stay, keys pass by; sums of all keys stay in the buffer

COMPARISONS_PER_KEY = 2 * (1 + 0.69)  # quick-select for the median, on average: 2 (1 + ln 2) (Knuth)


def is_pruned(operation: Operation) -> bool:
    """Whether the text is that of attention in one pass that prunes tokens."""
    return operation.cascade == PRUNED_1PASS


def plan_pruned(operation: Operation, spec: FuseMaxSpec, accounting: Accounting) -> Plan:
    """Raises CascadeSimError in published accounting, which has no such case."""
    if accounting == "artifact":
        raise CascadeSimError(f"{operation.name}: no publication prunes on fusemax; use --accounting physical")
    _refuse_keys_that_nothing_attends(operation)
    first = plan_attention(operation.with_cascade(ATTENTION_1PASS), spec, accounting)
    (keys_per_tile,) = first.splits.values()
    second = _second_pass(operation, spec, keys_per_tile)
    statistics_bytes = _statistics_bytes(first, spec)
    phases = (*(_storing(phase, statistics_bytes, spec) for phase in first.phases),
              *map(_importance, second.phases), _choice(operation, spec))  # fmt: skip
    stored_j = {"dram": statistics_bytes * DRAM_PJ_PER_BYTE * 1e-12}
    joules = _summed(first.dynamic_energy_j or {}, second.dynamic_energy_j or {}, stored_j)
    bytes_of = element_bytes(operation.cascade, spec)
    return Plan(operation, accounting, _mapping(operation, first, second), phases, joules, first.splits, bytes_of,
                second.notes)  # fmt: skip


def _second_pass(operation: Operation, spec: FuseMaxSpec, keys_per_tile: int) -> Plan:
    """In the key tiles of the first pass; by a mapping that is searched where the array or its buffer is too small."""
    again = operation.with_cascade(SECOND_PASS)
    for staying in ("keep LS in global_buffer", ""):
        with suppress(IllegalMapping):
            mapping = parse_mapping(_MAPPING.format(staying=staying, keys=keys_per_tile))
            return plan_mapped(again, spec, "physical", mapping)
    sized = replace(again, extents=(*again.extents, ("m0", keys_per_tile)))
    return plan_mapped(sized, spec, "physical")


def _refuse_keys_that_nothing_attends(operation: Operation) -> None:
    """The second pass walks the keys that queries attend, and the text adds up the importance of every key."""
    queries, keys = operation.extent("p"), operation.extent("m")
    first, last = operation.mask.key_tiles(queries, keys, queries, 1)
    if int(first[0]) > 0 or int(last[0]) < keys - 1:
        raise CascadeSimError(
            f"{operation.cascade.name} adds up the importance of {keys:,} keys, of which the mask ({operation.mask}) "
            f"leaves {keys - int(last[0]) + int(first[0]) - 1:,} to no query; fusemax needs every key attended"
        )


def _summed(*parts: Mapping[str, float]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _statistics_bytes(first: Plan, spec: FuseMaxSpec) -> int:
    """Bytes that the first pass leaves to the second: a denominator of each query, maxima after its tiles."""
    operation = first.operation
    maxima = work_of(operation, first.splits)["RM"]["max"]
    return (maxima + operation.extent("b") * operation.extent("h") * operation.extent("p")) * spec.word_bytes


def _storing(phase: Phase, statistics_bytes: int, spec: FuseMaxSpec) -> Phase:
    """The first pass with its statistics stored, of every score tile as many once its maximum is known."""
    traffic = phase.traffic + Traffic(write_bytes=statistics_bytes)
    least = max(phase.analytical_cycles, traffic.total_bytes / spec.dram_bytes_per_cycle)
    dram_cycles = statistics_bytes / spec.dram_bytes_per_cycle
    program = partial(_storing_program, phase.program, dram_cycles) if phase.program else None
    return replace(phase, traffic=traffic, analytical_cycles=least, program=program)


def _storing_program(first: Callable[[], Program], dram_cycles: float) -> Program:
    """`dram_cycles`: of the channel, for the statistics of all tiles."""
    program = first()
    ((place, maximum),) = ((place, task) for place, task in enumerate(program.tasks) if task.name == "RM")
    tiles = program.busy_cycles()["RM"] // max(cycles[place] for cycles in program.tile_classes)
    store, own = Task("store RM, RD", DRAM, (After("RM"),), stage=maximum.stage), ceil(dram_cycles / tiles)
    classes = tuple((*cycles, own if cycles[place] else 0) for cycles in program.tile_classes)
    return replace(program, tasks=(*program.tasks, store), tile_classes=classes)


def by_schedule(operation: Operation, workload: str) -> Iterator[Operation]:
    """A pruned operation as each kind of layer runs it under the workload's published schedule; any other as it is."""
    schedule = SCHEDULES.get(workload)
    if not is_pruned(operation) or schedule is None or operation.count not in (1, schedule.layers):
        yield operation
        return
    whole = operation.extent("m")
    for tokens, members in groupby(range(schedule.layers), lambda layer: schedule.tokens(layer, whole)):
        yield _kept(operation, tokens, list(members))


def _kept(operation: Operation, tokens: int, layers: list[int]) -> Operation:
    """The operation on fewer tokens, which ask no queries either; in a whole model as often as such layers are."""
    size = dict(operation.extents)
    size |= {"m": tokens, "p": tokens if size["p"] == size["m"] else size["p"]}
    span = f"{layers[0]}-{layers[-1]}" if len(layers) > 1 else f"{layers[0]}"
    return replace(
        operation, name=f"{operation.name} {span}", layer=f"{operation.layer}:{span}", extents=tuple(size.items()),
        count=len(layers) if operation.count > 1 else 1,
    )  # fmt: skip


def _importance(phase: Phase) -> Phase:
    """Of the second pass; what it computes again is no operation of the text."""
    activities = tuple(replace(each, operations={}) if each.name in _AGAIN else each for each in phase.activities)
    return replace(phase, name=f"importance: {phase.name}", activities=activities)


def _choice(operation: Operation, spec: FuseMaxSpec) -> Phase:
    """The tokens that the next layer keeps, of each sequence after all of its heads: no part of the text."""
    sequences, keys = operation.extent("b"), operation.extent("m")
    cycles = ceil(COMPARISONS_PER_KEY * keys / spec.vector_array.lanes)
    activity = EinsumActivity("I", ARRAY_1D, sequences * cycles)
    program = Program((Task("I", ARRAY_1D),), ((cycles,),), (TileRun(0, sequences),))
    return Phase("choice", (activity,), Traffic(), float(sequences * cycles), lambda: program)


def _mapping(operation: Operation, first: Plan, second: Plan) -> tuple[str, ...]:
    return (
        f"tokens kept: {operation.extent('m'):,} keys, {operation.extent('p'):,} queries",
        *first.mapping, "importance of tokens: a second pass, QK and SLN computed again; kept keys lie side by side",
        *second.mapping, "tokens are chosen on array_1d, after all heads of a sequence; no operation of the text",
    )  # fmt: skip
