"""What reports on GPUs may say of their own error: published calls by device, operation and kernel.

Calls of 20 us and more that calibrate nothing; the cycle level has a suite of its own. Devices that nothing was
measured on stay without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cascadesim.accelerators.gpu.spec import with_cache
from cascadesim.simulator.uncertainty import Stratum, attention_sizes
from cascadesim.validation.claims.gpu import CYCLE_LEVEL, LATENCY, SCORED
from cascadesim.validation.cli import verdicts_of
from cascadesim.validation.compare import Cell
from cascadesim.validation.gpu.errors import FEWEST_ROWS
from cascadesim.validation.gpu.layouts import POOLED
from cascadesim.validation.strata import stratum

SUITES = ("gpu-prefill", "gpu-decode", "gpu-encoder", "gpu-mla", "gpu-gemm", CYCLE_LEVEL.name)
WORK = {
    "prefill": "causal attention of prompts", "decode": "attention in decoding", "encoder": "full attention",
    "mla-context": "latent attention of prompts", "mla-generation": "latent attention in decoding",
    "gemm": "products",
}  # fmt: skip
LATENT_KEY, LATENT_VALUE = 576, 512  # of DeepSeek's absorbed form, which all heads share
Kind = tuple[str, str, str, str]  # suite, device, operation, kernel


def of_gpus() -> dict[str, list[Stratum]]:
    """Device -> its strata of ten calls and more."""
    kinds: dict[Kind, list[Cell]] = {}
    for verdict in verdicts_of(SUITES):
        scored = {**SCORED, "operation": verdict.claim.where.get("operation", ())}
        if verdict.claim.gate == POOLED and verdict.claim.metric == LATENCY and (
            verdict.claim.where in (SCORED, scored) and not verdict.claim.fitted
        ):
            for cell in verdict.cells:
                row = cell.row
                kind = (verdict.suite, row.text("device"), row.text("operation"), row.text("kernel"))
                kinds.setdefault(kind, []).append(cell)
    found: dict[str, list[Stratum]] = {}
    for kind, cells in sorted(kinds.items()):
        if len(cells) >= FEWEST_ROWS:
            found.setdefault(kind[1], []).append(_stratum(kind, cells))
    return found


def _stratum(kind: Kind, cells: Sequence[Cell]) -> Stratum:
    suite, device, operation, kernel = kind
    fidelity = "cycle" if suite == CYCLE_LEVEL.name else "analytical"
    by = "" if operation == "gemm" else f" by {kernel}"
    what = f"published calls of {WORK[operation]}{by} on {device} (validation suite {suite})"
    types = (with_cache(cell.row.text("dtype"), cell.row.text("kv_dtype")) for cell in cells)
    if operation == "gemm":
        dtypes = (cell.row.text("dtype") for cell in cells)
        return stratum("linear", what, fidelity, cells, _product, ("full",), dtypes)
    return stratum("attention", what, fidelity, cells, _attention, map(_mask, cells), types, kernel)


def _product(cell: Cell) -> Mapping[str, float]:
    sizes = {name: cell.row.number(column) or 0 for name, column in (("rows", "m"), ("outputs", "n"), ("depth", "k"))}
    return {**sizes, "copies": max(cell.row.number("batch") or 1, 1), "call_s": cell.measured}


def _attention(cell: Cell) -> Mapping[str, float]:
    """As a simulation names the sizes: a window of decoding is the keys that it leaves."""
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
