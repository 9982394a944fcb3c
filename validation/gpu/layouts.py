"""The columns of the public GPU measurements, file by file, and of the rows that the suites make of them.

A file's layout is recognised by its header, so that `--data` takes other rows of any of these files. Also which rows
calibrate the GPU model and which score it, and the unified rows as arrays: floating-point operations, and the bytes
that must move once. Knows no device; which rows a suite reads, and what it derives from them, is in `rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Dtype
from cascadesim.validation.table import Layout, Row, Value, columns_of, count, not_negative, positive, whole

SHAPE = (
    "batch", "seqlen_q", "kv_len", "heads_q", "heads_kv", "head_dim", "head_dim_v", "causal", "window", "m", "n", "k",
)  # fmt: skip
NAMES = ("source", "gpu", "device", "impl", "kernel", "operation", "phase", "dtype", "kv_dtype")
GROUPS = ("stratum", "size_class", "split", "scored", "architecture")  # derived: what errors are reported by
BASELINES = ("roofline_s", "neighbour_s")
ONE_IN = 5  # rows that calibrate
CALIBRATION, SCORED = "calibration", "scored"
POOLED, RANKING, OF_ROOFLINE = "pooled", "ranking", "roofline"  # gates of claims, worked out by `verdict`
UNREAD = (
    "tflops", "gbps", "frac_peak", "latency_std_ms", "kv_mbytes", "throughput", "throughput_unit", "certainty", "model",
    "tp", "impl_version", "dense_tflops",
)  # fmt: skip


_whole = partial(whole, expected="a whole number")


def layout(texts: str = "", counts: str = "", wholes: str = "", figures: str = "latency_ms", optional: str = "",
           key: str = "", optional_texts: str = "") -> Layout:
    """Names by kind, separated by spaces; the key is every name but the figures unless given."""
    columns = (*columns_of(str, texts), *columns_of(count, counts), *columns_of(_whole, wholes),
               *columns_of(positive, figures), *columns_of(_whole, optional, required=False))  # fmt: skip
    named = {column.name for column in columns}
    unread = " ".join(name for name in UNREAD if name not in named)
    return Layout((*columns, *columns_of(str, f"{unread} {optional_texts}", required=False)),
                  tuple((key or f"{texts} {counts} {wholes} {optional}").split()))  # fmt: skip


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
                   key="kind gpu impl dtype pass batch seqlen_q seqlen_k heads_q heads_kv head_dim causal m n k value",
                   optional_texts="dtype pass"),
}  # fmt: skip

UNIFIED = Layout(
    (*columns_of(str, " ".join((*NAMES, *GROUPS)), required=False),
     *columns_of(_whole, " ".join(SHAPE), required=False), *columns_of(positive, "latency_s"),
     *columns_of(not_negative, " ".join(BASELINES), required=False)),
    key=("source", "gpu", "impl", "phase", "dtype", "kv_dtype", *SHAPE),
)  # fmt: skip


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


Floats: TypeAlias = NDArray[np.float64]
Texts: TypeAlias = NDArray[np.str_]
# tensors read and written; vidur's gated activations read two (Llama, Qwen, InternLM, CodeLlama), the others one
TENSORS = {"add": 3, "mul": 3, "div": 3, "pow": 3, "mlp_act": 3}
TENSORS_OF_THE_REST = 2  # one operand, one result
# without a norm after attention, so that vidur's `add` sums attention, feed-forward and residual: two kernels, not one
UNGATED = ("phi-2", "falcon")


@dataclass(frozen=True, eq=False)
class Shapes:
    """Columns of rows of one table; an extent that a row does not have is 0."""

    operation: Texts
    device: Texts
    kernel: Texts
    source: Texts
    impl: Texts
    dtype: Texts
    kv_dtype: Texts
    split: Texts
    scored: Texts
    stratum: Texts
    architecture: Texts
    latency_s: Floats
    batch: Floats
    seqlen_q: Floats
    kv_len: Floats
    heads_q: Floats
    heads_kv: Floats
    head_dim: Floats
    head_dim_v: Floats
    causal: Floats
    window: Floats
    m: Floats
    n: Floats
    k: Floats

    def __len__(self) -> int:
        return len(self.latency_s)

    def at(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Shapes:
        """Some of the rows."""
        return Shapes(*(getattr(self, each.name)[which] for each in fields(self)))

    @staticmethod
    def joined(parts: Sequence[Shapes]) -> Shapes:
        """Rows of several tables as one."""
        return Shapes(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Shapes)))

    @cached_property
    def kinds(self) -> dict[tuple[str, ...], NDArray[np.int64]]:
        """(device, kernel, operation, dtype, kv_dtype, source, impl) -> its rows."""
        columns = (self.device, self.kernel, self.operation, self.dtype, self.kv_dtype, self.source, self.impl)
        found: dict[tuple[str, ...], list[int]] = {}
        for row, kind in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            found.setdefault(kind, []).append(row)
        return {kind: np.array(rows, dtype=np.int64) for kind, rows in found.items()}

    @cached_property
    def dtype_bytes(self) -> Floats:
        return _bytes(self.dtype)

    @property
    def pairs(self) -> Floats:
        """Unmasked (query, key) pairs of one head."""
        reach = np.where(self.window > 0, np.minimum(self.window, self.kv_len), self.kv_len)
        causal = _ramp(self.kv_len, reach) - _ramp(self.kv_len - self.seqlen_q, reach)
        return np.where(self.causal > 0, causal, self.seqlen_q * reach)

    @cached_property
    def flops(self) -> Floats:
        attention = 2 * self.batch * self.heads_q * self.pairs * (self.head_dim + self.head_dim_v)
        return np.where(self.head_dim > 0, attention, 2 * np.maximum(self.batch, 1) * self.m * self.n * self.k)

    @cached_property
    def bytes(self) -> Floats:
        """Attention, products, or what moves rows without a product."""
        counts = np.array([tensors(*pair) for pair in zip(self.operation, self.impl, strict=True)], dtype=np.float64)
        moved = np.where(self.k > 0, self._product_bytes(), counts * self.m * self.n * self.dtype_bytes)
        return np.where(self.head_dim > 0, self._attention_bytes(), moved)

    def _attention_bytes(self) -> Floats:
        keys = np.where(self.window > 0, np.minimum(self.kv_len, self.window + self.seqlen_q - 1), self.kv_len)
        latent = self.operation == "mla-generation"  # values are the first 512 of the 576 latent numbers
        cached = np.where(latent, self.head_dim, self.head_dim + self.head_dim_v) * _bytes(self.kv_dtype)
        queries = self.head_dim * self.dtype_bytes + self.head_dim_v * 2.0  # the result has two bytes
        return self.batch * (self.heads_q * self.seqlen_q * queries + self.heads_kv * keys * cached)

    def _product_bytes(self) -> Floats:
        out = np.where(self.dtype == "fp32", 4.0, 2.0)
        operands = (self.m * self.k + self.k * self.n) * self.dtype_bytes
        return np.maximum(self.batch, 1) * (operands + self.m * self.n * out)


def tensors(operation: str, impl: str) -> int:
    """How many of the size of the result an operation between matrices reads and writes."""
    if operation == "add" and any(model in impl for model in UNGATED):
        return 2 * TENSORS["add"]
    if operation == "mlp_act" and any(model in impl for model in UNGATED):
        return TENSORS_OF_THE_REST
    return TENSORS.get(operation, TENSORS_OF_THE_REST)


def _ramp(length: Floats, reach: Floats) -> Floats:
    """Pairs of a causal mask of `length` queries, each of which sees at most `reach` keys."""
    inside = np.minimum(length, reach)
    return np.asarray(inside * (inside + 1) / 2 + (length - inside) * reach, dtype=np.float64)


def _bytes(dtypes: Texts) -> Floats:
    return np.array([DTYPE_BYTES[cast(Dtype, str(name))] for name in dtypes], dtype=np.float64)


def shapes_of(rows: Sequence[Row]) -> Shapes:
    """The columns of unified rows."""
    cells = [dict(row.cells) for row in rows]

    def column(name: str) -> Any:
        values = [one.get(name) for one in cells]
        if name in SHAPE or name == "latency_s":
            return np.array([value or 0 for value in values], dtype=np.float64)
        return np.array([str(value) for value in values], dtype=np.str_)

    return Shapes(*(column(each.name) for each in fields(Shapes)))
