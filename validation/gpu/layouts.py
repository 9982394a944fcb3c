"""The columns of the public GPU measurements, file by file, and of the rows that the suites make of them.

A file's layout is recognised by its header, so that `--data` takes other rows of any of these files. Also which rows
calibrate the GPU model and which score it. Which rows a suite reads, and what it derives from them, is in `rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from cascadesim.validation.columns import Column, Layout, Value, columns_of, count, not_negative, positive, whole

SHAPE = (
    "batch", "seqlen_q", "kv_len", "heads_q", "heads_kv", "head_dim", "head_dim_v", "causal", "window", "m", "n", "k",
)  # fmt: skip
NAMES = ("source", "gpu", "device", "impl", "kernel", "operation", "phase", "dtype", "kv_dtype")
GROUPS = ("stratum", "size_class", "split", "scored", "architecture")  # derived: what errors are reported by
BASELINES = ("roofline_s", "neighbour_s")
ONE_IN = 5  # rows that calibrate
CALIBRATION, SCORED = "calibration", "scored"
POOLED: Final = "pooled"  # gates of claims, worked out by `verdict`
RANKING: Final = "ranking"
OF_ROOFLINE: Final = "roofline"
UNREAD = (
    "tflops", "gbps", "frac_peak", "latency_std_ms", "kv_mbytes", "throughput", "throughput_unit", "certainty", "model",
    "tp", "impl_version", "dense_tflops",
)  # fmt: skip


_whole = partial(whole, expected="a whole number")


def layout(texts: str = "", counts: str = "", wholes: str = "", figures: str = "latency_ms", optional: str = "",
           key: str = "") -> Layout:
    """Names by kind, separated by spaces; the key is every name but the figures unless given."""
    columns = (*columns_of(str, texts), *columns_of(count, counts), *columns_of(_whole, wholes),
               *columns_of(positive, figures), *columns_of(_whole, optional, required=False))  # fmt: skip
    named = {column.name for column in columns}
    unread = tuple(Column(name, str, required=False) for name in UNREAD if name not in named)
    return Layout((*columns, *unread), tuple((key or f"{texts} {counts} {wholes} {optional}").split()))


RAW = {
    "prefill": layout("gpu impl dtype kv_dtype", "batch seqlen heads_q heads_kv head_dim", "window"),
    "decode": layout("gpu impl dtype kv_dtype", "batch kv_len heads_q heads_kv head_dim", "window"),
    "encoder": layout("gpu impl dtype", "batch seqlen heads head_dim"),
    "gemm": layout("gpu impl dtype", "m n k"),
    "mla": layout("gpu impl phase dtype kv_dtype", "batch seqlen_q kv_len heads"),
    "vidur-attention": layout("gpu impl dtype phase", "batch seqlen_q heads_q heads_kv head_dim", "kv_cache"),
    "vidur-linear": layout("gpu model kind op", "tp m n", "k"),
    "servingsim": layout("gpu impl dtype phase", "heads_q heads_kv head_dim",
                         "prefill_q prefill_kv_cache n_decode kv_decode"),
    "papers": layout("paper gpu impl dtype pass", "batch heads seqlen head_dim", "causal"),
    "fa1": layout("paper gpu impl dtype pass", "batch heads seqlen head_dim", "dropout padding_mask"),
    "llmcompass": layout("gpu op dtype", "m n", "k"),
    "neusight": layout("gpu group op", "b m_or_width", "", optional="n k"),
    "misc": layout("kind gpu impl source unit", figures="value",
                   optional="batch seqlen_q seqlen_k heads_q heads_kv head_dim causal m n k",
                   key="kind gpu impl dtype pass batch seqlen_q seqlen_k heads_q heads_kv head_dim causal m n k value"),
}  # fmt: skip
MISC_TEXTS = tuple(Column(name, str, required=False) for name in ("dtype", "pass"))
RAW["misc"] = Layout((*RAW["misc"].columns, *MISC_TEXTS), RAW["misc"].key)

UNIFIED = Layout(
    (
        *(Column(name, str, required=False) for name in (*NAMES, *GROUPS)),
        *(Column(name, _whole, required=False) for name in SHAPE),
        Column("latency_s", positive),
        *(Column(name, not_negative, required=False) for name in BASELINES),
    ),
    key=("source", "gpu", "impl", "phase", "dtype", "kv_dtype", *SHAPE),
)


def recognised(header: Sequence[str], among: Sequence[str]) -> str:
    """The layout of `among` whose required columns the header has, most of them first; else the first of `among`."""
    names = {name.strip().lower() for name in header}
    fitting = [(len(needed), name) for name in among
               if (needed := {column.name for column in RAW[name].columns if column.required}) <= names]
    return max(fitting)[1] if fitting else among[0]


def split_of(cells: Mapping[str, Value]) -> str:
    """`calibration` for a fifth of all shapes, by a hash of the operation and the extents; else `scored`.

    The same shape on another device, in another library or type falls on the same side, so that no calibrated constant
    has seen a scored shape. The `# calibration:` line of each file makes the comparison refuse a claim that would.
    """
    shape = " ".join([str(cells.get("operation")), *(f"{name}={cells.get(name) or 0}" for name in SHAPE)])
    digest = hashlib.blake2b(shape.encode(), digest_size=8).digest()
    return CALIBRATION if int.from_bytes(digest, "big") % ONE_IN == 0 else SCORED
