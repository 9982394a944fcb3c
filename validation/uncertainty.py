"""What a report may say of its own error: `python -m cascadesim.validation.uncertainty` writes it for the simulator.

A stratum is one kind of work that was published for an architecture: half and nine tenths of the errors of its
latency, and the range of sizes that it spans. Arrays: the suites `fusemax-cycle` (attention of the published models)
and `spatten-rtl-streams` (single queries), at the fidelity and accounting that are the default. GPUs: published calls
of 20 us and more that calibrate nothing, by device, operation and kernel; the cycle level has a suite of its own. Of
others nothing is known.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from math import ceil, floor, log10
from pathlib import Path
from typing import TypeAlias

from cascadesim.accelerators.gpu.spec import with_cache
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator import report
from cascadesim.simulator.uncertainty import DEPTHS, MeasuredStratum, attention_sizes, mask_name, sizes_of
from cascadesim.validation.claim import Cell, Selection
from cascadesim.validation.claims.published import CYCLE_LEVEL
from cascadesim.validation.gpu.layouts import POOLED
from cascadesim.validation.gpu.selections import LATENCY
from cascadesim.validation.gpu.verdict import FEWEST_ROWS
from cascadesim.validation.suites import verdicts_of
from cascadesim.validation.table import member

FILE = Path(report.__file__).with_name("uncertainty.json")  # package data of the simulator
RTL_CONFIGURATIONS = {"m512c16": "spatten", "m64c2": "spatten-1-8"}  # of the RTL's streams -> our preset
RTL_HEAD_DIM = 64
SCORED: Selection = {"scored": ("scored",)}
GPU_SUITES = ("gpu-prefill", "gpu-decode", "gpu-encoder", "gpu-mla", "gpu-gemm", CYCLE_LEVEL)
GPU_WORK = {
    "prefill": "causal attention of prompts", "decode": "attention in decoding", "encoder": "full attention",
    "mla-context": "latent attention of prompts", "mla-generation": "latent attention in decoding",
    "gemm": "products",
}  # fmt: skip
LATENT_KEY, LATENT_VALUE = 576, 512  # of DeepSeek's absorbed form, which all heads share
SizesOfCell: TypeAlias = Callable[[Cell], Mapping[str, float]]  # as a simulation names them


def measured() -> dict[str, list[MeasuredStratum]]:
    """Architecture -> what was compared with it."""
    return dict(sorted({**_of_arrays(), **_of_streams(), **_of_gpus()}.items()))


def within(errors: Iterable[float], share: float) -> float:
    """The smallest figure of two digits that so large a share of the errors does not exceed."""
    ordered = sorted(errors)
    exact = ordered[ceil(share * len(ordered) - 1e-9) - 1]
    if exact == 0:
        return 0.0
    digit = 10.0 ** (floor(log10(exact)) - 1)
    return float(f"{ceil(exact / digit - 1e-9) * digit:.2g}")


def _stratum(
    kind: str, what: str, fidelity: str, cells: Sequence[Cell], sizes: SizesOfCell, masks: Iterable[str],
    types: Iterable[str] = ("",), kernel: str = "",
) -> MeasuredStratum:  # fmt: skip
    """The errors of cells of one kind of work, and the smallest and largest of each of their sizes, or each depth."""
    errors, found = [cell.error("deviation") for cell in cells], [sizes(cell) for cell in cells]
    sorted_sizes = {name: sorted({one[name] for one in found}) for name in found[0]}
    ranges = {name: tuple(own) if name in DEPTHS else (own[0], own[-1]) for name, own in sorted_sizes.items()}
    half, most, largest = (within(errors, share) for share in (0.5, 0.9, 1.0))
    return MeasuredStratum(kind, what, fidelity, len(cells), half, most, largest, ranges, tuple(sorted(set(masks))),
                   tuple(sorted(set(types))), kernel)  # fmt: skip


def _of_arrays() -> dict[str, list[MeasuredStratum]]:
    """Attention of one layer of BERT, TrXL, T5 and XLM, as published; a row of which several claims speak, once."""
    cells: dict[str, dict[tuple[str, str], Cell]] = {}
    for verdict in verdicts_of(("fusemax-cycle",)):
        if verdict.claim.metric == "latency_s" and verdict.claim.measure == "deviation":
            for cell in verdict.cells:
                cells.setdefault(cell.row.text("architecture"), {})[cell.row.place, cell.column] = cell
    what = "published figures of attention on {} (validation suite fusemax-cycle)"

    def operation(cell: Cell) -> Operation:
        length = cell.row.count("sequence_length")
        (found, *_) = load_workload(cell.row.text("workload")).operations(sequence_length=length, scope="attention")
        return found

    def sizes(cell: Cell) -> Mapping[str, float]:
        return {name: size for name, size in sizes_of(operation(cell), 0.0).items() if name != "call_s"}

    return {name: [_stratum("attention", what.format(name), "cycle", list(own.values()), sizes,
                            (mask_name(operation(cell).mask) for cell in own.values()))]
            for name, own in cells.items()}  # fmt: skip


def _of_streams() -> dict[str, list[MeasuredStratum]]:
    """Total cycles of streams of single queries; where many share their keys nothing was measured."""
    (verdict,) = (one for one in verdicts_of(("spatten-rtl-streams",)) if one.claim.metric == "total")
    what = "streams of single queries through the RTL of {} (validation suite spatten-rtl-streams)"

    def sizes(cell: Cell) -> Mapping[str, float]:
        """One head after another, each with keys of its own."""
        keys = max(row.count("key_fetch_num") for row in member(cell.row).group.rows)
        found = attention_sizes(1, 1, 1, 1, keys, RTL_HEAD_DIM, RTL_HEAD_DIM, 0.0)
        return {name: found[name] for name in ("group", "queries", "keys", "head_dim", "value_dim")}

    return {
        name: [_stratum("attention", what.format(name), "cycle", cells, sizes, ("full",))]
        for config, name in RTL_CONFIGURATIONS.items()
        if (cells := [cell for cell in verdict.cells if cell.row.get("config") == config])
    }


def _of_gpus() -> dict[str, list[MeasuredStratum]]:
    """Device -> its strata of ten calls and more, by suite, operation and kernel."""
    kinds: dict[tuple[str, str, str, str], list[Cell]] = {}
    for verdict in verdicts_of(GPU_SUITES):
        claim = verdict.claim
        scored = {**SCORED, "operation": claim.where.get("operation", ())}
        if claim.gate == POOLED and claim.metric == LATENCY and claim.where in (SCORED, scored) and not claim.fitted:
            for cell in verdict.cells:
                device, operation, kernel = (cell.row.text(name) for name in ("device", "operation", "kernel"))
                kinds.setdefault((verdict.suite, device, operation, kernel), []).append(cell)
    found: dict[str, list[MeasuredStratum]] = {}
    for (suite, device, operation, kernel), cells in sorted(kinds.items()):
        if len(cells) < FEWEST_ROWS:
            continue
        gemm = operation == "gemm"
        by = "" if gemm else f" by {kernel}"
        what = f"published calls of {GPU_WORK[operation]}{by} on {device} (validation suite {suite})"
        fidelity = "cycle" if suite == CYCLE_LEVEL else "analytical"
        dtypes = [(cell.row.text("dtype"), cell.row.text("kv_dtype")) for cell in cells]
        found.setdefault(device, []).append(
            _stratum("linear", what, fidelity, cells, _sizes_of_product, ("full",), (dtype for dtype, _ in dtypes))
            if gemm else
            _stratum("attention", what, fidelity, cells, _sizes_of_attention, map(_mask, cells),
                     (with_cache(*pair) for pair in dtypes), kernel)
        )  # fmt: skip
    return found


def _sizes_of_product(cell: Cell) -> Mapping[str, float]:
    sizes = {name: cell.row.number(column) or 0 for name, column in (("rows", "m"), ("outputs", "n"), ("depth", "k"))}
    return {**sizes, "copies": max(cell.row.number("batch") or 1, 1), "call_s": cell.measured}


def _sizes_of_attention(cell: Cell) -> Mapping[str, float]:
    """The sizes as a simulation names them: a window of decoding is the keys that it leaves."""
    row = cell.row
    batch, heads, key_heads, queries, keys, head_dim, value_dim, window = (
        row.number(name) or 0
        for name in ("batch", "heads_q", "heads_kv", "seqlen_q", "kv_len", "head_dim", "head_dim_v", "window")
    )
    if row.get("operation") == "mla-generation":
        key_heads, head_dim, value_dim = 1, LATENT_KEY, LATENT_VALUE
    reach = min(keys, window) if window and queries == 1 else keys
    return attention_sizes(batch, heads, key_heads, queries, reach, head_dim, value_dim, cell.measured)


def _mask(cell: Cell) -> str:
    row = cell.row
    if row.number("seqlen_q") == 1 or not row.number("causal"):
        return "full"
    return "window" if row.number("window") else "causal"


def text(entries: Mapping[str, Sequence[MeasuredStratum]]) -> str:
    """The file: a line for each stratum."""
    parts = [
        f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(asdict(one))}" for one in strata) + "\n ]"
        for name, strata in entries.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(measured()), encoding="utf-8")
    sys.exit(0)
