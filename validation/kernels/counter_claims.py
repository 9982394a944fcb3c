"""What hardware counters of our kernels must show: claims about bytes from DRAM and matrix instructions.

Bounds come from the cascades: every input is read once, and once for each further pass where scores are stored.
Records are those of `cascadesim measure --counters`, whose caches are empty before each kernel; what a kernel wrote may
still be in the cache when it ends, so reads are compared and not writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from cascadesim.einsum_cascades.analysis.counts import bound, tensor_size
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_2PASS, ATTENTION_3PASS
from cascadesim.validation.claim import Claim, PredictedFigures, Settings, Suite
from cascadesim.validation.measure.counters import READ, WARP_PRODUCTS, WARPGROUP_PRODUCTS
from cascadesim.validation.table import Column, Layout, Row, columns_of, count, not_negative, positive

HALF_BYTES, SCORE_BYTES = 2, 4  # the cases' inputs; scores that a kernel keeps in memory
REPLAY = 0.02  # assumed: what a counter differs by between replays of a kernel, with some room
CACHED = 0.10  # assumed: what a tenth of the rows, fetched again after eviction, adds to reads
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

KEY = columns_of(str, "gpu case kernel")
PASSES_LAYOUT = Layout(
    (*KEY, Column("masks", str), *columns_of(count, "heads tokens head_dim"), Column("read_bytes", positive)),
    key=("gpu", "case", "kernel"),
)
PRUNED_LAYOUT = Layout(
    (*KEY, *columns_of(count, "tokens kept heads kept_heads head_dim"),
     *columns_of(count, "whole_bytes pruned_bytes", required=False), Column("traffic", positive),
     Column("work", not_negative, required=False)),
    key=("gpu", "case", "kernel"),
)  # fmt: skip


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


CASCADE_PASSES = Suite(
    "cascade-passes",
    "bytes that 1-, 2- and 3-pass kernels read from DRAM, against the cascades' lower bounds",
    "measurements", PASSES_LAYOUT, lower_bound,
    (
        Claim("no kernel reads less than its cascade must", "read_bytes", REPLAY,
              "caches are empty before each kernel", where={"masks": ("none",)}, measure="excess"),
        Claim("kernels that keep their scores on chip, against the bound", "read_bytes", None,
              "keys and values come again from DRAM where the L2 cache lost them",
              where={"masks": ("none",), "kernel": tuple(name for name in CASCADES if name != STORED)}),
    ),
    ("gpu", "kernel"),
)  # fmt: skip
SPATTEN_KERNELS = Suite(
    "spatten-kernels",
    "traffic and work that pruning saves our kernels, against what the counts of what is kept predict",
    "measurements", PRUNED_LAYOUT, saved,
    (
        Claim("bytes from DRAM, dense over pruned", "traffic", CACHED,
              "what is kept comes once, and little comes twice", unless={"kernel": tuple(PLANES_BYTES)}),
        Claim("bytes from DRAM, keys of 16 bits over planes of 4", "traffic", CACHED,
              "planes hold two codes a byte; values come again where the lower plane does",
              where={"kernel": tuple(PLANES_BYTES)}),
        Claim("matrix instructions, dense over pruned", "work", REPLAY,
              "tiles are whole: kept tokens divide by the tile"),
    ),
    ("gpu", "kernel"),
)  # fmt: skip


def rows_of_passes(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str | int | float]]:
    for record in records:
        shape = record["shape"]
        for name, kernels in record["counters"].items():
            if record["suite"] == "attention" and name in CASCADES:
                yield {"gpu": record["device"]["name"], "case": record["case"], "kernel": name,
                       "masks": "causal" if shape["causal"] else "none", "heads": shape["B"] * shape["H"],
                       "tokens": shape["L"], "head_dim": shape["D"],
                       "read_bytes": total(kernels, READ)}  # fmt: skip


def rows_of_pruned(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str | int | float]]:
    """One for each variant of a case that leaves something out, where the whole was counted too."""
    for record in records:
        for variant, kernels in record["counters"].items() if record["suite"] == "pruned" else ():
            name = "kept heads" if variant == f"{record['shape'].get('kept_heads')} heads" else variant
            whole = record["counters"].get(WHOLE.get(name), [])
            stated = name not in PLANES_BYTES or {PLANES_BYTES[name], FULL_BYTES} <= set(record.get("work", {}))
            if total(whole, READ) and total(kernels, READ) and stated:
                yield _pruned_cells(record, name, whole, kernels)


def _pruned_cells(
    record: Mapping[str, Any], name: str, whole: Sequence[Mapping[str, Any]], kernels: Sequence[Mapping[str, Any]]
) -> dict[str, str | int | float]:
    shape, work = record["shape"], record.get("work", {})
    cells: dict[str, str | int | float] = {
        "gpu": record["device"]["name"], "case": record["case"], "kernel": name, "tokens": shape["M"],
        "kept": shape.get("kept", shape["M"]), "heads": shape["H"], "kept_heads": shape.get("kept_heads", shape["H"]),
        "head_dim": shape["D"], "traffic": total(whole, READ) / total(kernels, READ),
    }  # fmt: skip
    if name in PLANES_BYTES:
        return {**cells, "whole_bytes": work[FULL_BYTES], "pruned_bytes": work[PLANES_BYTES[name]]}
    return {**cells, "work": products(whole) / products(kernels) if products(kernels) else 0.0}


def products(kernels: Iterable[Mapping[str, Any]]) -> float:
    """Matrix instructions, of whichever kind the device has."""
    each = tuple(kernels)
    return total(each, WARPGROUP_PRODUCTS) or total(each, WARP_PRODUCTS)


def total(kernels: Iterable[Mapping[str, Any]], metric: str) -> float:
    return sum(float(each["values"].get(metric, 0.0)) for each in kernels)
