"""Small texts and arrays, and what every group of them must hold: words at the ports, cycles of its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.attended import attended
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.plan import free_extents
from cascadesim.accelerators.mapping.problem import MappingProblem, problem
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.spec import Buffer, SpatialArray
from cascadesim.einsum_cascades.analysis.passes import partitions, whole_extent
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

PRODUCT = cascade("product", "Z[r,n] = A[r,k] * W[k,n]")
CHAIN = cascade("two-products", """
    Y[r,n] = A[r,k] * W[k,n]
    Z[r,j] = Y[r,n] * U[n,j]
""")
RUNNING = cascade("running", """
    S[r,0]   = 0
    S[r,n+1] = G[r,n] * S[r,n] + X[r,n]
    Y[r,n]   = S[r,n+1] * X[r,n]
""")
IMPORTANCE = cascade("importance", """
    QK[h,p,m] = Q[h,p,e] * K[h,m,e]
    SN[h,p,m] = exp(QK[h,p,m])
    S[m]      = SN[h,p,m]
""")
TEXTS = [PRODUCT, CHAIN, RUNNING, IMPORTANCE, *map(find, (
    "attention-3pass", "attention-2pass", "attention-1pass", "attention-1pass-gqa", "linear-attention",
    "attention-3pass-causal", "attention-1pass-causal", "attention-sinks-1pass", "attention-differential",
    "mamba-2-ssd", "deltanet",
))]  # fmt: skip


MASKS = [FULL, CAUSAL, KeyInterval(True, window=1), KeyInterval(True, window=3), KeyInterval(True, chunk=2)]


@cache
def array(rows: int, columns: int, lanes: int, buffer_bytes: int = 2**24) -> SpatialArray:
    """DRAM brings a word in each cycle."""
    sizes = (f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
             f"global_buffer.capacity_bytes={buffer_bytes}", "pe_array.operations.divide=1",
             "dram.bandwidth_bytes_per_s=1.88e+9")
    return load("fusemax", sizes).spec  # type: ignore[attr-defined, no-any-return]


def edge(**settings: int) -> SpatialArray:
    """Four by four elements and four lanes, or as `settings` have it."""
    sizes = {"pe_array.rows": 4, "pe_array.columns": 4, "vector_array.lanes": 4, **settings}
    changes = [f"{name}={size}" for name, size in sizes.items()]
    return load("edge-array", changes).spec  # type: ignore[attr-defined, no-any-return]


def accumulating(spec: SpatialArray, words: int) -> SpatialArray:
    """The same with accumulators of so many words, of which they move one in each cycle."""
    return spec.model_copy(update={"accumulators": Buffer(capacity_bytes=2 * words, row_bytes=2, ports=1)})


@cache
def layered(rows: int, columns: int, lanes: int, buffer_bytes: int = 2**24, *memory_bytes: int) -> SpatialArray:
    """The same with memories between DRAM and the buffer, outermost first: each moves a word in each cycle, too."""
    sizes = [f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
             f"global_buffer.capacity_bytes={buffer_bytes}", "pe_array.operations={mac: 1, add: 1, max: 1, exp: 1}",
             "dram.bandwidth_bytes_per_s=2e+9"]  # fmt: skip
    for name, capacity in zip(("far", "near"), memory_bytes, strict=False):
        fields = {"capacity_bytes": capacity, "row_bytes": 2, "ports": 1}
        sizes += [f"memories.{name}.{field}={value}" for field, value in fields.items()]
    return load("edge-array", sizes).spec  # type: ignore[attr-defined, no-any-return]


def sized(text: Cascade, extents: Mapping[str, int], inner: int, mask: KeyInterval = FULL) -> MappingProblem:
    given_extents = {**extents, "G": 1}
    chunks = {parts[0].upper() for parts in partitions(text) if whole_extent(parts) not in given_extents or any(
        other[0] == parts[0] and other != parts for other in partitions(text))}
    if chunks:  # the chunks say how long the sequence is
        given_extents = {name: size for name, size in given_extents.items() if name not in "MP"}
        given_extents |= dict.fromkeys(chunks, 2)
    sizes = {**given_extents, **dict.fromkeys(free_extents(text, given_extents), inner)}
    return problem(text, sizes, attended=attended(text, sizes, mask))


def check_schedule(group: BoundGroup) -> None:
    made = group_program(group)
    schedule = run(made)
    busy = made.busy_cycles()
    assert schedule.cycles >= group.bound_cycles * (1 - 1e-9)
    for each in group.runs:
        assert busy[each.work.name] == group.cycles(each)
    states = {each.work.output.tensor for each in group.runs if each.work.iterates}
    begun = sum(operand.words(group.problem.whole()) for state, operand in group.problem.starts if state in states)
    for memory, (read, written) in group.memory_words.items():
        if memory == "global_buffer":
            continue
        moves = [task for task in made.tasks if task.unit == memory and not task.name.startswith("begin")]
        moved = sum(busy[task.name] for task in moves)
        assert moved == read + written - (begun if memory == "dram" else 0)


def check_ports(group: BoundGroup) -> None:
    """Words at the ports of memories beside the arrays, a product over axes, are those of each tile added up."""
    depth = len(group.loops)
    for memory in ("global_buffer", "accumulators"):
        read = written = 0
        for each in group.runs:
            for tile, count in group.different_tiles(each.work.axes, depth, each.own):
                own = group.port_words(each, group.leaf | tile, memory)
                read, written = read + count * own[0], written + count * own[1]
        assert group.all_port_words(memory) == (read, written)
