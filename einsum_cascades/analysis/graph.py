"""A cascade as a directed graph, and the order in which its Einsums run.

Nodes are Einsums, edges are dependences: which Einsum reads what another one writes, and how many steps of an iterative
rank earlier it was written. Einsums that need each other's earlier values (RD and SPD) run as a loop over the rank that
carries them; all others run whole. FuseMax (MICRO'24), section II. Knows no arrays, no passes and no hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from cascadesim.einsum_cascades.analysis.passes import Dependence, dependences
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade

if TYPE_CHECKING:
    import networkx as nx

Step: TypeAlias = "int | RankLoop"  # an Einsum by its number, or a loop


@dataclass(frozen=True, slots=True)
class RankLoop:
    """Steps that run once per coordinate of a rank, in increasing order."""

    rank: str
    body: tuple[Step, ...]


@cache
def graph(cascade: Cascade) -> nx.MultiDiGraph:
    """The cascade as a networkx graph, which is frozen.

    Nodes are the numbers of the Einsums (a state has two), with the attribute `einsum`. Edges go from the Einsum that
    writes to the one that reads, with `tensor`, and the iterative `rank` that carries the dependence over `distance`
    steps (None and 0 where the value is of the same step).
    """
    import networkx as nx  # takes 75 ms

    found = nx.MultiDiGraph(name=cascade.name)
    found.add_nodes_from((number, {"einsum": einsum}) for number, einsum in enumerate(cascade.einsums))
    for each in dependences(cascade):
        rank, distance = next(iter(each.distances.items()), (None, 0))
        found.add_edge(each.producer, each.reader, tensor=each.access.tensor, rank=rank, distance=distance)
    return nx.freeze(found)


def steps(cascade: Cascade) -> tuple[Step, ...]:
    """The Einsums in an order in which they can run. Raises CascadeSimError where a value is needed too early."""
    return tuple(_ordered(cascade, range(len(cascade.einsums)), dependences(cascade)))


def _ordered(cascade: Cascade, members: Iterable[int], found: Iterable[Dependence]) -> Iterator[Step]:
    """Groups that need each other's values become loops; among groups that could run, the first in the text does."""
    import networkx as nx

    reads = nx.DiGraph((each.producer, each.reader) for each in found)
    reads.add_nodes_from(members)
    groups = nx.condensation(reads)
    members_of = groups.nodes.data("members")
    for node in nx.lexicographical_topological_sort(groups, key=lambda node: min(members_of[node])):
        group = sorted(members_of[node])
        own = [each for each in found if each.reader in group and each.producer in group]
        if own:
            rank = _loop_rank(cascade, group, own)
            yield RankLoop(rank, tuple(_ordered(cascade, group, [each for each in own if rank not in each.distances])))
        else:
            yield group[0]


def _loop_rank(cascade: Cascade, group: list[int], own: list[Dependence]) -> str:
    """The rank to step along: it carries a dependence, and nobody in the loop looks ahead or sums along it."""
    for rank in cascade.ranks:
        carries = any(rank in each.distances for each in own)
        stepped = all(rank in cascade.einsums[member].written_ranks for member in group)
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
