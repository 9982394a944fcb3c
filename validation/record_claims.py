"""What our own measurements must show: claims about records, judged once there are some.

The GNA kernel's speedup over our dense kernel against the bound of the GNA simulator, which counts tiles, is here;
what hardware counters must show is in `counter_claims`, times of single kernels in `measured_claims`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Column, Layout, count, positive
from cascadesim.validation.compare import Verdict, compare
from cascadesim.validation.counter_claims import CASCADE_PASSES, SPATTEN_KERNELS, rows_of_passes, rows_of_pruned
from cascadesim.validation.measure_counters import SCHEMA as COUNTERS
from cascadesim.validation.measure_run import SCHEMA as TIMES
from cascadesim.validation.measured_calls import calls_of
from cascadesim.validation.measured_claims import KERNELS_MEASURED, PRESETS, median_us, rows_of_times, seconds_of
from cascadesim.validation.table import Row, Table

Cells: TypeAlias = dict[str, str | int | float]

BOXES, MASKED = "attention in tile order", "masks in every tile"  # variants
NEAR_BOUND = 1 / 0.9 - 1  # the bound is at most so far above what is measured
GNA_LAYOUT = Layout(
    (
        Column("gpu", str), Column("case", str), Column("masks", str), Column("key_tiles", count),
        Column("dense_key_tiles", count), Column("speedup", positive), Column("shape", str), Column("work", str),
        Column("masks_everywhere", positive, required=False),
    ),
    key=("gpu", "case"),
)  # fmt: skip


def bound(row: Row, settings: Settings = ()) -> Prediction:
    """Dense tile pairs over visited ones: the simulator's mean bound of the same tiles. What masks everywhere cost: the
    GPU model's, from the instructions of the two loops."""
    found: dict[str, float | None] = {"speedup": row.count("dense_key_tiles") / row.count("key_tiles")}
    if row.get("masks_everywhere") is not None:
        calls = calls_of("neighborhood", json.loads(row.text("shape")), json.loads(row.text("work")))
        few, everywhere = (seconds_of(calls[name], PRESETS[row.text("gpu")]) for name in (BOXES, MASKED))
        found["masks_everywhere"] = None if few is None or everywhere is None else everywhere / few
    return found


GNA_KERNELS = Suite(
    "gna-kernels",
    "the GNA simulator's bound against our kernel's speedup over our dense kernel",
    "measurements",
    GNA_LAYOUT,
    bound,
    (
        Claim("speedup where no tile is masked, against the bound", "speedup", NEAR_BOUND,
              "the same inner loop on fewer tiles: nine tenths of the bound", where={"masks": ("none",)},
              measure="excess"),
        Claim("speedup with masked tiles, reported only", "speedup", None, "masks cost what the bound does not count",
              where={"masks": ("some",)}),
        Claim("time with masks in every tile over masks in partial tiles, reported only", "masks_everywhere", None,
              "what a kernel without a loop for whole tiles would lose"),
    ),
    ("gpu",),
)  # fmt: skip


def judged(name: str, files: Sequence[Path]) -> tuple[Verdict, ...]:
    """Verdicts of a suite on the records; none where it has no claims yet, or the records no case of it."""
    if name not in JUDGED:
        return ()
    suite, schema, cells = JUDGED[name]
    rows = tuple(Row(tuple(each.items()), "records", number)
                 for number, each in enumerate(cells(_records(files, schema)), start=1))  # fmt: skip
    return compare(suite, Table(rows, ()), "our records", ()) if rows else ()


def _records(files: Sequence[Path], schema: str) -> Iterator[Mapping[str, Any]]:
    """Those of one schema; cases that failed are left out."""
    for path in files:
        for text in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(text)
            if record["schema"] == schema and "error" not in record:
                yield record


def _rows_of_neighborhood(records: Iterable[Mapping[str, Any]]) -> Iterator[Cells]:
    return (_cells(record) for record in records if record["suite"] == "neighborhood")


def _cells(record: Mapping[str, Any]) -> Cells:
    work, timing = record["work"], record["timing"]
    dense, sparse = (median_us(timing[name]) for name in ("dense, ours", BOXES))
    masks = "none" if work["without_mask"] == work["key_tiles"] else "some"
    cells: Cells = {
        "gpu": record["device"]["name"], "case": record["case"], "masks": masks, "key_tiles": work["key_tiles"],
        "dense_key_tiles": work["dense_key_tiles"], "speedup": dense / sparse, "shape": json.dumps(record["shape"]),
        "work": json.dumps(work),
    }  # fmt: skip
    if MASKED in timing and cells["gpu"] in PRESETS:
        cells["masks_everywhere"] = median_us(timing[MASKED]) / sparse
    return cells


JUDGED: Mapping[str, tuple[Suite, str, Callable[[Iterable[Mapping[str, Any]]], Iterator[Cells]]]] = {
    KERNELS_MEASURED.name: (KERNELS_MEASURED, TIMES, rows_of_times),
    GNA_KERNELS.name: (GNA_KERNELS, TIMES, _rows_of_neighborhood),
    CASCADE_PASSES.name: (CASCADE_PASSES, COUNTERS, rows_of_passes),
    SPATTEN_KERNELS.name: (SPATTEN_KERNELS, COUNTERS, rows_of_pruned),
}
