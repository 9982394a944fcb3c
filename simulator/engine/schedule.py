"""What the engine found out: when every unit worked, waited and had nothing to do.

Cycles only; seconds, traffic and energy belong to the report.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cascadesim.accelerators.program import Program


@dataclass(frozen=True, slots=True)
class UnitUse:
    """Every cycle of one unit: busy_cycles + stalled_cycles + idle_cycles = cycles of the schedule.

    It is stalled while its next task waits between its first start and its last finish, and idle before and after.
    """

    name: str
    busy_cycles: int
    stalled_cycles: int
    idle_cycles: int
    first_start: int | None  # None where the unit never works
    last_finish: int | None


@dataclass(frozen=True, slots=True)
class TaskUse:
    """Cycles that one task occupied its unit, summed over all tiles."""

    name: str
    unit: str
    busy_cycles: int


@dataclass(frozen=True, slots=True)
class SteadyState:
    """The longest stretch found in which every `tiles` tiles take exactly `cycles` cycles.

    It goes from tile `first_tile` to before `last_tile`.
    """

    first_tile: int
    tiles: int
    cycles: int
    last_tile: int

    @property
    def cycles_per_tile(self) -> float:
        return self.cycles / self.tiles


@dataclass(frozen=True, slots=True)
class Slice:
    """One task of one tile on its unit, for traces; `steady` where the tile lies in the steady state."""

    unit: str
    task: str
    tile: int
    start: int
    finish: int
    steady: bool


@dataclass(frozen=True)
class Schedule:
    """The outcome of one program. `fill_cycles` pass before the bounding unit starts, `drain_cycles` after it ends."""

    cycles: int
    tiles: int
    units: tuple[UnitUse, ...]
    tasks: tuple[TaskUse, ...]
    bound_by: str  # the unit with the most busy cycles
    fill_cycles: int
    drain_cycles: int
    steady: SteadyState | None
    simulated_tiles: int  # tiles stepped through one by one; the others are exact repetitions
    program: Program = field(repr=False)

    def unit(self, name: str) -> UnitUse:
        return next(unit for unit in self.units if unit.name == name)

    def utilization(self, name: str) -> float:
        return self.unit(name).busy_cycles / self.cycles if self.cycles else 0.0

    def __str__(self) -> str:
        rows = [("unit", "busy", "stalled", "idle", "busy share")]
        rows += [
            (unit.name, f"{unit.busy_cycles:,}", f"{unit.stalled_cycles:,}", f"{unit.idle_cycles:,}",
             f"{self.utilization(unit.name):.1%}")
            for unit in self.units
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join([*self._headline(), *table])

    def _headline(self) -> list[str]:
        lines = [
            f"{self.cycles:,} cycles for {self.tiles:,} tiles; {self.bound_by} is busiest: "
            f"{self.fill_cycles:,} cycles before it starts, {self.drain_cycles:,} after it ends"
        ]
        if self.steady is not None:
            lines.append(
                f"steady from tile {self.steady.first_tile:,}: {self.steady.cycles:,} cycles every "
                f"{self.steady.tiles:,} tiles ({self.steady.cycles_per_tile:,.2f} per tile)"
            )
        return lines
