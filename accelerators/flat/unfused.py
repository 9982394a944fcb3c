"""Without fusion: QK, then the softmax, then AV, each a phase of its own with the scores going through DRAM.

Scores leave the array finished (the depth runs in time), keys or values stream past query tiles that stay in the
buffer, R times over. FuseMax artifact, unfused baseline (spec 5.6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascadesim.accelerators.access_counts import Accesses, Level, Loop, Nest, point_operations
from cascadesim.accelerators.energy import Actions
from cascadesim.accelerators.flat.nests import (
    EVERYTHING,
    RANK_NAMES,
    Case,
    Extents,
    Moved,
    block_table,
    elided,
    instances,
    moved,
    row_by_row,
    tile_loop,
)  # fmt: skip
from cascadesim.accelerators.flat.resident import fastest_tiles, resident_tiles, tiles_per_group
from cascadesim.accelerators.flat.roles import Roles
from cascadesim.accelerators.flat.spec import FlatArray
from cascadesim.accelerators.flat.words import einsum_cycles, softmax_table, spilled
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum

_REFETCH = {64: 8, 128: 16}  # calibration: fitted to attn-unfused.csv at 256K and 1M (what Timeloop's mapper chose)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One phase: its Einsums with their cycles, what they move, and the part of the array that it uses."""

    case: Case
    name: str
    unit: str
    cycles: tuple[tuple[Einsum, int], ...]
    dram_read_words: float
    dram_write_words: float
    actions: Actions

    @property
    def busy_cycles(self) -> int:
        return sum(cycles for _, cycles in self.cycles)

    def port_cycles(self, spec: FlatArray) -> float:
        words = self.actions.global_buffer_read_words + self.actions.global_buffer_write_words
        return words / spec.port_words_per_cycle


def refetches(case: Case, depth: int) -> int:
    """R: how often keys (or values) are fetched.

    Physical: query tiles stay beside one tile of keys, as many as fit. Artifact: the published rule, R = 1 where all
    queries and keys of a head fit, else fitted.
    """
    if not case.exact:
        return -(-case.query_tiles // _tiles_per_group(case, depth))
    if 2 * case.shape.keys * depth <= case.spec.buffer_words:
        return 1
    if depth not in _REFETCH:
        raise CascadeSimError(
            f"artifact accounting: unfused refetches are published for heads of {' and '.join(map(str, _REFETCH))} "
            f"elements, got {depth}; use physical accounting"
        )
    return _REFETCH[depth]


def _tiles_per_group(case: Case, depth: int) -> int:
    resident = int(resident_tiles(case, case.rows_used, np.array(case.columns_used), depth, case.query_tiles))
    return tiles_per_group(case.tiles(1), resident, case.full)


def stretches(case: Case, roles: Roles) -> tuple[Stretch, ...]:
    return (
        _contraction(case, roles.scores, "e", (roles.tensor("Q"), roles.tensor("K"))),
        _softmax(case, roles),
        _contraction(case, roles.output, "f", (roles.tensor("V"), roles.tensor("AV"))),
        *(_epilogue(case, einsum) for einsum in roles.epilogue),
    )


def _contraction(case: Case, einsum: Einsum, depth: str, kept: Sequence[str]) -> Stretch:
    if not case.exact:
        case = fastest_tiles(case, case.extent(depth), accumulates=depth == "f")
    nest = contraction_nest(case, einsum, depth, kept)
    scores = {access.tensor for access in (*einsum.inputs, einsum.output) if {"m", "p"} <= set(access.ranks)}
    counts = {
        name: _attended(case, moves) if name in scores else moves for name, moves in moved(case, einsum, nest).items()
    }
    actions = _actions(case, "array_2d", counts, _macs(case, depth))
    reads, writes = _dram(case, counts)
    cycles = ((einsum, nest.points(nest.temporal)),)
    return Stretch(case, einsum.name, "array_2d", cycles, reads, writes, actions)


def _attended(case: Case, moves: Moved) -> Moved:
    """Only scores that the mask lets through leave the chip and come back."""
    if case.exact:
        return moves
    pairs, dram = case.shape.instances * case.shape.pairs, moves.dram
    return replace(moves, dram=Accesses(pairs * bool(dram.reads), dram.fills, pairs * bool(dram.updates)))


def contraction_nest(case: Case, einsum: Einsum, depth: str, kept: Sequence[str]) -> Nest:
    """DRAM: instances, groups of resident query tiles, key tiles; buffer: query tiles, the depth in time."""
    refetch = refetches(case, case.extent(depth))
    space = {"m": min(case.columns_used, case.shape.keys), "p": min(case.rows_used, case.queries)}
    tiles = -(-case.query_tiles // refetch) if case.exact else _tiles_per_group(case, case.extent(depth))
    keys, groups = tile_loop("m", case.shape.keys, space["m"]), Loop("p2", RANK_NAMES["p"], refetch)
    queries = Loop("p1", RANK_NAMES["p"], tiles)
    inner: tuple[Loop, ...] = (queries, Loop(depth, RANK_NAMES[depth], case.extent(depth)))
    tensors = frozenset(access.tensor for access in (*einsum.inputs, einsum.output))
    levels = (
        Level("dram", (instances(case), groups, keys), tensors),
        Level("global_buffer", inner, frozenset(kept)),
        Level("registers", (), EVERYTHING),
    )
    spatial = tuple(Loop(f"{rank}0", RANK_NAMES[rank], size) for rank, size in space.items())
    extents = Extents(case, block_table(case, (tiles,), space["m"]), space)
    return Nest(levels, spatial, None if case.exact else extents)


def _softmax(case: Case, roles: Roles) -> Stretch:
    """Scores come from DRAM once, weights go there once; a row stays between the passes, as much of it as fits.

    `assumed:` its statistics stay on chip until the epilogue, where there is one: a word per query row.
    """
    share = 0.0 if case.exact else max(0.0, 1 - case.spec.buffer_words / case.shape.keys)
    staying, spilling = softmax_table(case, replace(roles, epilogue=()))[:, :1, 0]
    words = spilled(spilling, np.array([share])) + spilled(staying, np.zeros(1))
    reads, writes, buffer_reads, buffer_writes, register_reads, register_writes = map(float, words[0])
    operations: Counter[str] = Counter()
    for einsum in roles.softmax:
        operations.update(vector_operations(case, einsum))
    actions = Actions(
        reads + writes, buffer_reads, buffer_writes, register_reads_1d=register_reads,
        register_writes_1d=register_writes, operations_1d=operations,
    )  # fmt: skip
    cycles = tuple((einsum, einsum_cycles(case, einsum)) for einsum in roles.softmax)
    return Stretch(case, "softmax", "array_1d", cycles, reads, writes, actions)


def _epilogue(case: Case, einsum: Einsum) -> Stretch:
    """Output rows come back from DRAM, and leave again finished."""
    off_chip = {access.tensor for access in (*einsum.inputs, einsum.output) if "f" in access.ranks}
    kept = {access.tensor for access in einsum.inputs} - off_chip
    counts = moved(case, einsum, row_by_row(case, einsum, kept, off_chip))
    reads, writes = _dram(case, counts)
    actions = _actions(case, "array_1d", counts, vector_operations(case, einsum))
    return Stretch(case, einsum.name, "array_1d", ((einsum, einsum_cycles(case, einsum)),), reads, writes, actions)


def _actions(case: Case, unit: str, counts: dict[str, Moved], operations: dict[str, int]) -> Actions:
    reads, writes = _dram(case, counts)
    passing = 0.0 if case.exact else sum(_passing(moves) for moves in counts.values())
    buffer_reads = sum(moves.buffer.reads for moves in counts.values()) + passing
    buffer_writes = sum(moves.buffer.writes for moves in counts.values()) + passing
    read, write = (sum(getattr(moves.registers, kind) for moves in counts.values()) for kind in ("reads", "writes"))
    if unit == "array_2d":
        return Actions(reads + writes, buffer_reads, buffer_writes, read, write, operations_2d=operations)
    return Actions(
        reads + writes, buffer_reads, buffer_writes, register_reads_1d=read, register_writes_1d=write,
        operations_1d=operations,
    )  # fmt: skip


def _passing(moves: Moved) -> float:
    """Words of a tensor that the buffer does not keep cross it on their way, written and read once."""
    return moves.dram.reads + moves.dram.updates if moves.buffer == Accesses() else 0.0


def _dram(case: Case, counts: dict[str, Moved]) -> tuple[float, float]:
    accesses = [elided(moves.dram) if case.exact else moves.dram for moves in counts.values()]
    return float(sum(moves.reads for moves in accesses)), float(sum(moves.updates for moves in accesses))


def _macs(case: Case, depth: str) -> dict[str, int]:
    return {"mac": computed_scores(case) * case.extent(depth)}


def vector_operations(case: Case, einsum: Einsum) -> dict[str, int]:
    """Operations of an Einsum on the 1D array, for its energy."""
    rows = computed_rows(case) * case.shape.instances * case.shape.value_depth
    points = case.shape.instances * case.shape.pairs if "m" in einsum.ranks else rows
    return {name: points * number for name, number in point_operations(einsum).items()}


def computed_rows(case: Case) -> int:
    """Query rows of an instance that attend something."""
    return _points(case)[0]


def computed_scores(case: Case) -> int:
    """Scores of the key tiles that are visited, masked ones included."""
    return case.shape.instances * _points(case)[2]


def _points(case: Case) -> tuple[int, int, int, int]:
    """Query rows alone, with key tiles, with keys, with those of one tile."""
    return case.blocks(case.query_tiles, min(case.columns_used, case.shape.keys)).table[3]
