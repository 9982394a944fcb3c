"""What the rows of a table ask for, as arrays: floating-point operations and the bytes that must move once.

Exact counts of unmasked pairs; every operand read once, every result written once. Knows no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Dtype
from cascadesim.validation.gpu.layouts import SHAPE
from cascadesim.validation.table import Row

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
