"""What a generation may say of its own error: `python -m cascadesim.validation.models.stated` writes it.

A stratum is one device with one engine: half and nine tenths of the errors of its scored tokens/s in the suite
`models`, and what its rows span, apart for requests that start together and those that come and go. Reported rows say
nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from cascadesim.simulator import generate
from cascadesim.simulator.generate import MeasuredRuns
from cascadesim.validation.claim import Cell
from cascadesim.validation.models.rows import SCORED
from cascadesim.validation.suites import verdicts_of
from cascadesim.validation.uncertainty import within

FILE = Path(generate.__file__).with_name("generation_uncertainty.json")  # package data of the simulator
SIZES = ("devices", "batch", "input_tokens", "output_tokens")


def measured() -> list[MeasuredRuns]:
    """One for each device, engine and way of batching: tokens/s of scored rows."""
    scored = [verdict.cells for verdict in verdicts_of(("models",)) if verdict.claim.metric == "tokens_per_s"
              and (SCORED,) in verdict.claim.where.values()]  # fmt: skip
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in (cell for cells in scored for cell in cells):
        groups.setdefault(_stratum(cell), []).append(cell)
    return [_runs(*names, group) for names, group in sorted(groups.items())]


def _stratum(cell: Cell) -> tuple[str, str, str]:
    return cell.row.text("device"), cell.row.text("engine"), cell.row.text("batching")


def _runs(device: str, engine: str, batching: str, cells: Sequence[Cell]) -> MeasuredRuns:
    errors = [cell.error("deviation") for cell in cells]
    ranges: Mapping[str, tuple[int, int]] = {
        name: (min(sizes), max(sizes)) for name in SIZES for sizes in [[cell.row.count(name) for cell in cells]]}
    workloads = tuple(sorted({cell.row.text("workload") for cell in cells}))
    return MeasuredRuns(device, engine, len(cells), within(errors, 0.5), within(errors, 0.9), ranges, workloads,
                        batching)  # fmt: skip


def main() -> None:
    """Write the file."""
    FILE.write_text(json.dumps([asdict(one) for one in measured()], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
