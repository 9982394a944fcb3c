"""Kernels of a text on a device: thread blocks, parts of their walk, and what all of them compute and load.

A block does whole tiles, with depths padded to powers of two as Triton's blocks are; it does again what other blocks
do where an Einsum has not all ranks of the grid; tiles that no query of a mask sees are left out. Where the grid has
fewer blocks than the device has SMs, the walk is split over several, and a second launch combines what they found.
Knows operations, elements and bytes; knows no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

from cascadesim.accelerators.binding import contracts
from cascadesim.accelerators.gpu.generic.fusion import FusedKernel, free_depth, fused_kernels, loads, spilled, stores
from cascadesim.accelerators.gpu.generic.problem import Problem, Tiles, Visited, extents_of
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.memory import FLOAT_BYTES
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY
from cascadesim.einsum_cascades.analysis.passes import RankGroup, all_accesses, partitions
from cascadesim.einsum_cascades.models.operation import Operation, mask_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Einsum
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.sparsity.masks import FULL

TRITON = "triton"  # whose tiles, instructions and overlap a kernel has that nobody wrote
SMALLEST_TILE = 16  # of tl.dot, along each of its three ranks (Triton language reference)
LOADED_TILES = 2  # assumed: tiles of a streamed operand in shared memory, one in use and the next one loading
# as many blocks of 256 threads as an SM of every generation runs (1,024 threads: CUDA guide, compute capabilities)
MOST_TOGETHER = 4
_HEADS = ("b", "h", "x")  # groups of ranks of which a block has one coordinate


@dataclass(frozen=True)
class RankWalk:
    """Ranks that are walked in `steps` of `tile` coordinates, of which there are `size`."""

    outer: frozenset[str]
    steps: int
    tile: int
    size: int

    @property
    def filled(self) -> float:
        return self.size / (self.steps * self.tile)


@dataclass(frozen=True)
class Stage:
    """One launch: all Einsums of a kernel; or, where its walk is split, those of the walk, then those after it.

    `parts`: blocks that share a walk. `combines`: parts of results that this launch brings together, 1 for none.
    `columns`: blocks that divide a depth of the results, and each do again what lacks it.
    """

    problem: Problem
    kernel: FusedKernel
    numbers: frozenset[int]
    parts: int = 1
    combines: int = 1
    columns: int = 1

    @property
    def einsums(self) -> tuple[Einsum, ...]:
        return tuple(self.problem.cascade.einsums[number] for number in sorted(self.numbers))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(einsum.name for einsum in self.einsums))

    @cached_property
    def streamed(self) -> tuple[RankWalk, ...]:
        """Groups that step along one rank together are walked together."""
        found: dict[frozenset[str], RankWalk] = {}
        for walk in (self._walk(group, self.problem.tiles.steps) for group in self.kernel.streamed):
            found.setdefault(walk.outer, walk)
        return tuple(found.values())

    @cached_property
    def grid(self) -> tuple[RankWalk, ...]:
        found = tuple(self._walk(group, self.problem.tiles.rows, packs=True) for group in self.kernel.grid)
        depth = free_depth(self.problem.cascade, self.kernel) if self.columns > 1 else None
        if depth is None:
            return found
        size = self.problem.bound.extents[depth.upper()]
        tile = max(_power_of_two(ceil(size / self.columns)), SMALLEST_TILE)
        return (*found, RankWalk(frozenset({depth}), ceil(size / tile), tile, size))

    def _walk(self, group: RankGroup, tile: int, packs: bool = False) -> RankWalk:
        """Query heads of a key head share a tile of rows."""
        sized, inner = self.problem.bound, prod(self.problem.bound.extents[rank.upper()] for rank in group.inner)
        cover = next(cover for cover in group.covers if bool(group.inner) == (len(cover) > 1))
        plain = "".join(cover) if len(cover) == 1 else ""
        size = sized.extents[plain.upper()] if plain else next(
            whole for parts, whole in sized.wholes.items() if cover == frozenset(parts))  # fmt: skip
        if group.name in _HEADS:
            size, tile = size // (self.packed if packs and group.name == "h" else 1), 1
        elif group.inner:
            tile = inner
        elif any(plain in self.problem.cascade.einsums[number].iterates for number in self.kernel.einsums):
            tile = 1  # a running value of every coordinate
        elif packs:
            size *= self.packed if group.name == QUERY else 1
            tile = min(tile, max(SMALLEST_TILE, _power_of_two(size)))
        return RankWalk(group.outer, ceil(size / tile), tile, size)

    @property
    def packed(self) -> int:
        """assumed: query heads of a key head share tiles of rows, as in decode kernels of Triton."""
        names = {group.name: group for group in self.kernel.grid}
        return self.problem.operation.extent("g") if {"h", QUERY} <= set(names) and not names[QUERY].inner else 1

    @property
    def blocks(self) -> int:
        return self.problem.operation.extent("b") * prod(walk.steps for walk in self.grid) * self.parts

    @property
    def steps(self) -> int:
        """Of one walk that sees everything."""
        return prod(walk.steps for walk in self.streamed)

    @property
    def row_tiles(self) -> int:
        """Blocks of one head, of one part of the walk: they share what they load of keys."""
        return prod(walk.steps for walk in self.grid if walk.tile > 1)

    @property
    def column_tiles(self) -> int:
        """Blocks that divide a depth of the results."""
        return prod(walk.steps for walk in self.grid[len(self.kernel.grid) :])

    @property
    def together(self) -> int:
        """Blocks that run at once on an SM, as far as it holds what they keep."""
        held = held_bytes(self.problem, self.kernel, self.columns)
        return max(min(MOST_TOGETHER, int(_capacity_bytes(self.problem.device) // held)), 1)

    @property
    def grid_heads(self) -> int:
        """Coordinates of heads that blocks have one of."""
        return prod(walk.steps for walk in self.grid if walk.tile == 1)

    @property
    def seen(self) -> Visited:
        """How far the blocks' walks differ under the mask."""
        rows = {group.name for group in self.kernel.grid}
        return self.problem.visited if self.masked and QUERY in rows and KEY not in rows else Visited(1.0, 1.0, 1.0)

    @property
    def masked(self) -> bool:
        """Whether blocks walk over keys, or queries, of which they see some."""
        walked = {group.name for group in (*self.kernel.streamed, *self.kernel.grid)}
        return self.problem.mask != FULL and {KEY, QUERY} <= walked

    def repeats(self, ranks: Set[str]) -> float:
        """How often all blocks together do one step of something over these ranks."""
        walks = [walk for walk in self.streamed if not walk.outer.isdisjoint(ranks)]
        found: float = self.blocks / self.parts * prod(walk.steps for walk in walks)
        met = {group.name for group in self.kernel.streamed if not group.outer.isdisjoint(ranks)}
        if self.masked and {KEY, QUERY} <= met | {group.name for group in self.kernel.grid}:
            found *= self.problem.visited.share
        return found if walks else found * self.parts

    def step(self, ranks: Set[str], padded: bool) -> float:
        """Points of one step over these ranks, in one block."""
        found = 1.0
        for rank in ranks:
            walk = next((walk for walk in (*self.streamed, *self.grid) if rank in walk.outer), None)
            if walk is None:
                size = self.problem.bound.extents[rank.upper()]
                found *= max(_power_of_two(size), SMALLEST_TILE) if padded else size
            elif not self._is_outer_part(rank):
                found *= walk.tile * (1.0 if padded else walk.filled)
        return found

    def _is_outer_part(self, rank: str) -> bool:
        return any(parts[0] == rank for parts in partitions(self.problem.cascade))

    def apart(self, ranks: Set[str]) -> int:
        """Heads of a block that need something each for itself, where its ranks have heads and no rows."""
        rows = frozenset[str]().union(*(group.outer for group in self.kernel.grid if group.name == QUERY))
        heads = frozenset[str]().union(*(group.outer for group in self.kernel.grid if group.name == "h"))
        return self.packed if rows.isdisjoint(ranks) and not heads.isdisjoint(ranks) else 1

    def computed(self, einsum: Einsum) -> float:
        """Points that all blocks compute of an Einsum, padding and repetitions included."""
        ranks = set(einsum.ranks)
        found = self.step(ranks, padded=True) * self.repeats(ranks) * self.apart(ranks)
        if contracts(einsum):
            free = [rank for rank in einsum.output.ranks if self.step({rank}, padded=True) > 1]
            found *= SMALLEST_TILE ** max(2 - len(free), 0)  # products of a vector fill a whole tile
        return found

    def counted(self, einsum: Einsum) -> int:
        """Points at which the cascade has operations, those of its mask and conditions."""
        bound, copies = self.problem.bound, self.problem.operation.extent("b")
        return copies * max((bound.points(charge).bound({}) for charge in charges(einsum)), default=0)

    def loaded_elements(self, tensor: str, access: Access) -> float:
        """What all blocks load of a tensor, from L2."""
        ranks = set(access.ranks)
        shared = self.problem.shares_keys(access) and tensor in self.problem.cascade.inputs
        return self.step(ranks, padded=False) * self.repeats(ranks) * (1 if shared else self.apart(ranks))

    @cached_property
    def partial(self) -> tuple[str, ...]:
        """Results of the walk that its parts leave to be combined."""
        if self.parts == self.combines == 1:
            return ()
        during = (self.problem.cascade.einsums[number] for number in self.kernel.during)
        return tuple(einsum.name for einsum in during if any(
            group.walked_by(einsum) and group.outer.isdisjoint(einsum.output.ranks)
            for group in self.kernel.streamed))  # fmt: skip

    @property
    def partial_elements(self) -> float:
        """Of all parts together."""
        outputs = [self.problem.cascade.einsum(name).output for name in self.partial]
        copies = self.problem.operation.extent("b") * self.parts * self.combines
        return copies * sum(prod(map(self.problem.bound.coordinates, output.indices)) for output in outputs)

    @cached_property
    def operands(self) -> tuple[tuple[str, Access], ...]:
        """What it reads and does not make, partial results aside, by tensor and access.

        Values that are the first elements of a latent key pass by with it.
        """
        found = loads(self.problem.cascade, self.numbers)
        tensors, latent = {tensor for tensor, _ in found}, self.problem.latent
        return tuple((latent.get(tensor, tensor), access) for tensor, access in found
                     if (self.combines == 1 or tensor not in self.partial)
                     and (tensor not in latent or latent[tensor] not in tensors))  # fmt: skip

    @cached_property
    def reread(self) -> tuple[tuple[str, Access], ...]:
        """What it makes tile by tile, and reads again after the walk."""
        return spilled(self.problem.cascade, self.kernel) if self.parts == self.combines == 1 else ()

    @cached_property
    def results(self) -> tuple[tuple[str, Access], ...]:
        """What is read after it, partial results aside, as those that come read it (the last value of a state)."""
        cascade = self.problem.cascade
        own = self.numbers if self.combines == 1 else frozenset(self.kernel.einsums)
        names = dict.fromkeys(stores(cascade, own))
        if self.parts > 1:
            names = {name: None for name in names if name not in self.partial}
        elif self.combines > 1:
            names = {name: None for name in names if name in (*self.partial, *self.names)}
        found = {name: cascade.einsum(name).output for name in names}
        for einsum, access in all_accesses(cascade):
            if access.tensor in found and einsum.name not in self.names and einsum.name != access.tensor:
                found[access.tensor] = access
        return tuple({**dict(self.reread), **found}.items())

    @cached_property
    def touched(self) -> Mapping[str, float]:
        """Tensor -> bytes, of everything that it reads or writes."""
        found: dict[str, float] = {}
        for tensor, access in (*self.operands, *self.results):
            found[tensor] = max(found.get(tensor, 0.0), self.problem.size_bytes(tensor, access))
        parts = {f"parts of {', '.join(self.partial)}": self.partial_elements * FLOAT_BYTES} if self.partial else {}
        return found | parts


def problem_of(operation: Operation, device: Device) -> Problem:
    """In the largest tiles that an SM holds. Raises CascadeSimError where it holds none, or an extent is not known."""
    mask = mask_of(operation)
    tile = next(iter(load_kernel(TRITON).tiles_on(device.generation, False, DTYPE_BYTES[device.dtype])))
    rows, steps = (size.bit_length() - SMALLEST_TILE.bit_length() + 1 for size in (tile.queries, tile.keys))
    found = [Tiles(SMALLEST_TILE << row, SMALLEST_TILE << min(row, steps - 1)) for row in reversed(range(rows))]
    kernels = fused_kernels(operation.cascade)
    for tiles in found:
        problem = Problem(operation, device, tiles, extents_of(operation, tiles.steps), mask)
        if all(fewest_columns(problem, kernel) == 1 for kernel in kernels):
            return problem
    for kernel in kernels:  # in the smallest tiles, blocks divide results
        if fewest_columns(problem, kernel) is None:
            held = min(held_bytes(problem, kernel, columns) for columns in _columns(problem, kernel))
            names = ", ".join(dict.fromkeys(operation.cascade.einsums[number].name for number in kernel.einsums))
            raise CascadeSimError(
                f"{operation.cascade.name}: the smallest block of {names} holds {held:,.0f} bytes, an SM of "
                f"{device.device} {_capacity_bytes(device):,} in shared memory and registers"
            )
    return problem


def fewest_columns(problem: Problem, kernel: FusedKernel) -> int | None:
    """Blocks that have to divide a depth of the results until one fits an SM; None where none does."""
    return next((columns for columns in _columns(problem, kernel)
                 if held_bytes(problem, kernel, columns) <= _capacity_bytes(problem.device)), None)  # fmt: skip


def _columns(problem: Problem, kernel: FusedKernel) -> Iterator[int]:
    """1, and doublings as long as each column has a tile of the depth."""
    depth = free_depth(problem.cascade, kernel)
    size = problem.bound.extents[depth.upper()] if depth else 1
    yield from (1 << place for place in range(max(_power_of_two(size) // SMALLEST_TILE, 1).bit_length()))


def held_bytes(problem: Problem, kernel: FusedKernel, columns: int) -> float:
    """What a block keeps: tiles of operands, two of each that is streamed; sums in FP32, and the largest tile between.

    assumed: registers and shared memory can hold either.
    """
    stage = Stage(problem, kernel, frozenset(kernel.einsums), columns=columns)
    walked = frozenset[str]().union(*(walk.outer for walk in stage.streamed))
    tiles = sum(
        stage.step(set(access.ranks), padded=True) * problem.element_bytes(tensor, access)
        * (1 if walked.isdisjoint(access.ranks) else LOADED_TILES) for tensor, access in stage.operands
    )  # fmt: skip
    made = {einsum.name: stage.step(set(einsum.output.ranks) - set(einsum.iterates), True) for einsum in stage.einsums}
    states = {einsum.name for einsum in stage.einsums if einsum.iterates or walked.isdisjoint(einsum.output.ranks)}
    between = max((size for name, size in made.items() if name not in states), default=0.0)
    return tiles + FLOAT_BYTES * (sum(made[name] for name in states) + between)


def _capacity_bytes(device: Device) -> int:
    return device.sm.shared_memory_bytes + device.sm.register_file_bytes


def stages_of(problem: Problem, kernel: FusedKernel, parts: int, columns: int) -> tuple[Stage, ...]:
    """The launches of a kernel: one; or two, its walk in several parts, then what brings these together."""
    if parts == 1:
        return (Stage(problem, kernel, frozenset(kernel.einsums), columns=columns),)
    return (Stage(problem, kernel, frozenset(kernel.during), parts=parts, columns=columns),
            Stage(problem, kernel, kernel.after, combines=parts))  # fmt: skip


def divisions(problem: Problem, kernel: FusedKernel) -> tuple[tuple[int, int], ...]:
    """(parts, columns) among which a kernel may choose: doublings (as SGLang's Triton kernels) while SMs have no block.

    A walk with running values is never in parts: what these leave cannot be brought together without the text saying
    how; its results are divided in columns instead.
    """
    least = fewest_columns(problem, kernel) or 1
    whole = Stage(problem, kernel, frozenset(kernel.einsums), columns=least)
    room = max(problem.device.sms // whole.blocks, 1)
    if kernel.running:
        return tuple((1, columns) for columns in _columns(problem, kernel) if least <= columns <= least * room)
    return tuple((1 << place, least) for place in range(min(room, whole.steps).bit_length()))


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
