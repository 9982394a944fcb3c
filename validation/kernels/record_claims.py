"""What our own measurements must show: claims about records, judged once there are some.

The GNA kernel's speedup over our dense kernel against the bound of the GNA simulator, which counts tiles, is here;
what hardware counters must show is in `counter_claims`, times of single kernels in `measured_claims`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Column, Layout, count, positive
from cascadesim.validation.compare import Verdict, compare
from cascadesim.validation.kernels.counter_claims import CASCADE_PASSES, SPATTEN_KERNELS, rows_of_passes, rows_of_pruned
from cascadesim.validation.kernels.measured_calls import calls_of
from cascadesim.validation.kernels.measured_claims import (
    KERNELS_MEASURED,
    PRESETS,
    is_right,
    median_us,
    rows_of_times,
    seconds_of,
)
from cascadesim.validation.kernels.predicted_claims import KERNELS_PREDICTED, rows_of_predicted
from cascadesim.validation.kernels.record_lines import COUNTERS, TIMES, Record
from cascadesim.validation.table import Row, Table

Cells: TypeAlias = dict[str, str | int | float]

BOXES, MASKED, DENSE = "attention in tile order", "masks in every tile", "dense, ours"  # variants
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


def judged(name: str, records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Verdicts of a suite on the records; none where they have no case of it."""
    suite, schema, cells = JUDGED[name]
    own = (record for record in records if record["schema"] == schema and RESULTS[schema] in record)
    rows = tuple(Row(tuple(each.items()), "records", number) for number, each in enumerate(cells(own), start=1))
    return compare(suite, Table(rows, ()), "our records", ()) if rows else ()


def _rows_of_neighborhood(records: Iterable[Record]) -> Iterator[Cells]:
    """Where both results are right: a wrong one is no evidence of speed."""
    return (_cells(record) for record in records
            if record["suite"] == "neighborhood" and is_right(record, BOXES) and is_right(record, DENSE))  # fmt: skip


def _cells(record: Record) -> Cells:
    work, timing = record["work"], record["timing"]
    dense, sparse = (median_us(timing[name]) for name in (DENSE, BOXES))
    masks = "none" if work["without_mask"] == work["key_tiles"] else "some"
    cells: Cells = {
        "gpu": record["device"]["name"], "case": record["case"], "masks": masks, "key_tiles": work["key_tiles"],
        "dense_key_tiles": work["dense_key_tiles"], "speedup": dense / sparse, "shape": json.dumps(record["shape"]),
        "work": json.dumps(work),
    }  # fmt: skip
    if cells["gpu"] in PRESETS and is_right(record, MASKED):
        cells["masks_everywhere"] = median_us(timing[MASKED]) / sparse
    return cells


RESULTS = {TIMES: "timing", COUNTERS: "counters"}  # schema -> what a case that did not fail has
JUDGED: Mapping[str, tuple[Suite, str, Callable[[Iterable[Record]], Iterator[Cells]]]] = {
    KERNELS_PREDICTED.name: (KERNELS_PREDICTED, TIMES, rows_of_predicted),
    KERNELS_MEASURED.name: (KERNELS_MEASURED, TIMES, rows_of_times),
    GNA_KERNELS.name: (GNA_KERNELS, TIMES, _rows_of_neighborhood),
    CASCADE_PASSES.name: (CASCADE_PASSES, COUNTERS, rows_of_passes),
    SPATTEN_KERNELS.name: (SPATTEN_KERNELS, COUNTERS, rows_of_pruned),
}
