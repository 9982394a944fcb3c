"""What an attention operation does to memories and arrays: words at each level and operations, to be priced.

Two sets of rules that are never mixed. PHYSICAL counts what the hardware does. `artifact_rules` counts what the
published energies count: one register file of each array, first writes elided in 64 bits, DRAM reads elided where
they equal the writes, and the slips of the published loop nests. Knows no energy. FuseMax artifact, commit f543beb.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from cascadesim.accelerators.access_counts import Accesses, Registers, count_accesses
from cascadesim.accelerators.energy import Actions
from cascadesim.accelerators.fusemax.nests import REGISTERS, REGISTERS_1D, Nests, Projections
from cascadesim.accelerators.fusemax.placement import ARRAY_2D, DRAM, GLOBAL_BUFFER, Placed
from cascadesim.accelerators.fusemax.spec import Published
from cascadesim.accelerators.protocol import Traffic

Counts = Mapping[tuple[str, str], Accesses]  # (level, operand)


@dataclass(frozen=True)
class Rules:
    """How accesses become actions."""

    registers: Registers = "all"
    wrap64: bool = False
    elides_dram_reads: bool = False
    charges_exponentials: bool = True
    charges_registers_1d_from_2d: bool = True
    # (Einsum, operand, rank) that the nest of this Einsum declares the operand without
    lost_ranks: frozenset[tuple[str, str, str]] = frozenset()


PHYSICAL = Rules()

_PUBLISHED_LOSSES = frozenset(
    {
        ("SLNV", "SLNV", "m1"),  # artifact: the output of SLNV has ranks B, F, H, P
        ("SLD", "SLN", "m0"),  # artifact: SLN is declared without its inner rank in SLD
    }
)


def artifact_rules(published: Published) -> Rules:
    return Rules(
        registers="one",
        wrap64=True,
        elides_dram_reads=True,
        charges_exponentials=published.charges_exponentials,
        charges_registers_1d_from_2d=published.charges_registers_1d_from_2d,
        lost_ranks=_PUBLISHED_LOSSES,
    )


@dataclass(frozen=True)
class Counted:
    """One Einsum's accesses under some rules."""

    placed: Placed
    accesses: Counts

    def level(self, level: str) -> Accesses:
        return sum((found for (where, _), found in self.accesses.items() if where == level), Accesses())


def count(nests: Nests, rules: Rules) -> tuple[Counted, ...]:
    return tuple(Counted(placed, _accesses(placed, nests, rules)) for placed in nests.placement.einsums)


def _accesses(placed: Placed, nests: Nests, rules: Rules) -> Counts:
    known = replace(
        placed,
        operands=tuple(
            replace(
                operand,
                ranks=frozenset(r for r in operand.ranks if (placed.name, operand.name, r) not in rules.lost_ranks),
            )
            for operand in placed.operands
        ),
    )
    found = count_accesses(known.operands, nests.nest(known), rules.registers, rules.wrap64)
    return {key: _elided(key[0], accesses, rules) for key, accesses in found.items()}


def _elided(level: str, accesses: Accesses, rules: Rules) -> Accesses:
    """Reads of DRAM that equal the updates are those of a first write that was never elided."""
    elided = rules.elides_dram_reads and level == DRAM and accesses.reads == accesses.updates
    return replace(accesses, reads=0) if elided else accesses


def traffic(counted: tuple[Counted, ...], word_bytes: int) -> Traffic:
    dram = sum((einsum.level(DRAM) for einsum in counted), Accesses())
    return Traffic(dram.reads * word_bytes, dram.writes * word_bytes)


def actions(counted: tuple[Counted, ...], nests: Nests, rules: Rules) -> Actions:
    return sum((_actions(einsum, nests, rules) for einsum in counted), Actions())


def _actions(counted: Counted, nests: Nests, rules: Rules) -> Actions:
    dram, buffer, own = (counted.level(name) for name in (DRAM, GLOBAL_BUFFER, REGISTERS))
    words = Actions(dram.reads + dram.writes, buffer.reads, buffer.writes)
    operations = _operations(counted.placed, nests, rules)
    if counted.placed.unit != ARRAY_2D:
        return words + Actions(register_reads_1d=own.reads, register_writes_1d=own.writes, operations_1d=operations)
    shared = counted.level(REGISTERS_1D) if rules.charges_registers_1d_from_2d else Accesses()
    return words + Actions(
        register_reads_2d=own.reads,
        register_writes_2d=own.writes,
        register_reads_1d=shared.reads,
        register_writes_1d=shared.writes,
        operations_2d=operations,
    )


def _operations(placed: Placed, nests: Nests, rules: Rules) -> Mapping[str, int]:
    """Operations on every real query and key of the tiles, masked or not: the array computes a tile whole."""
    loops = {"instance", "p2", "p1", "p0"} | (placed.ranks & set(nests.depths))
    loops |= {"m1"} if nests.placement.key_outer in placed.ranks else set()
    loops |= {"m0"} if nests.placement.key_inner in placed.ranks else set()
    points = Projections(nests.tiles, nests.depths)(frozenset(loops))
    free = frozenset() if rules.charges_exponentials else frozenset({"exp"})
    return MappingProxyType({name: number * points for name, number in placed.operations.items() if name not in free})
