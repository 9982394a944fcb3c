"""In which order Einsums run, and which of them run step by step along an iterative rank.

Einsums that need each other's earlier values (RD and SPD) form a loop over the rank that carries them; all others
run whole. Knows dependences only: no arrays, no hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from cascadesim.einsum_cascades.analysis.dependences import Dependence, cycles, dependences
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade

Step: TypeAlias = "int | Loop"  # an Einsum by its number, or a loop


@dataclass(frozen=True, slots=True)
class Loop:
    """Steps that run once per coordinate of a rank, in increasing order."""

    rank: str
    body: tuple[Step, ...]


def steps(cascade: Cascade) -> tuple[Step, ...]:
    """Raises CascadeSimError where a value would be needed before it exists."""
    return tuple(_ordered(cascade, range(len(cascade.einsums)), dependences(cascade), frozenset()))


def _ordered(
    cascade: Cascade, members: Iterable[int], found: Iterable[Dependence], looped: frozenset[str]
) -> Iterator[Step]:
    members = tuple(members)
    inside = [each for each in found
              if each.reader in members and each.producer in members and each.carried.isdisjoint(looped)]
    for group in cycles(members, inside):
        own = [each for each in inside if each.reader in group and each.producer in group]
        if own:
            rank = _loop_rank(cascade, group, own)
            yield Loop(rank, tuple(_ordered(cascade, group, own, looped | {rank})))
        else:
            yield group[0]


def _loop_rank(cascade: Cascade, group: tuple[int, ...], own: list[Dependence]) -> str:
    """The rank to step along: it carries a dependence, and nobody in the loop looks ahead or sums along it."""
    for rank in cascade.ranks:
        carries = any(rank in each.carried for each in own)
        stepped = all(rank in cascade.einsums[member].output.ranks for member in group)
        if carries and stepped and all(_keeps_order(cascade, each, rank) for each in own):
            return rank
    first = cascade.einsums[group[0]]
    names = ", ".join(dict.fromkeys(cascade.einsums[member].name for member in group))
    raise CascadeSimError(f"{cascade.name}, line {first.line}: {names} need values of each other that do not exist yet")


def _keeps_order(cascade: Cascade, dependence: Dependence, rank: str) -> bool:
    written = cascade.einsums[dependence.producer].output
    for target, read in zip(written.indices, dependence.access.indices, strict=False):
        if rank not in target.ranks:
            continue
        if target.step is None or read.step is None or read.step[0] != rank or read.step[1] > target.step[1]:
            return False
    return True
