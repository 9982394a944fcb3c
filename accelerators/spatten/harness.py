"""The test harness of the public RTL: which keys it gathers, which bits it fetches, and pruning traces as it runs them.

Section 2 of the RTL's description and its TestSpAtten. The top-k latency model draws once a row, in the order of the
whole workload. Rows of one query keep their order; rows of several queries run through the engine, where order does not
matter, and are grouped by shape. Counts stay as traced: the design rounds them up itself. Knows no cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from math import ceil

from cascadesim.accelerators.spatten.mapping import HeadWork, Piece
from cascadesim.accelerators.spatten.spec import PRUNING_SHARES, GatherDesign, HeadRow, SpattenSpec, lines, padded
from cascadesim.accelerators.spatten.topk import JavaRandom, drawn_cycles
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, TracedHead, raise_all

STORED_BITS = (4, 6, 8)  # SpAtten RTL: widths that a key or value profile has
WIDE = (None, 10, 12)  # TestSpAtten: not quantized, 6+4 and 8+4 run at 8 bits


@lru_cache(maxsize=256)
def gathered_keys(keys: int, fetch_channels: int, largest_key: int) -> tuple[int, ...]:
    """The initial content of the harness's score buffer: the first `keys` key numbers, and those that fill their line.

    Line i holds `fetch_channels` of the 2 x `fetch_channels` keys from i x `fetch_channels` on, shuffled and sorted:
    half of a window, and windows overlap by half. Numbers wrap at `largest_key`.
    """
    draw, found = JavaRandom(1), list[int]()
    for first in range(0, keys, fetch_channels):
        window = list(range(first, first + 2 * fetch_channels))
        for count in range(len(window), 1, -1):  # scala.util.Random.shuffle: from the end
            chosen = draw.below(count)
            window[count - 1], window[chosen] = window[chosen], window[count - 1]
        found += (key % largest_key for key in sorted(window[:fetch_channels]))
    return tuple(found)


def traced_work(trace: PruningTrace, spec: SpattenSpec) -> HeadWork:
    """The loads of a trace. Raises SpecError with one located line for each row that the design cannot take.

    Raises CascadeSimError where a setting of the machine would decide again what a trace has decided.
    """
    given = [name for name in PRUNING_SHARES if getattr(spec.pruning, name) is not None]
    if given:
        raise CascadeSimError(f"{trace.source}: a trace says itself what is kept; leave pruning.{given[0]} out")
    rows, fetched = trace.rows, [_fetched(row) for row in trace.rows]
    heads: tuple[HeadRow, ...] = ()
    if all(row.queries == 1 for row in rows):
        heads = head_rows(rows, spec.design(), spec.topk_parallelism, trace.source)
    else:
        raise_all(trace.source, list(_problems_of_loads(rows, fetched, spec)))
    lanes = ceil(max(row.head_dim for row in rows) / spec.head_dim)
    shapes = Counter((row.keys, row.values, row.queries) for row in rows)
    pieces = tuple(
        Piece(keys, values, queries, queries * keys, count * lanes) for (keys, values, queries), count in shapes.items()
    )
    queries = sum(row.queries for row in rows)
    repeated = sum(  # where keys are wider than the first bits, all queries use the low bits
        row.queries if own.low_bits and not row.low_bits else row.repeated_queries
        for row, own in zip(rows, fetched, strict=True)
    )
    selects = any(row.values < row.keys for row in rows)
    bits = (fetched[0].key_bits or 8, fetched[0].value_bits or 8)
    return HeadWork(pieces, None, lanes, *bits, repeated / queries, selects, False, heads)


def head_rows(
    trace: Sequence[TracedHead], design: GatherDesign, topk_parallelism: int = 16, source: str = "trace"
) -> tuple[HeadRow, ...]:
    """The heads of a whole workload. Raises SpecError with one located line for each row the design cannot take.

    Latencies are drawn one after another, also where all values are kept; the second of two 6-bit heads has none.
    """
    fetched = [_fetched(row) for row in trace]
    second: list[bool] = []  # whether each head is the second of a 6-bit pair
    for number, own in enumerate(fetched):
        second.append(number > 0 and _is_paired(own) and _is_paired(fetched[number - 1]) and not second[-1])
    problems = [
        f"{_place(row, number)}: {problem}"
        for number, (row, own) in enumerate(zip(trace, fetched, strict=True))
        for problem in _problems(row, own, design)
    ]
    raise_all(source, problems or list(_unpaired(fetched, second)))
    draw = JavaRandom(1)
    return tuple(
        HeadRow(number, row.keys, row.values, row.key_bits or 0, row.value_bits or 0, row.low_bits,
                0 if skipped else drawn_cycles(row.keys, row.values, topk_parallelism, draw))
        for number, (row, skipped) in enumerate(zip(fetched, second, strict=True))
    )  # fmt: skip


def _fetched(row: TracedHead) -> TracedHead:
    """Wide keys run as 8 bits and then always 4 low bits, wide values as 8 bits, all else as it is (TestSpAtten)."""
    wide = row.key_bits in WIDE
    values = 8 if row.value_bits in WIDE else row.value_bits
    return replace(row, key_bits=8 if wide else row.key_bits, value_bits=values, low_bits=wide or row.low_bits)


def _is_paired(row: TracedHead) -> bool:
    """Two heads of 6 bits share a fetch."""
    return 6 in (row.key_bits, row.value_bits)


def _place(row: TracedHead, number: int) -> str:
    return f"line {row.line}" if row.line else f"row {number}"


def _problems(row: TracedHead, own: TracedHead, design: GatherDesign) -> Iterator[str]:
    """What the design of single queries cannot take of `row`, which is fetched as `own`."""
    for name, given, stored in (
        ("quant_key_bit", row.key_bits, own.key_bits), ("quant_value_bit", row.value_bits, own.value_bits),
    ):  # fmt: skip
        if stored not in STORED_BITS:
            shown = -1 if given is None else given
            yield f"{name} {shown}: the design has {', '.join(map(str, STORED_BITS))} bits (10, 12 and -1 run as 8)"
    if row.head_dim != design.head_dim:
        yield f"embedding_length_D {row.head_dim}: the design multiplies heads of {design.head_dim}"
    if row.queries != 1:
        yield f"queries {row.queries}: the design takes one query a row"
    for name, vectors, bits in (
        ("key_fetch_num", row.keys, own.key_bits), ("value_fetch_num", row.values, own.value_bits),
    ):  # fmt: skip
        needed = buffer_lines(vectors, bits, design)
        if needed > design.buffer_lines:
            yield f"{name} {vectors} needs {needed} buffer lines, the buffer has {design.buffer_lines}"


def buffer_lines(vectors: int, bits: int | None, design: GatherDesign) -> int:
    """Lines of one head, or of both heads of a 6-bit pair, counts rounded up as the design does."""
    return lines(padded(vectors, design), design) * (2 if bits == 6 else 1)


def _unpaired(fetched: Sequence[TracedHead], second: Sequence[bool]) -> Iterator[str]:
    """6-bit heads come two by two with the same counts and bits."""
    for number, row in enumerate(fetched):
        if not _is_paired(row) or second[number]:
            continue
        if number + 1 == len(fetched) or not _is_paired(fetched[number + 1]):
            yield f"{_place(row, number)}: a head with 6-bit keys or values is alone; they are fetched in pairs"
            continue
        one, other = ((head.keys, head.values, head.key_bits, head.value_bits) for head in fetched[number : number + 2])
        if one != other:
            yield (
                f"{_place(fetched[number + 1], number + 1)}: the second of two 6-bit heads must have the keys, values "
                f"and bits of the first"
            )


def _problems_of_loads(
    trace: Sequence[TracedHead], fetched: Sequence[TracedHead], spec: SpattenSpec
) -> Iterator[str]:
    """Rows with several queries need one format for all, and heads that the buffer holds."""
    first = fetched[0]
    for number, (row, own) in enumerate(zip(trace, fetched, strict=True)):
        place, bits = _place(row, number), f"{own.key_bits}/{own.value_bits}"
        if (own.key_bits, own.value_bits) != (first.key_bits, first.value_bits):
            yield f"{place}: rows with several queries run in one format, got {bits} bits after " \
                  f"{first.key_bits}/{first.value_bits}"  # fmt: skip
        elif own.key_bits not in STORED_BITS or own.value_bits not in STORED_BITS:
            yield f"{place}: the design has 4, 6, 8 bits (10, 12 and -1 run as 8), got {bits}"
        if row.keys * (2 if _is_paired(own) else 1) > spec.largest_keys:
            yield f"{place}: key_fetch_num {row.keys} exceeds the buffer of {spec.largest_keys} keys"
