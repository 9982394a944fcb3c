"""Heads of a stream as a bound sees them: what each asks of the fork, of DRAM, of the top-k engine and of the values.

Heads of equal counts are one object. Knows no order and no sum over heads (`stream_bound`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from cascadesim.accelerators.heads import GatherDesign, HeadRow, HeadStream
from cascadesim.accelerators.spatten.fetches import Counts, Fetch, buffer_lines, fetch
from cascadesim.accelerators.spatten.head_latencies import (
    FIRST_VALUE_CYCLES,
    OPEN_CYCLES,
    ORDER_CYCLES,
    PASS_CYCLES,
    READ_AGAIN_CYCLES,
    READ_CYCLES,
    REPORT_CYCLES,
    REQUEST_CYCLES,
    RESPONSE_CYCLES,
    RESULT_CYCLES,
    SELECT_CYCLES,
    VALUE_CYCLES,
)
from cascadesim.accelerators.spatten.mapping import LOW_BITS
from cascadesim.accelerators.spatten.spec import REQUEST_BYTES

BLOCK_BYTES = 1 << 16  # the RTL's harness places keys, low bits and values of successive heads so far apart
APART_BLOCKS = 500  # values lie 544 blocks behind keys; those of so many heads do not reach the keys of later ones
QUEUE_LINES = 16  # RTL: address lines of values whose probabilities wait for their products
PAGE_BYTES = 512  # of a row of a bank, and of a channel, that follow each other


@dataclass(frozen=True, eq=False)
class Head:
    """A head of a stream. `key_part`, `value_part`: 0 and 1 in a pair that shares a fetch, otherwise -1.

    `opens`: whether all rows of its keys and values have to be opened, because no fetch before touched them.
    """

    design: GatherDesign
    row: HeadRow
    key_part: int
    value_part: int
    opens: bool

    @cached_property
    def keys(self) -> int:
        return _padded(self.row.keys, self.design)

    @cached_property
    def values(self) -> int:
        return _padded(self.row.values, self.design)

    @property
    def selects(self) -> bool:
        return self.values < self.keys

    @cached_property
    def key_fetch(self) -> Fetch | None:
        """None for the second of a pair."""
        if self.key_part == 1:
            return None
        return fetch(self.design, self.keys, self.row.key_bits, self.key_part == 0, False)

    @cached_property
    def low_fetch(self) -> Fetch | None:
        return fetch(self.design, self.keys, LOW_BITS, False, False) if self.row.low_bits else None

    @cached_property
    def value_fetch(self) -> Fetch | None:
        if self.value_part == 1:
            return None
        return fetch(self.design, self.values, self.row.value_bits, self.value_part == 0, True)

    @cached_property
    def fetches(self) -> tuple[Fetch, ...]:
        return tuple(one for one in (self.key_fetch, self.low_fetch, self.value_fetch) if one is not None)

    @cached_property
    def key_lines(self) -> int:
        return buffer_lines(self.keys, self.design)

    @cached_property
    def value_lines(self) -> int:
        return buffer_lines(self.values, self.design)

    @property
    def opening(self) -> int:
        return OPEN_CYCLES if self.opens else 0

    def first_pass(self, behind: Counts | None = None) -> int:
        """How long it holds the fork, from the first key address to the product of the last line.

        `behind`: reads of values that may be fetched behind its keys, and help (`fetches`).
        """
        if self.key_fetch is None:
            return READ_AGAIN_CYCLES + self.key_lines - 1
        return REQUEST_CYCLES + self.key_fetch.span(behind) + (self.opening if behind is None else 0)

    def low_pass(self, behind: Counts) -> int:
        """The same for its low bits."""
        return 0 if self.low_fetch is None else REQUEST_CYCLES + self.low_fetch.span(behind)

    @cached_property
    def report(self) -> int:
        """From the product of the last line of keys to the report."""
        return REPORT_CYCLES + self.tree + self.design.softmax_cycles

    @property
    def tree(self) -> int:
        """Of the adders, and of the comparators, over the lanes."""
        return self.design.softmax_lanes.bit_length() - 1

    @property
    def kept_beats(self) -> int:
        return ceil(self.values / self.design.softmax_lanes)

    @property
    def beats(self) -> int:
        return ceil(self.keys / self.design.softmax_lanes)

    @property
    def beats_of_line(self) -> int:
        """Probabilities that complete the first address line of values."""
        return min(self.kept_beats, self._beats_of_lines)

    @property
    def _beats_of_lines(self) -> int:
        return max(1, self.design.fetch_channels // self.design.softmax_lanes)

    @property
    def rounds(self) -> int:
        """How often the queue of probabilities is full: as often, one waits for the product of the first in it."""
        return (self.kept_beats - 1) // (QUEUE_LINES * self._beats_of_lines)

    @cached_property
    def streaming(self) -> int:
        """Of the probabilities, one a cycle, or as the queue lets them: a beat leaves it with its line of values."""
        if self.value_fetch is None or self.design.softmax_lanes > self.design.vectors_per_line:
            return self.kept_beats
        around = VALUE_CYCLES + 1 + READ_CYCLES[self.design.dram] + RESPONSE_CYCLES + 1
        return self.kept_beats + self.rounds * max(0, around - QUEUE_LINES * self._beats_of_lines)

    @property
    def latency(self) -> int:
        """Of the top-k engine."""
        return self.row.selection_cycles if self.selects else 0

    @property
    def entry(self) -> int:
        """From the report to the first probability, or to the top-k engine."""
        waited = ORDER_CYCLES if self.row.low_bits else 0
        return (SELECT_CYCLES if self.selects else PASS_CYCLES) - waited

    @cached_property
    def value_pass(self) -> int:
        """From the first probability to the result, where no fetch comes behind but the keys of its own pair."""
        done = RESULT_CYCLES + self.tree
        multiplied = FIRST_VALUE_CYCLES + self.value_lines - 1
        if self.value_fetch is None:
            return multiplied + done
        behind = self.key_fetch.cells if self.value_part == 0 and self.key_part == -1 and self.key_fetch else None
        opening = self.opening if behind is None else 0
        fetched = self.beats_of_line + VALUE_CYCLES + opening + self.value_fetch.span(behind)
        streamed = self.streaming + VALUE_CYCLES + READ_CYCLES[self.design.dram] + RESPONSE_CYCLES
        return max(multiplied, fetched, streamed) + done

    @cached_property
    def after_report(self) -> int:
        """To the result."""
        return self.entry + self.latency + self.value_pass


def heads_of(stream: HeadStream) -> Iterator[Head]:
    """In order; equal ones are the same object."""
    known: dict[tuple[object, ...], Head] = {}
    opens = _opens(stream)
    rows = zip(stream.rows, _parts(stream.rows, "key_bits"), _parts(stream.rows, "value_bits"), opens, strict=True)
    for row, key_part, value_part, closed in rows:
        key = (row.keys, row.values, row.key_bits, row.value_bits, row.low_bits, row.selection_cycles, key_part,
               value_part, closed)  # fmt: skip
        if key not in known:
            known[key] = Head(stream.design, row, key_part, value_part, closed)
        yield known[key]


def _padded(count: int, design: GatherDesign) -> int:
    return ceil(count / design.count_multiple) * design.count_multiple


def _parts(rows: Sequence[HeadRow], bits: str) -> Iterator[int]:
    part = 0
    for row in rows:
        if getattr(row, bits) == 6:
            yield part
            part = 1 - part
        else:
            yield -1


def _opens(stream: HeadStream) -> list[bool]:
    """Whether no row of a head's keys and values was touched before: those of no head before reach into them.

    The low bits of a head lie where the keys of the next one do.
    """
    design, rows = stream.design, stream.rows
    numbers = [row.number for row in rows]
    reach = min(_padded(stream.longest, design) + design.fetch_channels, design.largest_keys) * REQUEST_BYTES
    apart = numbers == sorted(set(numbers)) and numbers[-1] - numbers[0] < APART_BLOCKS
    apart &= reach <= BLOCK_BYTES and design.dram_channels * PAGE_BYTES <= BLOCK_BYTES
    touched = {row.number + block for row in rows for block in range(1, _blocks(row, reach) + row.low_bits)}
    return [apart and row.number not in touched for row in rows]


def _blocks(row: HeadRow, reach: int) -> int:
    """Of the harness, that a head reaches into; a pair has those of two heads."""
    return ceil(reach * max(row.key_bits, row.value_bits) / 4 / BLOCK_BYTES)
