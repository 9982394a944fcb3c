"""What our own measurements must show: claims about records, judged once there are some.

So far: the GNA kernel's speedup over our dense kernel against the bound of the GNA simulator, which counts tiles.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Column, Layout, count, positive
from cascadesim.validation.compare import Verdict, compare
from cascadesim.validation.table import Row, Table

NEAR_BOUND = 1 / 0.9 - 1  # the bound is at most so far above what is measured
GNA_LAYOUT = Layout(
    (
        Column("gpu", str), Column("case", str), Column("masks", str), Column("key_tiles", count),
        Column("dense_key_tiles", count), Column("speedup", positive),
    ),
    key=("gpu", "case"),
)  # fmt: skip


def bound(row: Row, settings: Settings = ()) -> Prediction:
    """Dense tile pairs over visited ones: the simulator's mean bound of the same tiles."""
    return {"speedup": row.count("dense_key_tiles") / row.count("key_tiles")}


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
    ),
    ("gpu",),
)  # fmt: skip


def judged(name: str, files: Sequence[Path]) -> tuple[Verdict, ...]:
    """Verdicts of a suite on the records; none where it has no claims yet, or the records no case of it."""
    if name != GNA_KERNELS.name:
        return ()
    rows = tuple(_rows(files))
    return compare(GNA_KERNELS, Table(rows, ()), "our records", ()) if rows else ()


def _rows(files: Sequence[Path]) -> Iterator[Row]:
    for path in files:
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            record = json.loads(text)
            if record["suite"] == "neighborhood" and "error" not in record:
                yield Row(tuple(_cells(record).items()), path.name, number)


def _cells(record: Mapping[str, Any]) -> dict[str, str | int | float]:
    work, timing = record["work"], record["timing"]
    dense, sparse = (_median_us(timing[name]) for name in ("dense, ours", "attention in tile order"))
    masks = "none" if work["without_mask"] == work["key_tiles"] else "some"
    return {"gpu": record["device"]["name"], "case": record["case"], "masks": masks, "key_tiles": work["key_tiles"],
            "dense_key_tiles": work["dense_key_tiles"], "speedup": dense / sparse}  # fmt: skip


def _median_us(samples: Mapping[str, Sequence[float]]) -> float:
    return statistics.median(samples["cold"])
