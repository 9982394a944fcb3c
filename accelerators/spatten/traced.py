"""A pruning trace as loads and queries of the machine: rows of one query as the harness runs them, others as loads.

Rows keep their order, bits, decisions and counts; rows of several queries are grouped by shape, because they run
through the engine, where order does not matter. Knows no cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil

from cascadesim.accelerators.spatten.head_stream import HeadRow
from cascadesim.accelerators.spatten.mapping import HeadWork, Piece
from cascadesim.accelerators.spatten.rows import Bits, harness_bits, head_rows
from cascadesim.accelerators.spatten.spec import SpattenSpec
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, TracedHead, raise_all


def traced_work(trace: PruningTrace, spec: SpattenSpec) -> HeadWork:
    """Raises SpecError with one located line for each row that the design cannot take."""
    _refuse_settings(trace, spec)
    if all(row.queries == 1 for row in trace.rows):
        rows = head_rows(trace.rows, spec.design(), spec.topk_parallelism, source=trace.source)
        return _work(trace.rows, [Bits(row.key_bits, row.value_bits, row.low_bits) for row in rows], spec, rows)
    fetched = [harness_bits(row) for row in trace.rows]
    raise_all(trace.source, list(_problems(trace.rows, fetched, spec)))
    return _work(trace.rows, fetched, spec, ())


def _refuse_settings(trace: PruningTrace, spec: SpattenSpec) -> None:
    """What a trace has decided is not decided again."""
    given = [name for name in ("token_keep", "head_keep", "value_keep", "low_bit_share")
             if getattr(spec.pruning, name) is not None]  # fmt: skip
    if given:
        raise CascadeSimError(f"{trace.source}: a trace says itself what is kept; leave pruning.{given[0]} out")


def _work(
    trace: Sequence[TracedHead], fetched: Sequence[Bits], spec: SpattenSpec, rows: tuple[HeadRow, ...]
) -> HeadWork:
    lanes = ceil(max(row.head_dim for row in trace) / spec.head_dim)
    shapes = Counter((row.keys, row.values, row.queries) for row in trace)
    pieces = tuple(
        Piece(keys, values, queries, queries * keys, count * lanes) for (keys, values, queries), count in shapes.items()
    )
    queries = sum(row.queries for row in trace)
    share = sum(_repeated(row, own) for row, own in zip(trace, fetched, strict=True)) / queries
    selects = any(row.values < row.keys for row in trace)
    bits = (fetched[0].key or 8, fetched[0].value or 8)
    return HeadWork(pieces, None, lanes, *bits, share, queries, selects, False, rows)


def _repeated(row: TracedHead, own: Bits) -> int:
    """Queries that use low bits: of keys that are wider than the first bits, all."""
    return row.queries if own.low and not row.low_bits else row.repeated_queries


def _problems(trace: Sequence[TracedHead], fetched: Sequence[Bits], spec: SpattenSpec) -> Iterator[str]:
    """Of rows with several queries: one format for all, and heads that the buffer holds."""
    first = fetched[0]
    for number, (row, own) in enumerate(zip(trace, fetched, strict=True)):
        place = f"line {row.line}" if row.line else f"row {number}"
        if (own.key, own.value) != (first.key, first.value):
            yield f"{place}: rows with several queries run in one format, got {own.key}/{own.value} bits after " \
                  f"{first.key}/{first.value}"  # fmt: skip
        elif own.key not in (4, 6, 8) or own.value not in (4, 6, 8):
            yield f"{place}: the design has 4, 6, 8 bits (10, 12 and -1 run as 8), got {own.key}/{own.value}"
        if row.keys * (2 if 6 in (own.key, own.value) else 1) > spec.largest_keys:
            yield f"{place}: key_fetch_num {row.keys} exceeds the buffer of {spec.largest_keys} keys"
