"""Reports as flat rows: one line of CSV each, the unit in every column's name. Tables within a report are left out."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import TextIO, TypeAlias

from cascadesim.simulator.report import Report
from cascadesim.simulator.views.output import cell

Cell: TypeAlias = str | int | float | None


def write_csv(reports: Sequence[Report], stream: TextIO) -> None:
    """A header with every column that any of the reports has; a figure that a report lacks is an empty cell."""
    rows = [flat_row(report) for report in reports]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(cell(column) for column in columns)
    writer.writerows([cell(row.get(column)) for column in columns] for row in rows)


def flat_row(report: Report) -> dict[str, Cell]:
    content = report.to_dict()
    plain = {name: value for name, value in content.items() if isinstance(value, str | int | float | None)}
    row: dict[str, Cell] = {name: value for name, value in plain.items() if name not in _NESTED}
    row["dram_read_bytes"] = report.traffic.read_bytes
    row["dram_write_bytes"] = report.traffic.write_bytes
    row["energy_total_j"] = report.total_energy_j
    row["area_total_um2"] = report.total_area_um2
    row |= _columns("energy", report.energy_j, "j") | _columns("area", report.area_um2, "um2")
    for unit in report.units:
        row |= {f"{unit.name}_busy_cycles": unit.busy_cycles, f"{unit.name}_stalled_cycles": unit.stalled_cycles,
                f"{unit.name}_idle_cycles": unit.idle_cycles, f"{unit.name}_utilization": unit.utilization}  # fmt: skip
    found, held = report.uncertainty, report.memory
    row |= {f"uncertainty_{name}": None if found is None else getattr(found, name) for name in _OF_UNCERTAINTY}
    return row | ({} if held is None else {f"memory_{kind}_bytes": size for kind, size in vars(held).items()})


_OF_UNCERTAINTY = ("latency", "p90", "rows", "covers")
_NESTED = ("energy_j", "area_um2", "memory_bytes", "uncertainty")  # objects that may be null


def _columns(what: str, by_component: Mapping[str, float] | None, unit: str) -> dict[str, Cell]:
    return {f"{what}_{component}_{unit}": amount for component, amount in (by_component or {}).items()}
