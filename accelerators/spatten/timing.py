"""How long each unit of SpAtten is busy with an attention operation, and the stream or program behind it.

Counts of section 2 of the RTL's description: lines of multipliers, DRAM transactions, top-k latency. The closed form
is the busiest unit. Knows loads of keys and values; knows no cascade.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, log2
from operator import attrgetter
from typing import NamedTuple

from cascadesim.accelerators.program import After, Program, Queue, Task, TileRun
from cascadesim.accelerators.protocol import EinsumActivity
from cascadesim.accelerators.spatten.harness import buffer_lines, gathered_keys
from cascadesim.accelerators.spatten.mapping import MOST_CUT, SOFTMAX, HeadWork, Piece, lanes_in_use
from cascadesim.accelerators.spatten.spec import READ_GAP, HeadRow, HeadStream, SpattenSpec, lines, padded
from cascadesim.accelerators.spatten.topk import LARGEST_TABLE, engine_cycles, selection_mean

TRANSACTIONS = {4: 1.0, 6: 1.5, 8: 2.0}  # RTL: 32-byte transactions of a vector; 6 bits: 3 for two heads together
MULTIPLY_CYCLES = 2 + 6  # RTL: broadcast, multiply, adder tree of 64
_SHAPE = attrgetter("keys", "values", "key_bits", "value_bits", "low_bits", "selection_cycles", "chosen")


class Busy(NamedTuple):
    """Cycles of each unit, of one load of a piece or of many."""

    dram: int
    multiply_qk: int
    softmax: int
    top_k: int
    multiply_pv: int
    transactions: int

    @property
    def longest(self) -> int:
        return max(self[:-1])


def total(work: HeadWork, rows: Sequence[HeadRow], spec: SpattenSpec) -> Busy:
    """Busy cycles of the whole operation, of single queries `rows`; DRAM serves all loads together.

    Heads that are cut count as if they were whole: never more than their pieces take, however large the buffer is.
    """
    if work.cut and work.whole is not None:
        work = replace(work, pieces=(work.whole,), cut=False)
        rows = single_queries(work, spec)
    if rows:
        shapes = Counter(map(_SHAPE, rows)).items()
        return _summed(((count, _row_busy(HeadRow(0, *shape), spec)) for shape, count in shapes), spec)
    return _summed(((piece.loads, piece_busy(piece, work, spec)) for piece in work.pieces), spec)


def _summed(parts: Iterable[tuple[int, Busy]], spec: SpattenSpec) -> Busy:
    """(how many, of what) added up; the cycles of DRAM follow from all transactions."""
    counted = ([count * value for value in busy] for count, busy in parts)
    sums = Busy._make(sum(column) for column in zip(*counted, strict=True))
    return sums._replace(dram=dram_cycles(sums.transactions, spec))


def dram_cycles(transactions: int, spec: SpattenSpec) -> int:
    """Transactions spread over all channels at their peak rate, one a cycle and fetch channel at most."""
    fetch, _ = lanes_in_use(spec)
    return ceil(transactions * max(READ_GAP[spec.dram.mode] / spec.dram.channels, 1 / fetch))


def piece_busy(piece: Piece, work: HeadWork, spec: SpattenSpec) -> Busy:
    """One load with all its queries: keys and values come once, whatever each query keeps of them."""
    keys = padded(piece.keys, spec)
    used = padded(piece.values, spec) / keys  # of the keys a query scores, how many values it uses
    scored = max(piece.queries, ceil(piece.pairs / piece.keys * lines(keys, spec)))  # masked keys cost nothing
    again = ceil(work.low_bit_share * scored)
    per_vector = TRANSACTIONS[work.key_bits] + TRANSACTIONS[work.value_bits] + (work.low_bit_share > 0)
    transactions = ceil(per_vector * keys)
    select = selection(piece, work, spec) * piece.queries if work.selects else 0
    scores = piece.pairs / piece.keys * keys * (1 + work.low_bit_share)
    softmax = max(scored + again, ceil(scores / spec.softmax_lanes))
    return Busy(dram_cycles(transactions, spec), scored + again, softmax, select, ceil(used * scored),
                transactions)  # fmt: skip


def _row_busy(row: HeadRow, spec: SpattenSpec) -> Busy:
    """One query of one head; DRAM is counted by its transactions.

    Scores leave the softmax lanes before those of the next pass; of the last pass, those that meet values are counted.
    """
    (keys, values), passes = (padded(row.keys, spec), padded(row.values, spec)), 2 if row.low_bits else 1
    scored, (_, lanes) = passes * lines(keys, spec), lanes_in_use(spec)
    softmax = max(scored, (passes - 1) * ceil(keys / lanes) + ceil(values / lanes))
    reads = TRANSACTIONS[row.key_bits] * keys + TRANSACTIONS[row.value_bits] * values + keys * row.low_bits
    return Busy(0, scored, softmax, row.selection_cycles if row.selects(spec) else 0, lines(values, spec), ceil(reads))


def selection(piece: Piece, work: HeadWork, spec: SpattenSpec) -> int:
    """Mean latency of the top-k engine, 0 where all values are used.

    A piece of a head takes its share of the head's latency, because the engine chooses among all keys of the head that
    the query attends. The latency is about linear in them, so that of their mean number stands for all queries.
    """
    whole = work.whole or piece
    if whole.values >= whole.keys:
        return 0
    keys = ceil(Fraction(whole.pairs, whole.queries))
    values = ceil(Fraction(whole.values * keys, whole.keys))
    if spec.topk_model == "engine" and keys <= LARGEST_TABLE:  # larger lists take the closed form
        cycles = engine_cycles(keys, values, spec.softmax_lanes)
    else:
        cycles = selection_mean(keys, values, spec.topk_parallelism)
    return ceil(round(cycles) * Fraction(piece.keys, whole.keys))


def single_queries(work: HeadWork, spec: SpattenSpec) -> tuple[HeadRow, ...]:
    """Heads of one query each, none where loads serve many; of 6 bits come pairs, one that is left over runs at 8.

    Pieces of a head are fetched and chosen as the head would be: a cut changes neither its bits nor the time of its
    choice. Low bits are fetched by every head at which their share adds up to one more, so that it holds over any
    stretch.
    """
    if not work.streams:
        return ()
    if work.whole is None:
        return work.traced
    rows: list[HeadRow] = []
    chosen, left_over = padded(work.whole.values, spec) < padded(work.whole.keys, spec), work.whole.loads % 2
    for piece in work.pieces:
        latency = selection(piece, work, spec)
        paired = piece.loads - left_over * (piece.loads // work.whole.loads)
        for place in range(piece.loads):
            alone = 6 in (work.key_bits, work.value_bits) and place >= paired
            key_bits, value_bits = (8, 8) if alone else (work.key_bits, work.value_bits)
            second = key_bits == 6 and place % 2 == 1
            before, after = (int(number * work.low_bit_share + 1e-9) for number in (len(rows), len(rows) + 1))
            rows.append(HeadRow(len(rows), piece.keys, piece.values, key_bits, value_bits, after > before,
                                0 if second else latency, chosen))  # fmt: skip
    return tuple(rows)


def shared_activities(
    einsums: Iterable[tuple[str, str]], counted: Mapping[str, Mapping[str, int]], cycles_of: dict[str, int],
    spec: SpattenSpec,
) -> list[EinsumActivity]:  # fmt: skip
    """(Einsum, unit) with the operations `counted`: a unit is one pipeline, whose Einsums share their beats.

    The cycles of a unit are taken out of `cycles_of` and stand with its first Einsum.
    """
    found = []
    for name, unit in einsums:
        operations, cycles = counted.get(name, {}), cycles_of.pop(unit, 0)
        lanes = spec.softmax_lanes if unit == SOFTMAX else spec.multipliers
        share = min(1.0, max(operations.values(), default=1) / (cycles * lanes)) if cycles else 1.0
        found.append(EinsumActivity(name, unit, cycles, operations, share))
    return found


def misfit(rows: Sequence[HeadRow], spec: SpattenSpec) -> str:
    """Why some single query would never end; empty where all end.

    The buffer holds both heads of a pair. Lines come two by two, from whole beats: keys and values that the fetch
    channels round up must fill them.
    """
    if (keys := max((padded(row.keys, spec) for row in rows if row.key_bits == 6), default=0)) > spec.largest_keys // 2:
        return f"two heads of 6 bits, of {keys} keys each, share a fetch; the buffer holds {spec.largest_keys} keys"
    pair, (fetch, _) = 2 * spec.vectors_per_line, lanes_in_use(spec)
    shapes = {(row.keys, row.values) for row in rows}
    for count in (count for shape in sorted(shapes) for count in shape):
        vectors = padded(count, spec)
        filled = ceil(vectors / spec.vectors_per_line)
        if filled % 2 or ceil(vectors / fetch) * fetch < ceil(vectors / pair) * pair:
            return (f"{count} keys or values fill {filled} buffer lines of {spec.vectors_per_line} vectors, and the "
                    f"pipeline of single queries writes two at a time: count_multiple must be {pair}")  # fmt: skip
    return ""


def streams(work: HeadWork, spec: SpattenSpec) -> Iterator[HeadStream]:
    """What the cycle level of single queries runs: heads that gather keys as in the RTL's harness, as many as fit.

    Then the same with room in the key buffer for one or two of the heads (or pairs) only, where it has more; of three,
    the third waits at the branch point anyway. A trace runs as its rows did.
    """
    fetch, lanes = lanes_in_use(spec)
    heads = HeadStream(replace(spec.design(), fetch_channels=fetch, softmax_lanes=lanes), single_queries(work, spec))
    yield (heads := replace(heads, gathered=gathered_keys(heads.longest, fetch, spec.largest_keys)))
    if work.traced or work.loads > MOST_CUT:
        return
    head = max(buffer_lines(row.keys, row.key_bits, heads.design) for row in heads.rows)
    for held in (1, 2):
        if (held + 1) * head <= spec.buffer_lines:
            yield replace(heads, design=replace(heads.design, buffer_lines=held * head))


def program(work: HeadWork, spec: SpattenSpec) -> Program:
    """Many queries over each load: the next load comes while the other half of the buffers is used."""
    softmax = spec.softmax_cycles
    if spec.softmax_model == "pipeline":  # all scores of a query are summed before one is divided
        softmax += lines(max(piece.keys for piece in work.pieces), spec)
    tasks = (
        Task("K", "dram", takes=("key halves",)),
        Task("QK", "multiply_qk", (After("K"),), gives_back=("key halves",)),
        Task("SN", "softmax", (After("QK", MULTIPLY_CYCLES, streaming=True),)),
        Task("top-k", "top_k", (After("SN", softmax, streaming=True),)),
        Task("V", "dram", takes=("value halves",)),
        Task("AV", "multiply_pv",
             (After("SN", softmax, streaming=True), After("top-k", streaming=True), After("V")),
             gives_back=("value halves",)),
    )  # fmt: skip
    classes = []
    for piece in work.pieces:
        busy, keys = piece_busy(piece, work, spec), padded(piece.keys, spec)
        of_values = max(1, ceil(busy.dram * TRANSACTIONS[work.value_bits] * keys / busy.transactions))
        of_keys = max(1, busy.dram - of_values)
        classes.append((of_keys, busy.multiply_qk, busy.softmax, busy.top_k, of_values, busy.multiply_pv))
    runs = tuple(TileRun(number, piece.loads) for number, piece in enumerate(work.pieces))
    queues = (Queue("key halves", 2), Queue("value halves", 2))
    drain = MULTIPLY_CYCLES - 6 + ceil(log2(max(2, spec.softmax_lanes))) + 1
    return Program(tasks, tuple(classes), runs, queues, in_flight=3, drain_cycles=drain)
