"""How long each unit of SpAtten is busy with an attention operation, and the stream or program behind it.

Counts of section 2 of the RTL's description: lines of multipliers, DRAM transactions, top-k latency. The closed form
is the busiest unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, log2
from operator import attrgetter

from cascadesim.accelerators.program import After, Program, Queue, Task, TileRun
from cascadesim.accelerators.spatten.head_stream import HeadRow, HeadStream
from cascadesim.accelerators.spatten.mapping import HeadWork, Piece, padded
from cascadesim.accelerators.spatten.spec import READ_GAP, REQUEST_BYTES, SpattenSpec
from cascadesim.accelerators.spatten.topk import engine_cycles, expected_cycles
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

TRANSACTIONS = {4: 1.0, 6: 1.5, 8: 2.0}  # RTL: 32-byte transactions of a vector; 6 bits: 3 for two heads together
LARGEST_TABLE = 2048  # keys up to which the exact mean of the selection is computed
MULTIPLY_CYCLES = 2 + 6  # RTL: broadcast, multiply, adder tree of 64


@dataclass(frozen=True, slots=True)
class Busy:
    """Cycles of each unit, of one load of a piece or of many."""

    dram: int
    multiply_qk: int
    softmax: int
    top_k: int
    multiply_pv: int
    transactions: int

    def times(self, count: int) -> Busy:
        return Busy(*(count * value for value in self.values))

    def __add__(self, other: Busy) -> Busy:
        return Busy(*(one + two for one, two in zip(self.values, other.values, strict=True)))

    @property
    def values(self) -> tuple[int, ...]:
        return (self.dram, self.multiply_qk, self.softmax, self.top_k, self.multiply_pv, self.transactions)

    @property
    def longest(self) -> int:
        return max(self.values[:-1])


_SHAPE = attrgetter("keys", "values", "key_bits", "value_bits", "low_bits", "selection_cycles")
NOTHING = Busy(0, 0, 0, 0, 0, 0)


def lines(vectors: int, spec: SpattenSpec) -> int:
    """Buffer lines of a head: an even number, because two ports fill them."""
    return 2 * ceil(ceil(vectors / spec.vectors_per_line) / 2)


def total(work: HeadWork, rows: Sequence[HeadRow], spec: SpattenSpec) -> Busy:
    """Of the whole operation, of single queries `rows`; DRAM cycles of all loads together, over all channels.

    Heads that are cut count as if they were whole: never more than their pieces take, however large the buffer is.
    """
    if work.cut and work.whole is not None:
        work = replace(work, pieces=(work.whole,), cut=False)
        rows = head_rows(work, spec)
    if rows:
        shapes = Counter(map(_SHAPE, rows)).items()
        summed = sum((_row_busy(HeadRow(0, *shape), spec).times(count) for shape, count in shapes), NOTHING)
    else:
        summed = sum((piece_busy(piece, work, spec).times(piece.loads) for piece in work.pieces), NOTHING)
    return _with_dram(summed, spec)


def _with_dram(busy: Busy, spec: SpattenSpec) -> Busy:
    """Transactions spread over all channels at their peak rate."""
    dram = ceil(busy.transactions * READ_GAP[spec.dram.mode] / spec.dram.channels)
    return Busy(dram, *busy.values[1:])


def piece_busy(piece: Piece, work: HeadWork, spec: SpattenSpec) -> Busy:
    """One load with all its queries: keys and values come once, whatever each query keeps of them."""
    keys = padded(piece.keys, spec)
    used = padded(piece.values, spec) / keys  # of the keys a query scores, how many values it uses
    scored = max(piece.queries, ceil(piece.pairs / piece.keys * lines(keys, spec)))  # masked keys cost nothing
    again = ceil(work.low_bit_share * scored)
    per_vector = TRANSACTIONS[work.key_bits] + TRANSACTIONS[work.value_bits] + (work.low_bit_share > 0)
    one = _with_dram(Busy(0, scored + again, 0, 0, ceil(used * scored), ceil(per_vector * keys)), spec)
    select = selection(piece, work, spec) * piece.queries if work.selects else 0
    return Busy(one.dram, one.multiply_qk, one.multiply_qk, select, one.multiply_pv, one.transactions)


def selection(piece: Piece, work: HeadWork, spec: SpattenSpec) -> int:
    """Mean latency of the top-k engine; of a piece, its part of the head's, which chooses among all its keys."""
    whole = work.whole or piece
    return ceil(_selection(whole, spec) * Fraction(piece.keys, whole.keys))


def _selection(piece: Piece, spec: SpattenSpec) -> int:
    """None where all values are used."""
    if piece.values >= piece.keys:
        return 0
    if spec.topk_model == "engine" and piece.keys <= LARGEST_TABLE:  # larger ones: the closed form below
        return round(engine_cycles(piece.keys, piece.values, spec.softmax_lanes))
    return round(selection_mean(piece.keys, piece.values, spec.topk_parallelism))


def selection_mean(keys: int, values: int, parallelism: int) -> float:
    """Exact up to LARGEST_TABLE; beyond it the closed form of the RTL's description, section 6."""
    if keys <= LARGEST_TABLE:
        return expected_cycles(keys, values, parallelism)
    share = min((values + 0.5) / keys, 1 - 0.5 / keys)
    entropy = -share * log2(share) * 0.6931471805599453 - (1 - share) * log2(1 - share) * 0.6931471805599453
    rank = min(values + 1, keys)
    rounds = _harmonic(rank) + _harmonic(keys + 1 - rank) - 1
    return 2 * keys * (1 + entropy) / parallelism + 3.5 * rounds


def _harmonic(count: int) -> float:
    return sum(1 / number for number in range(1, count + 1))


def head_rows(work: HeadWork, spec: SpattenSpec) -> tuple[HeadRow, ...]:
    """Heads of one query each, none where loads serve many; of 6 bits come pairs, one that is left over runs at 8."""
    if not work.streams:
        return ()
    if work.traced:
        return work.traced
    rows: list[HeadRow] = []
    for piece in work.pieces:
        latency = selection(piece, work, spec)
        for place in range(piece.loads):
            alone = 6 in (work.key_bits, work.value_bits) and place == piece.loads - 1 and piece.loads % 2 == 1
            key_bits, value_bits = (8, 8) if alone else (work.key_bits, work.value_bits)
            second = key_bits == 6 and place % 2 == 1
            rows.append(HeadRow(len(rows), piece.keys, piece.values, key_bits, value_bits,
                                _due(len(rows), work.low_bit_share), 0 if second else latency))  # fmt: skip
    return tuple(rows)


def _due(number: int, share: float) -> bool:
    """Every so manieth head fetches low bits, so that the share holds over any stretch."""
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)


def _row_busy(row: HeadRow, spec: SpattenSpec) -> Busy:
    keys, values = padded(row.keys, spec), padded(row.values, spec)
    scored = lines(keys, spec) * (2 if row.low_bits else 1)
    reads = TRANSACTIONS[row.key_bits] * keys + TRANSACTIONS[row.value_bits] * values + keys * row.low_bits
    latency = row.selection_cycles if values < keys else 0  # where all are fetched, none is selected
    return Busy(0, scored, scored, latency, lines(values, spec), ceil(reads))


def refuse_odd_lines(rows: Sequence[HeadRow], spec: SpattenSpec) -> None:
    """Raises CascadeSimError on single queries whose last lines would never come, because lines come two by two."""
    shapes = {(row.keys, row.values) for row in rows}
    for count in (count for shape in sorted(shapes) for count in shape):
        filled = ceil(padded(count, spec) / spec.vectors_per_line)
        if filled % 2:
            raise CascadeSimError(
                f"{count} keys or values fill {filled} buffer lines of {spec.vectors_per_line} vectors, and the "
                f"pipeline of single queries writes two at a time: count_multiple must be {2 * spec.vectors_per_line}"
            )


def stream(work: HeadWork, spec: SpattenSpec) -> HeadStream:
    """What the cycle level of single queries runs: the keys that the RTL's harness gathers."""
    from cascadesim.accelerators.spatten.score_buffer import gathered_keys

    heads = HeadStream(spec.design(), head_rows(work, spec))
    return replace(heads, gathered=gathered_keys(heads.longest, spec.fetch_channels, spec.largest_keys))


def program(work: HeadWork, spec: SpattenSpec) -> Program:
    """Many queries over each load: the next load comes while the other half of the buffers is used."""
    softmax = softmax_lag(max(piece.keys for piece in work.pieces), spec)
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
    classes = tuple(_tile(piece, work, spec) for piece in work.pieces)
    runs = tuple(TileRun(number, piece.loads) for number, piece in enumerate(work.pieces))
    queues = (Queue("key halves", 2), Queue("value halves", 2))
    drain = MULTIPLY_CYCLES - 6 + ceil(log2(max(2, spec.softmax_lanes))) + 1
    return Program(tasks, classes, runs, queues, in_flight=3, drain_cycles=drain)


def softmax_lag(keys: int, spec: SpattenSpec) -> int:
    """From the first score of a query to its first probability: all scores are summed before one is divided."""
    return spec.softmax_cycles + lines(keys, spec) if spec.softmax_model == "pipeline" else 0


def _tile(piece: Piece, work: HeadWork, spec: SpattenSpec) -> tuple[int, ...]:
    busy = piece_busy(piece, work, spec)
    of_values = max(1, ceil(busy.dram * TRANSACTIONS[work.value_bits] * padded(piece.keys, spec) / busy.transactions))
    return (max(1, busy.dram - of_values), busy.multiply_qk, busy.softmax, busy.top_k, of_values, busy.multiply_pv)


def transferred_bytes(busy: Busy) -> int:
    return busy.transactions * REQUEST_BYTES


def piece_pairs(work: HeadWork) -> Iterator[tuple[Piece, int]]:
    """Each piece with the query-key pairs of all its loads, of one lane."""
    for piece in work.pieces:
        yield piece, piece.pairs * (piece.loads // work.lanes)
