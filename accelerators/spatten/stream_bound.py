"""The least cycles that a stream of single queries takes on the RTL's pipeline, and how many more it may take.

No head passes a stage faster than `stream_heads` says, and these take heads one after another, in whatever order:

* the fork: a head holds it from its first key address to the product of its last line of keys, and again for low bits;
* each pseudo-channel of DRAM: a read a burst;
* the top-k engine: its latency, then a beat of scores a cycle;
* the address lines of values: a beat of probabilities a cycle, where their queue has room;
* the value buffer: one batch is written at a time.

Each gives a bound: the way of the first head to it, all heads in it, the way of one of them from there to its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from cascadesim.accelerators.heads import HeadStream
from cascadesim.accelerators.spatten.fetches import Counts, Fetch, busiest, spread
from cascadesim.accelerators.spatten.head_latencies import (
    ADMIT_CYCLES,
    BURST_CYCLES,
    FIRST_FORK_CYCLES,
    OPEN_CYCLES,
    READ_CYCLES,
    REQUEST_CYCLES,
    RESPONSE_CYCLES,
    RESULT_CYCLES,
    VALUE_CYCLES,
    WRITTEN_CYCLES,
)
from cascadesim.accelerators.spatten.stream_heads import Head, heads_of

Batch = tuple[Head, ...]  # heads that share a fetch of values


@dataclass(frozen=True)
class StreamBound:
    """Heads in order."""

    heads: tuple[Head, ...]

    @cached_property
    def counts(self) -> Counter[Head]:
        return Counter(self.heads)

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        found: list[Batch] = []
        for head in self.heads:
            if head.value_part == 1:
                found[-1] = (*found[-1], head)
            else:
                found.append((head,))
        return tuple(found)

    @property
    def last(self) -> Head:
        return self.heads[-1]

    @cached_property
    def comes_back(self) -> bool:
        return any(head.row.low_bits for head in self.counts)

    @cached_property
    def value_reads(self) -> Counts:
        """The most of each pseudo-channel that a batch of values has; behind keys there is one at most."""
        return most_of(head.value_fetch for head in self.counts)

    @cached_property
    def key_reads(self) -> Counts:
        return most_of(one for head in self.counts for one in (head.key_fetch, head.low_fetch))

    @property
    def first_report(self) -> int:
        return FIRST_FORK_CYCLES + self.heads[0].first_pass() + self.heads[0].report

    @property
    def cycles(self) -> int:
        """Never more than the cycle level takes."""
        return max(self.fork, self.dram, self.keys_of_dram, self.values)

    @cached_property
    def fork(self) -> int:
        """Heads that come back may pass while a new one waits for room in the key buffer."""
        first, behind = self.heads[0], self.value_reads
        passes = sum(head.first_pass(behind) * count for head, count in self.counts.items())
        again = sum(head.low_pass(behind) * count for head, count in self.counts.items())
        total = FIRST_FORK_CYCLES + passes + first.first_pass() - first.first_pass(behind) + max(again, self.waits)
        ends = [self.last.report + self.last.after_report]
        ends += [head.report + head.after_report for head in self.counts if head.row.low_bits]
        if self.comes_back or self.last.value_part != 1:
            return total + min(ends)
        second, owner = self.heads[-1], self.heads[-2]
        early = owner.report + owner.after_report + second.value_lines - second.first_pass(behind)
        return total + max(ends[0], early)

    @cached_property
    def waits(self) -> int:
        """Where the key buffer has no room for two batches, the next one waits for the report of the last."""
        sizes = [(head.key_lines * (2 if head.key_part == 0 else 1), head) for head in self.heads if head.key_part != 1]
        room = self.last.design.buffer_lines
        return sum(
            head.report + ADMIT_CYCLES for (size, head), (other, _) in pairwise(sizes) if size + other > room
        )  # fmt: skip

    @cached_property
    def _burst(self) -> int:
        return BURST_CYCLES[self.last.design.dram]

    def _served(self, reads: int) -> int:
        """From the first fork to the answer of the last of them, of one pseudo-channel: no row is open before."""
        latency = FIRST_FORK_CYCLES + REQUEST_CYCLES + OPEN_CYCLES + READ_CYCLES[self.last.design.dram]
        return latency + self._burst * (reads - 1)

    @cached_property
    def dram(self) -> int:
        """All reads; the shortest way that is left is that of values."""
        cells = sum_of((one, count) for head, count in self.counts.items() for one in head.fetches)
        done = RESULT_CYCLES + self.last.tree
        after = min(head.value_lines for head in self.counts) if self.last.value_part == 1 else 0
        return self._served(busiest(cells)) + RESPONSE_CYCLES + after + done

    @cached_property
    def keys_of_dram(self) -> int:
        """Reads of keys, or of values behind the last of them, then the way from an answer to a result."""
        keys = [(one, count) for head, count in self.counts.items() for one in (head.key_fetch, head.low_fetch) if one]
        ends = [RESPONSE_CYCLES + head.report + head.after_report for head in self.counts]
        requests = sum(one.requests * count for one, count in keys)
        reads = spread(requests, sum_of(keys) + self.value_reads, 2 * self.last.design.dram_channels)
        return self._served(reads) + min(ends)

    @cached_property
    def values(self) -> int:
        """From the first report through engine, probabilities and value buffer."""
        if self.comes_back:  # heads that wait for one that comes back let others pass
            return self._values_in_any_order
        first = self.batches[0][0]
        steps = Counter(pairwise(self.batches)).items()
        passed = sum(self._step(one, other) * count for (one, other), count in steps)
        in_order = self.first_report + first.entry + first.latency + passed + _values_pass(self.batches[-1])
        return max(in_order, self._values_in_any_order)

    def _step(self, batch: Batch, after: Batch) -> int:
        """From the first probability of a batch to that of the next one."""
        return max(sum(_beats(one, other) for one, other in pairwise((*batch, after[0]))), self._write_pass(batch))

    @property
    def _values_in_any_order(self) -> int:
        """The engine, the probabilities or the buffer, each by itself."""
        counts = Counter(self.batches)
        engine = {batch: sum(head.latency + head.beats for head in batch if head.selects) for batch in counts}
        streaming = {batch: sum(head.streaming for head in batch) for batch in counts}
        written = {batch: self._write_pass(batch) for batch in counts}
        entry = self.first_report + min(head.entry for head in self.counts)
        return entry + max(_serial(counts, engine, 1), _serial(counts, streaming, 0), _serial(counts, written, 0))

    def _write_pass(self, batch: Batch) -> int:
        """From the first probability to the last line of values in the buffer; keys may come behind."""
        head = batch[0]
        assert head.value_fetch is not None  # the first of a batch fetches
        return head.beats_of_line + VALUE_CYCLES + head.value_fetch.last_answer(self.key_reads) + WRITTEN_CYCLES


def stream_bound(stream: HeadStream) -> StreamBound:
    """Of heads back to back on idle memory."""
    return StreamBound(tuple(heads_of(stream)))


def most_of(fetches: Iterable[Fetch | None]) -> Counts:
    """Of each pseudo-channel by itself."""
    found: Counts = np.zeros(1, dtype=np.int64)
    for one in fetches:
        found = found if one is None else np.maximum(found, one.cells)
    return found


def sum_of(fetches: Iterable[tuple[Fetch, int]]) -> Counts:
    found: Counts = np.zeros(1, dtype=np.int64)
    for one, count in fetches:
        found = found + count * one.cells
    return found


def _serial(counts: Counter[Batch], busy: Mapping[Batch, int], with_latency: int) -> int:
    """All but the last, and the way of the last; which one that is, is not known."""
    total = sum(busy[batch] * count for batch, count in counts.items())
    return total + min(with_latency * batch[0].latency + _values_pass(batch) - busy[batch] for batch in counts)


def _beats(head: Head, after: Head) -> int:
    """From the first probability of a head to that of the next one. Beats that are not kept leave the engine too."""
    return max(head.streaming, head.beats + after.latency if head.selects and after.selects else 0)


def _values_pass(batch: Batch) -> int:
    """From the first probability to the last result."""
    return max(batch[0].value_pass + sum(head.value_lines for head in batch[1:]), batch[-1].value_pass)
