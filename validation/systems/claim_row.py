"""One published figure of an attention system: what was measured, on what, and how far the number can be trusted.

Numbers are SI; `half_width` is what the print or the reading leaves open. Knows the columns of a clean file and what
may stand in them; nothing of how they are made (`clean`) and nothing of what we predict.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TextIO

from cascadesim.accelerators.gpu.accelerator import device_names
from cascadesim.einsum_cascades.notation.errors import shortened, suggestion
from cascadesim.validation.table import Column, Layout, Value, columns_of, count, not_negative

# latency_s to bytes in SI units; speedup over the baseline; density: share of (query, key) pairs that is computed;
# kept: share of a stated whole (the baseline's tokens, heads, bytes or cost) that remains or that something takes;
# saved: share of the baseline's cost that goes
QUANTITIES = ("latency_s", "throughput_per_s", "flop_per_s", "speedup", "density", "kept", "saved", "flop", "bytes",
              "count")  # fmt: skip
# dense: the plain model that the claim compares with; choice: selection, permutation, quantisation; total: sum of
# parts; baseline: another sparse system, or none that we hold; headline: the abstract's figure
ROLES = ("dense", "mechanism", "choice", "total", "baseline", "headline")
# exact: every parameter known; read: the same, the figure read from a picture; partial: `lacks` says what is missing
CERTAINTIES = ("exact", "read", "partial", "abstract")
CAUSAL = ("yes", "no", "decode")
DTYPES = ("bf16", "fp16", "fp32", "fp8")
_BACKWARD = re.compile(r"bwd|train(?! fwd)")


@dataclass(frozen=True)
class ClaimRow:
    """A published figure; '' and None where the source does not say. `printed`: value and unit as published;
    `part`: which column of a table or number of a pair it is; `device`: a preset of ours, `devices` how many.
    """

    system: str
    id: str
    quantity: str
    value: float
    half_width: float
    printed: str
    baseline: str
    device: str
    devices: int | None
    model: str
    layers: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    hidden: int | None
    batch: int | None
    seq_len: int | None
    generated: int | None
    dtype: str
    causal: str
    mechanism: str
    part: str
    phase: str
    role: str
    certainty: str
    lacks: str
    source: str
    note: str

    @property
    def backward(self) -> bool:
        """Whether a backward pass, or a whole step of training, is in the figure."""
        return _BACKWARD.search(self.phase) is not None

    @property
    def known(self) -> bool:
        """Whether every parameter of it is published."""
        return self.certainty in ("exact", "read")


NUMBERS = ("value", "half_width")
COUNTS = ("devices", "layers", "heads", "kv_heads", "head_dim", "hidden", "batch", "seq_len", "generated")
NAMES = tuple(field.name for field in fields(ClaimRow))


def _one_of(names: Callable[[], Iterable[str]]) -> Callable[[str], str]:
    """What reads a cell that holds one of `names`. Raises ValueError for another text."""

    def read(text: str) -> str:
        known = tuple(names())
        if text not in known:
            raise ValueError(f"no '{shortened(text)}'{suggestion(text, known)}")
        return text

    return read


_NAMED = {"quantity": _one_of(lambda: QUANTITIES), "role": _one_of(lambda: ROLES), "device": _one_of(device_names),
          "certainty": _one_of(lambda: CERTAINTIES), "causal": _one_of(lambda: CAUSAL),
          "dtype": _one_of(lambda: DTYPES)}  # fmt: skip
CLEAN = Layout(
    (
        *columns_of(str, "system id"),
        *(Column(name, _NAMED[name]) for name in ("quantity", "role", "certainty")),
        *columns_of(not_negative, " ".join(NUMBERS)),
        *(Column(name, _NAMED[name], required=False) for name in ("device", "causal", "dtype")),
        *columns_of(count, " ".join(COUNTS), required=False),
        *columns_of(str, "printed baseline model mechanism part phase lacks source note", required=False),
    ),
    key=("id",),
)  # fmt: skip


def claim_row(cells: Mapping[str, Value]) -> ClaimRow:
    """The row of these cells; a text that is not there is '', a count None."""
    empty: dict[str, Any] = {name: None if name in COUNTS else "" for name in NAMES}
    return ClaimRow(**empty | {name: cell for name, cell in cells.items() if cell is not None})


def write_rows(rows: Iterable[ClaimRow], stream: TextIO) -> None:
    """Write them as a clean file has them; None is an empty cell."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(NAMES)
    writer.writerows(["" if (cell := getattr(row, name)) is None else cell for name in NAMES] for row in rows)
