"""Bytes of an element of each input and output in DRAM, less what L2 has of it: what a plan says must pass by at least.

Knows sizes; which share L2 has is `memory`'s, `gemm`'s and `elementwise`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cascadesim.accelerators.gpu.gemm import GemmTiming, output_bytes
from cascadesim.accelerators.gpu.memory import Movement
from cascadesim.accelerators.gpu.operand_types import Operands
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES
from cascadesim.accelerators.gpu.texts import key_tiles
from cascadesim.accelerators.gpu.timing import Case
from cascadesim.einsum_cascades.analysis.bound_counts import KEY
from cascadesim.einsum_cascades.models.operation import Operation, least_elements
from cascadesim.einsum_cascades.notation.ir import Cascade


def attention_bytes(
    operation: Operation, splits: Mapping[str, int], case: Case, moved: Movement
) -> Mapping[str, float]:
    """Values that are the first elements of a latent key pass by with it. Keys that no query reaches do not."""
    cascade, shape = operation.cascade, case.shape
    width, kv_width = DTYPE_BYTES[case.dtype], DTYPE_BYTES[case.kv_dtype]
    passing, keys_passing = 1 - float(moved.warm[0]), 1 - float(moved.keys_warm[0])
    reached = int(shape.keys_in_reach[0]) * operation.extent("b") * int(shape.heads_kv[0])
    least, ranks = least_elements(operation, splits), _ranks(cascade)
    found = {name: width * passing for name in cascade.inputs}
    for name in cascade.inputs:
        if ranks[name] & {KEY, *key_tiles(cascade)}:
            depth = operation.extent("f" if "f" in ranks[name] else "e")
            found[name] = kv_width * keys_passing * min(1.0, reached * depth / least[name])
            if shape.shared_key_value and "f" in ranks[name]:
                del found[name]
    return found | dict.fromkeys(cascade.outputs, max(width, 2) * passing)


def attention_widths(operation: Operation, case: Case) -> Mapping[str, float]:
    """Bytes of an element, wherever it is."""
    cascade, ranks = operation.cascade, _ranks(operation.cascade)
    width, kv_width = DTYPE_BYTES[case.dtype], DTYPE_BYTES[case.kv_dtype]
    keyed = {KEY, *key_tiles(cascade)}
    inputs = {name: kv_width if ranks[name] & keyed else width for name in cascade.inputs}
    return inputs | dict.fromkeys(cascade.outputs, width)


def product_widths(operation: Operation, operands: Operands) -> Mapping[str, float]:
    """Rows, and the second operand, which has none; results are as wide as products."""
    cascade, ranks = operation.cascade, _ranks(operation.cascade)
    rows, second = DTYPE_BYTES[operands.rows], DTYPE_BYTES[operands.second]
    inputs = {name: rows if "r" in ranks[name] else second for name in cascade.inputs}
    return inputs | dict.fromkeys(cascade.outputs, output_bytes(DTYPE_BYTES[operands.product]))


def product_bytes(operation: Operation, timing: GemmTiming) -> Mapping[str, float]:
    """Weights pass by; rows and results as far as L2 does not have them."""
    cascade, ranks = operation.cascade, _ranks(operation.cascade)
    widths = product_widths(operation, timing.operands)
    result_width = output_bytes(DTYPE_BYTES[timing.operands.product])
    results = result_width * sum(least_elements(operation)[name] for name in cascade.outputs)
    passing = float(timing.dram_write_bytes[0]) / results
    inputs = {name: widths[name] * (passing if "r" in ranks[name] else 1.0) for name in cascade.inputs}
    return inputs | dict.fromkeys(cascade.outputs, result_width * passing)


def resident_lines(stored: Mapping[str, float], widths: Mapping[str, float]) -> Iterator[str]:
    """Which inputs and outputs, of so many bytes an element, pass by DRAM in part or not at all."""
    kept = {name: 1 - stored.get(name, 0.0) / width for name, width in widths.items()}
    shown = ", ".join(f"{name} {share:.0%}" for name, share in kept.items() if share > 0.0005)
    if shown:
        yield f"not by DRAM (in L2 from before, left there, or part of another tensor): {shown}"


def _ranks(cascade: Cascade) -> Mapping[str, frozenset[str]]:
    """Tensor -> the ranks of its indices, wherever it is read or written."""
    found: dict[str, frozenset[str]] = {}
    for einsum in cascade.einsums:
        for access in (einsum.output, *einsum.inputs):
            ranks = frozenset(rank for index in access.indices for rank in index.ranks)
            found[access.tensor] = found.get(access.tensor, frozenset()) | ranks
    return found
