"""What a report may say of its own error: `python -m cascadesim.validation.uncertainty` writes it for the simulator.

Strata: one for each kind of work that was published for an architecture, with half and nine tenths of the errors of
its latency, at the fidelity and accounting that are the default. Arrays: the suites `fusemax-cycle` (attention of the
published models) and `spatten-rtl-streams` (single queries). GPUs: `uncertainty`. Of others nothing is known.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.uncertainty import Stratum, attention_sizes, mask_name, sizes_of
from cascadesim.validation.claims.fusemax import FUSEMAX_CYCLE
from cascadesim.validation.claims.spatten import SPATTEN_RTL_STREAMS
from cascadesim.validation.cli import verdicts_of
from cascadesim.validation.compare import Cell
from cascadesim.validation.gpu.uncertainty import of_gpus
from cascadesim.validation.grouped import member
from cascadesim.validation.strata import Sizes, stratum

RTL_CONFIGURATIONS = {"m512c16": "spatten", "m64c2": "spatten-1-8"}  # of the RTL's streams -> our preset
RTL_HEAD_DIM = 64


def measured() -> dict[str, list[Stratum]]:
    """architecture -> what was compared with it."""
    return dict(sorted({**_of_arrays(), **_of_streams(), **of_gpus()}.items()))


def _of_arrays() -> dict[str, list[Stratum]]:
    """Attention of one layer of BERT, TrXL, T5 and XLM, as published."""
    by_architecture: dict[str, list[Cell]] = {}
    for verdict in verdicts_of((FUSEMAX_CYCLE.name,)):
        if verdict.claim.metric == "latency_s" and verdict.claim.measure == "deviation":
            for cell in verdict.cells:
                by_architecture.setdefault(cell.row.text("architecture"), []).append(cell)
    what = "published figures of attention on {} (validation suite fusemax-cycle)"
    return {
        name: [stratum("attention", what.format(name), "cycle", _once(cells), _sizes_of_model, map(_mask, cells))]
        for name, cells in by_architecture.items()
    }


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """Several claims may speak of a row."""
    return list({(cell.row.place, cell.column): cell for cell in cells}.values())


def _mask(cell: Cell) -> str:
    (operation, *_) = load_workload(cell.row.text("workload")).operations(scope="attention")
    return mask_name(operation.mask)


def _sizes_of_model(cell: Cell) -> Sizes:
    length = cell.row.count("sequence_length")
    (operation, *_) = load_workload(cell.row.text("workload")).operations(sequence_length=length, scope="attention")
    return {name: size for name, size in sizes_of(operation, 0.0).items() if name != "call_s"}


def _of_streams() -> dict[str, list[Stratum]]:
    """Total cycles of streams of single queries; where many share their keys nothing was measured."""
    (verdict,) = (one for one in verdicts_of((SPATTEN_RTL_STREAMS.name,)) if one.claim.metric == "total")
    what = "streams of single queries through the RTL of {} (validation suite spatten-rtl-streams)"
    return {
        name: [stratum("attention", what.format(name), "cycle", cells, _sizes_of_stream, ("full",))]
        for config, name in RTL_CONFIGURATIONS.items()
        if (cells := [cell for cell in verdict.cells if cell.row.get("config") == config])
    }


def _sizes_of_stream(cell: Cell) -> Sizes:
    """One head after another, each with keys of its own."""
    keys = max(row.count("key_fetch_num") for row in member(cell.row).group.rows)
    sizes = attention_sizes(1, 1, 1, 1, keys, RTL_HEAD_DIM, RTL_HEAD_DIM, 0.0)
    return {name: sizes[name] for name in ("group", "queries", "keys", "head_dim", "value_dim")}


def text(entries: Mapping[str, Sequence[Stratum]]) -> str:
    """A line for each stratum."""
    parts = [
        f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(asdict(one))}" for one in strata) + "\n ]"
        for name, strata in entries.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def file() -> Path:
    """Package data of the simulator."""
    from cascadesim.simulator import report

    return Path(report.__file__).with_name("uncertainty.json")


if __name__ == "__main__":
    file().write_text(text(measured()), encoding="utf-8")
    sys.exit(0)
