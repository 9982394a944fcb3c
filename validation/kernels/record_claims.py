"""What our own measurements must show: suites of records of times and of hardware counters, judged once there are some.

`kernels-predicted`: the times that were committed before any record existed, never changed by what was measured.
`kernels-measured`: the GPU model's times of our kernels, from their static counts; its constants are those of public
rows, none was fitted to a record. Beside the times stand what the kernels must reach in the same run: torch's
FlashAttention-2, the best published plain Triton, the copy bandwidth. `gna-kernels`: the GNA kernel's speedup over our
dense kernel against the bound of the GNA simulator, which counts tiles. Counters: bounds come from the cascades, every
input read once, and once for each further pass where scores are stored; caches are empty before each kernel, and what
one wrote may still be in the cache when it ends, so reads are compared and not writes.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TypeAlias

from cascadesim.einsum_cascades.analysis.counts import bound, tensor_size
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_2PASS, ATTENTION_3PASS
from cascadesim.validation.claim import Predict, PredictedFigures, Settings, Suite, Verdict, claims_of
from cascadesim.validation.kernels.model import HALF_BYTES, PRESETS, calls_of, seconds_of
from cascadesim.validation.kernels.records import COUNTERS, TIMES, Record, committed
from cascadesim.validation.measure.counters import READ, WARP_PRODUCTS, WARPGROUP_PRODUCTS
from cascadesim.validation.suites import compare
from cascadesim.validation.table import Column, Layout, Row, Table, columns_of, count, not_negative, positive

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
SCORE_BYTES = 4  # of a score that a kernel keeps in memory
STORED = "attention-3pass-stored"
CASCADES: Mapping[str, Cascade] = {
    "attention-1pass": ATTENTION_1PASS, "attention-1pass, mma.sync": ATTENTION_1PASS,
    "attention-2pass": ATTENTION_2PASS, "attention-3pass": ATTENTION_3PASS, STORED: ATTENTION_3PASS,
}  # fmt: skip # variant of the suite `attention` -> its cascade
WHOLE = {
    "dense after compaction": "dense", "gathered": "dense", "kept heads": "all heads", "values by tile": "all values",
    "upper 4 bits": "16 bits, full width", "all 8 bits": "16 bits, full width",
}  # fmt: skip # variant of the suite `pruned` -> the one that leaves nothing out
FULL_BYTES = "full_width_bytes"
PLANES_BYTES = {"upper 4 bits": "upper_bytes", "all 8 bits": "all_bytes"}  # -> what a case states of it
PASSES_LAYOUT = Layout(
    (*columns_of(str, "gpu case kernel masks"), *columns_of(count, "heads tokens head_dim"),
     Column("read_bytes", positive)),
    key=("gpu", "case", "kernel"),
)  # fmt: skip
PRUNED_LAYOUT = Layout(
    (*columns_of(str, "gpu case kernel"), *columns_of(count, "tokens kept heads kept_heads head_dim"),
     *columns_of(count, "whole_bytes pruned_bytes", required=False), Column("traffic", positive),
     Column("work", not_negative, required=False)),
    key=("gpu", "case", "kernel"),
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


def gna_bound(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Dense tile pairs over visited ones, the simulator's mean bound of the same tiles.

    What masks everywhere cost is the GPU model's, from the instructions of the two loops.
    """
    found: dict[str, float | None] = {"speedup": row.count("dense_key_tiles") / row.count("key_tiles")}
    if row.get("masks_everywhere") is not None:
        calls = calls_of("neighborhood", json.loads(row.text("shape")), json.loads(row.text("work")))
        few, everywhere = (seconds_of(calls[name], PRESETS[row.text("gpu")]) for name in (BOXES, MASKED))
        found["masks_everywhere"] = None if few is None or everywhere is None else everywhere / few
    return found


@cache
def input_bytes(cascade: Cascade, heads: int, queries: int, keys: int, head_dim: int) -> int:
    """Every input of a cascade read once, in 16 bits."""
    tile = next(size for size in (64, 1) if keys % size == 0)
    extents = {"H": heads, "P": queries, "E": head_dim, "F": head_dim, "M": keys, "M1": keys // tile, "M0": tile}
    return HALF_BYTES * sum(bound(tensor_size(cascade, name), extents) for name in cascade.inputs)


def lower_bound(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Bytes that the kernel cannot do without."""
    cascade = CASCADES[row.text("kernel")]
    heads, tokens = row.count("heads"), row.count("tokens")
    read = input_bytes(cascade, heads, tokens, tokens, row.count("head_dim"))
    if row.text("kernel") == STORED:
        read += SCORE_BYTES * (cascade.passes("m") - 1) * heads * tokens**2
    return {"read_bytes": read}


def saved(row: Row, settings: Settings = ()) -> PredictedFigures:
    """How much less a pruned variant needs than the whole: bytes read, and products."""
    kernel = row.text("kernel")
    if kernel in PLANES_BYTES:
        return {"traffic": row.count("whole_bytes") / row.count("pruned_bytes"), "work": None}
    if kernel == "kept heads":
        return dict.fromkeys(("traffic", "work"), row.count("heads") / row.count("kept_heads"))
    if kernel == "values by tile":  # queries, keys and values once each, half of the values left out; scores twice
        return dict.fromkeys(("traffic", "work"), 3 / 2.5)
    # products are proportional to keys; the gathered kernel is a 2-pass cascade and multiplies the scores twice:
    # 3 products where the dense one has 2
    tokens, kept, head_dim = row.count("tokens"), row.count("kept"), row.count("head_dim")
    dense, pruned = (input_bytes(ATTENTION_1PASS, 1, tokens, keys, head_dim) for keys in (tokens, kept))
    products = 3 / 2 if kernel == "gathered" else 1
    return {"traffic": dense / pruned, "work": tokens / kept / products}


def is_right(record: Record, name: str) -> bool:
    """Timed, and checked with an error that leaves its time as evidence."""
    error = record.get("check", {}).get(name)
    return bool(record["timing"].get(name, {}).get("cold")) and error is not None and 0 <= error < WRONG


def median_us(samples: Mapping[str, Sequence[float]]) -> float:
    """The median with cold caches, or with hot ones where only they were measured."""
    return statistics.median(samples.get("cold") or samples["hot"])


def rows_of_times(record: Record) -> Iterator[RecordCells]:
    """One for each variant that is predicted and right; devices without a preset are left out."""
    if record["device"]["name"] in PRESETS:
        calls = calls_of(record["suite"], record["shape"], record["work"])
        yield from (_time_cells(record, name) for name in record["timing"] if name in calls and is_right(record, name))


def _time_cells(record: Record, name: str) -> RecordCells:
    shape, timing, seconds = record["shape"], record["timing"], median_us(record["timing"][name]) * 1e-6
    cells: RecordCells = {"suite": record["suite"], "kernel": name, "shape": json.dumps(shape),
                          "work": json.dumps(record["work"]), "latency_s": seconds}  # fmt: skip
    if name == "attention-1pass" and LONG.items() <= shape.items():
        if timing.get(FLASH, {}).get("cold"):
            cells["against_flash"] = median_us(timing[FLASH]) * 1e-6 / seconds
        if PRESETS[record["device"]["name"]] == "h100-sxm":
            cells["triton_flops"] = record["work"]["flop"] / seconds
    copied = timing.get(COPY, {}).get("cold")
    if name.startswith("split keys") and copied and record["work"]["bytes"] >= LARGE_BYTES:
        cells["copy_share"] = median_us(timing[COPY]) * 1e-6 / seconds  # it moves as many bytes
    return cells


def rows_of_predicted(record: Record) -> Iterator[RecordCells]:
    """One for each variant with a committed time: ours where the result is right.

    A launch is told by many in a row: two events alone are farther apart.
    """
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
        yield {"suite": suite, "kernel": name, "kind": kind, "commit": row.commit, "latency_s": time_us * 1e-6}


def rows_of_neighborhood(record: Record) -> Iterator[RecordCells]:
    """One for a case whose two results are right: a wrong one is no evidence of speed."""
    if record["suite"] != "neighborhood" or not is_right(record, BOXES) or not is_right(record, DENSE):
        return
    work, timing = record["work"], record["timing"]
    dense, sparse = (median_us(timing[name]) for name in (DENSE, BOXES))
    cells: RecordCells = {
        "key_tiles": work["key_tiles"], "masks": "none" if work["without_mask"] == work["key_tiles"] else "some",
        "dense_key_tiles": work["dense_key_tiles"], "speedup": dense / sparse,
        "shape": json.dumps(record["shape"]), "work": json.dumps(work),
    }  # fmt: skip
    if record["device"]["name"] in PRESETS and is_right(record, MASKED):
        cells["masks_everywhere"] = median_us(timing[MASKED]) / sparse
    yield cells


def rows_of_passes(record: Record) -> Iterator[RecordCells]:
    shape = record["shape"]
    for name, kernels in record["counters"].items():
        if record["suite"] == "attention" and name in CASCADES:
            yield {"kernel": name, "masks": "causal" if shape["causal"] else "none", "heads": shape["B"] * shape["H"],
                   "tokens": shape["L"], "head_dim": shape["D"], "read_bytes": total(kernels, READ)}  # fmt: skip


def rows_of_pruned(record: Record) -> Iterator[RecordCells]:
    """One for each variant of a case that leaves something out, where the whole was counted too."""
    for variant, kernels in record["counters"].items() if record["suite"] == "pruned" else ():
        name = "kept heads" if variant == f"{record['shape'].get('kept_heads')} heads" else variant
        whole = record["counters"].get(WHOLE.get(name), [])
        stated = name not in PLANES_BYTES or {PLANES_BYTES[name], FULL_BYTES} <= set(record.get("work", {}))
        if total(whole, READ) and total(kernels, READ) and stated:
            yield _pruned_cells(record, name, whole, kernels)


def _pruned_cells(record: Record, name: str, whole: Sequence[Record], kernels: Sequence[Record]) -> RecordCells:
    shape, work = record["shape"], record.get("work", {})
    cells: RecordCells = {
        "kernel": name, "tokens": shape["M"], "kept": shape.get("kept", shape["M"]), "heads": shape["H"],
        "kept_heads": shape.get("kept_heads", shape["H"]), "head_dim": shape["D"],
        "traffic": total(whole, READ) / total(kernels, READ),
    }  # fmt: skip
    if name in PLANES_BYTES:
        return {**cells, "whole_bytes": work[FULL_BYTES], "pruned_bytes": work[PLANES_BYTES[name]]}
    return {**cells, "work": products(whole) / products(kernels) if products(kernels) else 0.0}


def products(kernels: Sequence[Record]) -> float:
    """Matrix instructions, of whichever kind the device has."""
    return total(kernels, WARPGROUP_PRODUCTS) or total(kernels, WARP_PRODUCTS)


def total(kernels: Sequence[Record], metric: str) -> float:
    return sum(float(each["values"].get(metric, 0.0)) for each in kernels)


RESULTS = {TIMES: "timing", COUNTERS: "counters"}  # schema -> what a case that did not fail has
RowsOf: TypeAlias = Callable[[Record], Iterator[RecordCells]]  # all cells but the GPU and the case
_SUITES: tuple[tuple[str, Layout, Predict, str, str, RowsOf], ...] = (
    ("kernels-predicted", PREDICTED_LAYOUT, as_committed, "gpu suite kernel", TIMES, rows_of_predicted),
    ("kernels-measured", MEASURED_LAYOUT, predicted, "gpu kernel", TIMES, rows_of_times),
    ("gna-kernels", GNA_LAYOUT, gna_bound, "gpu", TIMES, rows_of_neighborhood),
    ("cascade-passes", PASSES_LAYOUT, lower_bound, "gpu kernel", COUNTERS, rows_of_passes),
    ("spatten-kernels", PRUNED_LAYOUT, saved, "gpu kernel", COUNTERS, rows_of_pruned),
)
JUDGED: Mapping[str, tuple[Suite, str, RowsOf]] = {
    name: (Suite(name, "measurements", layout, predict, claims_of(name, layout), tuple(strata.split())), schema, rows)
    for name, layout, predict, strata, schema, rows in _SUITES
}


def judged(name: str, records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Verdicts of a suite on the records; none where they have no case of it."""
    suite, schema, rows_of = JUDGED[name]
    own = (record for record in records if record["schema"] == schema and RESULTS[schema] in record)
    found = ({"gpu": record["device"]["name"], "case": record["case"], **cells}
             for record in own for cells in rows_of(record))  # fmt: skip
    rows = tuple(Row(tuple(each.items()), "records", number) for number, each in enumerate(found, start=1))
    return compare(suite, Table(rows, ()), "our records", ()) if rows else ()
