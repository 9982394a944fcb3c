"""What our own measurements must show: claims about records of times, judged once there are some.

`kernels-predicted`: the times that were committed before any record existed, never changed by what was measured.
`kernels-measured`: the GPU model's times of our kernels, from their static counts; its constants are those of public
rows, none was fitted to a record. Beside the times stand what the kernels must reach in the same run: torch's
FlashAttention-2, the best published plain Triton, the copy bandwidth. `gna-kernels`: the GNA kernel's speedup over our
dense kernel against the bound of the GNA simulator, which counts tiles. What hardware counters must show is in
`counter_claims`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from cascadesim.validation.claim import PredictedFigures, Settings, Suite, Verdict, claims_of
from cascadesim.validation.kernels.counter_claims import CASCADE_PASSES, SPATTEN_KERNELS, rows_of_passes, rows_of_pruned
from cascadesim.validation.kernels.model import PRESETS, calls_of, seconds_of
from cascadesim.validation.kernels.records import COUNTERS, TIMES, Record, committed
from cascadesim.validation.suites import compare
from cascadesim.validation.table import Column, Layout, Row, Table, columns_of, count, positive

RecordCells: TypeAlias = dict[str, str | int | float]

FLASH, COPY = "sdpa FLASH_ATTENTION", "copy of the keys"
LONG = {"L": 16384, "D": 128, "causal": False}  # the shape that is held against published figures
BEST_TRITON_FLOPS = 395e12  # FlashAttention-3 paper, figure of H100, head dimension 128, 16K, full: Triton
NEAR = 0.9  # of that figure: another version of Triton, another clock
WRONG = 1e-2  # an error of a result from which its time is no evidence: twice what bf16 may have
COPY_SHARE, LARGE_BYTES = 0.8, 100_000_000  # decoding streams keys and values once; smaller caches are all launch
OURS, RATES, LIBRARY = "kernels of ours", "rates", "library"
BOXES, MASKED, DENSE = "attention in tile order", "masks in every tile", "dense, ours"  # variants

KEY = ("gpu", "suite", "case", "kernel")
MEASURED_LAYOUT = Layout(
    (*columns_of(str, "gpu suite case kernel shape work"),
     *columns_of(positive, "latency_s against_flash triton_flops copy_share", required=False)),
    KEY,
)  # fmt: skip
PREDICTED_LAYOUT = Layout((*columns_of(str, "gpu suite case kernel kind commit"), Column("latency_s", positive)), KEY)
GNA_LAYOUT = Layout(
    (*columns_of(str, "gpu case masks shape work"), *columns_of(count, "key_tiles dense_key_tiles"),
     Column("speedup", positive), Column("masks_everywhere", positive, required=False)),
    key=("gpu", "case"),
)  # fmt: skip


def predicted(row: Row, settings: Settings = ()) -> PredictedFigures:
    """`settings`: changes of the device, as of every GPU suite."""
    calls = calls_of(row.text("suite"), json.loads(row.text("shape")), json.loads(row.text("work")))
    return {
        "latency_s": seconds_of(calls[row.text("kernel")], PRESETS[row.text("gpu")], settings),
        "against_flash": 1.0, "triton_flops": NEAR * BEST_TRITON_FLOPS, "copy_share": COPY_SHARE,
    }  # fmt: skip


def as_committed(row: Row, settings: Settings = ()) -> PredictedFigures:
    """No model runs; `settings` change nothing of what was written down."""
    gpu, suite, case, kernel = (row.text(name) for name in KEY)
    return {"latency_s": committed()[gpu, suite, case, kernel].seconds}


def bound(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Dense tile pairs over visited ones, the simulator's mean bound of the same tiles.

    What masks everywhere cost is the GPU model's, from the instructions of the two loops.
    """
    found: dict[str, float | None] = {"speedup": row.count("dense_key_tiles") / row.count("key_tiles")}
    if row.get("masks_everywhere") is not None:
        calls = calls_of("neighborhood", json.loads(row.text("shape")), json.loads(row.text("work")))
        few, everywhere = (seconds_of(calls[name], PRESETS[row.text("gpu")]) for name in (BOXES, MASKED))
        found["masks_everywhere"] = None if few is None or everywhere is None else everywhere / few
    return found


KERNELS_MEASURED = Suite("kernels-measured", "measurements", MEASURED_LAYOUT, predicted,
                         claims_of("kernels-measured", MEASURED_LAYOUT), ("gpu", "kernel"))  # fmt: skip
KERNELS_PREDICTED = Suite("kernels-predicted", "measurements", PREDICTED_LAYOUT, as_committed,
                          claims_of("kernels-predicted", PREDICTED_LAYOUT), ("gpu", "suite", "kernel"))  # fmt: skip
GNA_KERNELS = Suite("gna-kernels", "measurements", GNA_LAYOUT, bound, claims_of("gna-kernels", GNA_LAYOUT), ("gpu",))


def is_right(record: Record, name: str) -> bool:
    """Timed, and checked with an error that leaves its time as evidence."""
    error = record.get("check", {}).get(name)
    return bool(record["timing"].get(name, {}).get("cold")) and error is not None and 0 <= error < WRONG


def median_us(samples: Mapping[str, Sequence[float]]) -> float:
    """The median with cold caches, or with hot ones where only they were measured."""
    return statistics.median(samples.get("cold") or samples["hot"])


def rows_of_times(records: Iterable[Record]) -> Iterator[RecordCells]:
    """One for each variant that is predicted and right; devices without a preset are left out."""
    for record in records:
        if record["device"]["name"] not in PRESETS:
            continue
        calls = calls_of(record["suite"], record["shape"], record["work"])
        for name in record["timing"]:
            if name in calls and is_right(record, name):
                yield _time_cells(record, name)


def _time_cells(record: Record, name: str) -> RecordCells:
    shape, timing, gpu = record["shape"], record["timing"], record["device"]["name"]
    seconds = median_us(timing[name]) * 1e-6
    cells: RecordCells = {
        "gpu": gpu, "suite": record["suite"], "case": record["case"], "kernel": name, "shape": json.dumps(shape),
        "work": json.dumps(record["work"]), "latency_s": seconds,
    }  # fmt: skip
    if name == "attention-1pass" and LONG.items() <= shape.items():
        if timing.get(FLASH, {}).get("cold"):
            cells["against_flash"] = median_us(timing[FLASH]) * 1e-6 / seconds
        if PRESETS[gpu] == "h100-sxm":
            cells["triton_flops"] = record["work"]["flop"] / seconds
    copied = timing.get(COPY, {}).get("cold")
    if name.startswith("split keys") and copied and record["work"]["bytes"] >= LARGE_BYTES:
        cells["copy_share"] = median_us(timing[COPY]) * 1e-6 / seconds  # it moves as many bytes
    return cells


def rows_of_predicted(records: Iterable[Record]) -> Iterator[RecordCells]:
    """One for each variant with a committed time: ours where the result is right.

    A launch is told by many in a row: two events alone are farther apart.
    """
    for record in records:
        suite, gpu, case = record["suite"], record["device"]["name"], record["case"]
        ours = calls_of(suite, record["shape"], record.get("work", {}))
        for name, samples in record["timing"].items():
            row = committed().get((gpu, suite, case, name))
            if row is None or row.seconds is None or not (samples.get("cold") or samples.get("hot")):
                continue
            if name in ours and not is_right(record, name):
                continue
            kind = RATES if suite == "microbenchmarks" else OURS if name in ours else LIBRARY
            many = samples.get("many") if case == "launch" else None
            time_us = statistics.median(many) if many else median_us(samples)
            yield {"gpu": gpu, "suite": suite, "case": case, "kernel": name, "kind": kind, "commit": row.commit,
                   "latency_s": time_us * 1e-6}  # fmt: skip


def rows_of_neighborhood(records: Iterable[Record]) -> Iterator[RecordCells]:
    """One for each case whose two results are right: a wrong one is no evidence of speed."""
    for record in records:
        if record["suite"] != "neighborhood" or not is_right(record, BOXES) or not is_right(record, DENSE):
            continue
        work, timing = record["work"], record["timing"]
        dense, sparse = (median_us(timing[name]) for name in (DENSE, BOXES))
        cells: RecordCells = {
            "gpu": record["device"]["name"], "case": record["case"], "key_tiles": work["key_tiles"],
            "masks": "none" if work["without_mask"] == work["key_tiles"] else "some",
            "dense_key_tiles": work["dense_key_tiles"], "speedup": dense / sparse,
            "shape": json.dumps(record["shape"]), "work": json.dumps(work),
        }  # fmt: skip
        if cells["gpu"] in PRESETS and is_right(record, MASKED):
            cells["masks_everywhere"] = median_us(timing[MASKED]) / sparse
        yield cells


RESULTS = {TIMES: "timing", COUNTERS: "counters"}  # schema -> what a case that did not fail has
JUDGED: Mapping[str, tuple[Suite, str, Callable[[Iterable[Record]], Iterator[RecordCells]]]] = {
    KERNELS_PREDICTED.name: (KERNELS_PREDICTED, TIMES, rows_of_predicted),
    KERNELS_MEASURED.name: (KERNELS_MEASURED, TIMES, rows_of_times),
    GNA_KERNELS.name: (GNA_KERNELS, TIMES, rows_of_neighborhood),
    CASCADE_PASSES.name: (CASCADE_PASSES, COUNTERS, rows_of_passes),
    SPATTEN_KERNELS.name: (SPATTEN_KERNELS, COUNTERS, rows_of_pruned),
}


def judged(name: str, records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Verdicts of a suite on the records; none where they have no case of it."""
    suite, schema, cells = JUDGED[name]
    own = (record for record in records if record["schema"] == schema and RESULTS[schema] in record)
    rows = tuple(Row(tuple(each.items()), "records", number) for number, each in enumerate(cells(own), start=1))
    return compare(suite, Table(rows, ()), "our records", ()) if rows else ()
