"""What one fetch of keys or values takes at least: its reads by DRAM channel and pseudo-channel, rows of slots, groups.

The addresses are those that the RTL's harness gathers, so reads are counted for each pseudo-channel, not averaged: each
reads all of its own, a burst apart. Rows of slots enter the fetch channels one a cycle, groups of bits leave the
realigner one a cycle. Fetch channels pair answers with slots in order, whatever they answer: a fetch that has another
one behind it may end with answers to that one (`Fetch.reads`). SpAtten RTL, stages D and J; knows no stream of heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.heads import GatherDesign
from cascadesim.accelerators.spatten.head_latencies import BURST_CYCLES, READ_CYCLES, RESPONSE_CYCLES, SLOT_BITS
from cascadesim.accelerators.spatten.score_buffer import gathered_keys

Counts = NDArray[np.int64]

PAGE_BITS = 4  # 16 requests of 32 bytes follow each other in a row of a bank, then the pseudo-channel changes
SHARED_BITS = 11  # of a request's number, which all heads share: their addresses begin at multiples of 64 KiB
_REMEMBERED = 1 << 12


@dataclass(frozen=True, eq=False, slots=True)
class Fetch:
    """`cells`: reads of each channel and pseudo-channel, of all and of those that the first response needs.

    `first_row`, `last_row`: rows of slots before the one that completes the first response, and before the last one
    with data; `left`: groups of bits that the realigner holds then, but one. `opened`: rows of banks in the busiest
    channel.
    """

    design: GatherDesign
    lines: int
    paired: bool
    requests: int
    cells: Counts
    first_cells: Counts
    first_row: int
    last_row: int
    left: int
    opened: int

    def reads(self, behind: Counts | None = None) -> int:
        """Of the busiest pseudo-channel until all slots have answers; `behind`: reads of a fetch that may help."""
        if behind is None:
            return busiest(self.cells)
        return spread(self.requests, self.cells + behind, 2 * self.design.dram_channels)

    def last_answer(self, behind: Counts | None = None) -> int:
        """From the cycle in which DRAM may get the first request; with what the realigner takes besides."""
        return self._answer(self.reads(behind), self.last_row) + self.left

    def span(self, behind: Counts | None = None) -> int:
        """From there to the product of the last line: a line a cycle, of one head two with each response."""
        first = self._answer(busiest(self.first_cells) if behind is None else 1, self.first_row)
        return RESPONSE_CYCLES - 1 + max(first + self.lines, self.last_answer(behind) + (1 if self.paired else 2))

    def _answer(self, reads: int, row: int) -> int:
        name = self.design.dram
        return READ_CYCLES[name] + max(BURST_CYCLES[name] * (reads - 1), row)


def busiest(cells: Counts) -> int:
    """Reads of the busiest of them."""
    return int(cells.max())


def spread(requests: int, cells: Counts, most_cells: int) -> int:
    """The fewest reads in turn of each cell that are `requests` together, where no cell has more than it has."""
    fewest, most = ceil(requests / most_cells), busiest(cells)
    if int(cells.sum()) < requests:  # where channels are too many to tell all reads apart
        return fewest
    while fewest < most:
        middle = (fewest + most) // 2
        if int(np.minimum(cells, middle).sum()) >= requests:
            most = middle
        else:
            fewest = middle + 1
    return fewest


@lru_cache(maxsize=_REMEMBERED)
def fetch(design: GatherDesign, vectors: int, bits: int, paired: bool, of_values: bool) -> Fetch:
    """`vectors` as they are fetched, of `bits` an element; for a pair, of both heads."""
    each, lanes = bits * (2 if paired else 1) // 4, design.fetch_channels
    requests = _requests(design, vectors, each, of_values)
    beat, group = SLOT_BITS * lanes, 2 * bits * design.multipliers
    responses = ceil(vectors * (2 if paired else 1) / (2 * design.vectors_per_line))
    first_row = ceil(group / beat) - 1
    whole, rest = divmod(vectors - 1, lanes)
    last_row = whole * each + ceil((rest + 1) * each / lanes) - 1
    return Fetch(
        design, buffer_lines(vectors, design), paired, len(requests), _cells(design, requests),
        _cells(design, requests[: (first_row + 1) * lanes]), first_row, last_row,
        max(0, responses - last_row * beat // group - 1), _opened(design, requests),
    )  # fmt: skip


def buffer_lines(vectors: int, design: GatherDesign) -> int:
    """Of one head: an even number, because two ports fill them."""
    return 2 * ceil(ceil(vectors / design.vectors_per_line) / 2)


def _requests(design: GatherDesign, vectors: int, each: int, of_values: bool) -> Counts:
    """Numbers of the 32-byte requests, from the head's first one on, in the order of the slots."""
    keys = _table(design.fetch_channels, design.largest_keys, vectors + design.fetch_channels + design.softmax_lanes)
    places = np.arange(vectors)
    if of_values:  # the first beat of a line of indexes comes last in it
        start = places // design.fetch_channels * design.fetch_channels
        valid = np.minimum(design.fetch_channels, vectors - start)
        around = -(-valid // design.softmax_lanes) * design.softmax_lanes
        ahead = places - start + design.softmax_lanes
        places = start + np.where(ahead < around, ahead, ahead - around)
    found: Counts = (keys[places, None] * each + np.arange(each)).ravel()
    return found


@lru_cache(maxsize=64)
def _table(lanes: int, largest: int, keys: int) -> Counts:
    return np.array(gathered_keys(keys, lanes, largest))


def _cells(design: GatherDesign, requests: Counts) -> Counts:
    """Reads of each pseudo-channel; of more channels than the shared bits tell apart, fewer than there are."""
    bits = design.dram_channels.bit_length() - 1
    if bits + PAGE_BITS < SHARED_BITS:
        cell = ((requests & (design.dram_channels - 1)) << 1) + (requests >> (bits + PAGE_BITS) & 1)
        return np.bincount(cell, minlength=2 * design.dram_channels)
    if bits <= SHARED_BITS:
        return np.bincount(requests & (design.dram_channels - 1), minlength=design.dram_channels) // 2
    return np.ones(1, dtype=np.int64)


def _opened(design: GatherDesign, requests: Counts) -> int:
    channel = requests & (design.dram_channels - 1)
    row = requests >> (design.dram_channels.bit_length() - 1 + PAGE_BITS)
    return int(np.bincount(np.unique(row * design.dram_channels + channel) % design.dram_channels).max())
