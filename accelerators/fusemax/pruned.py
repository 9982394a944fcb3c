"""Pruned attention on FuseMax: the 1-pass cascade, and a second pass over the keys for the importance of every token.

A workload with a published schedule runs it on the tokens that each layer keeps. SpAtten (HPCA'21), section III;
nothing is published of it on this array.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from math import ceil

from cascadesim.accelerators.energy import DRAM_PJ_PER_BYTE
from cascadesim.accelerators.fusemax.accelerator import element_bytes, plan_attention, plan_physical, shape_of
from cascadesim.accelerators.fusemax.spec import ARRAY_1D, Binding, FuseMaxSpec, place_over
from cascadesim.accelerators.program import Program, Task, TileRun
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.pruning_schedules import SCHEDULES
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS

SECOND_PASS = cascade("pruned-1pass, second pass", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]         # again
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1,p])  # again, with the maximum as it was after this tile
    CM[h,m1,p]      = exp(RM[h,m1,p] - GM[h,p]) / RD[h,p]
    LS[m1,m0]       = SLN[h,m1,m0,p] * CM[h,m1,p]
    S[m1,m0]        = PS[m1*M0+m0] + LS[m1,m0]
""")
_AGAIN = ("QK", "SLN")

COMPARISONS_PER_KEY = 2 * (1 + 0.69)  # quick-select for the median, on average: 2 (1 + ln 2) (Knuth)
TILES_IN_FLIGHT = 2  # assumed: the second pass overlaps the loads of a tile with the work of the one before


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
    second = _importance(operation.with_cascade(SECOND_PASS), spec, keys_per_tile)
    stored = _statistics_bytes(operation, spec, keys_per_tile)
    sums = _uncounted_sums_bytes(operation, spec, keys_per_tile)
    (pass_two,) = second.phases
    activities = tuple(replace(each, operations={}) if each.name in _AGAIN else each for each in pass_two.activities)
    importance = replace(
        pass_two, name="importance", activities=activities,
        traffic=pass_two.traffic + Traffic(read_bytes=sums, write_bytes=stored + sums),
    )  # fmt: skip
    stored_j = {"dram": (stored + 2 * sums) * DRAM_PJ_PER_BYTE * 1e-12}
    phases = (*first.phases, importance, _choice(operation, spec))
    joules = _summed(first.dynamic_energy_j or {}, second.dynamic_energy_j or {}, stored_j)
    bytes_of = element_bytes(operation.cascade, spec)
    return Plan(operation, accounting, _mapping(operation, first, second), phases, joules, first.splits, bytes_of)


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


def _statistics_bytes(operation: Operation, spec: FuseMaxSpec, keys_per_tile: int) -> int:
    """Bytes that the first pass leaves to the second: each query's denominator, and its maximum after each key tile."""
    key_tiles = -(-operation.extent("m") // keys_per_tile)
    return (key_tiles + 1) * operation.extent("b") * operation.extent("h") * operation.extent("p") * spec.word_bytes


def _uncounted_sums_bytes(operation: Operation, spec: FuseMaxSpec, keys_per_tile: int) -> int:
    """Bytes of the sums of keys that are taken for those of the sequence before: where one key tile is all of them.

    The second pass loops over heads of all sequences alike, so that it keeps a tile of sums from one to the next.
    """
    keys = operation.extent("m")
    return (operation.extent("b") - 1) * keys * spec.word_bytes if keys <= keys_per_tile else 0


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


def _importance(operation: Operation, spec: FuseMaxSpec, keys_per_tile: int) -> Plan:
    """A pass over queries and keys without values, in the key tiles of the first; tiles hand nothing to each other."""
    overlapped = spec.model_copy(update={
        "binding": Binding(policy="interleave", in_flight=TILES_IN_FLIGHT),
        "pe_array": spec.pe_array.model_copy(update={"rows": keys_per_tile}),
    })  # fmt: skip
    shape = replace(shape_of(operation), value_depth=1)  # no values; a result of one word a query frees its slot
    return plan_physical(operation, overlapped, place_over(SECOND_PASS, spec, "m1", "m0"), shape, rows_vary=False)


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
