"""A stream of attention heads as data: what a gather-and-multiply accelerator hands to the cycle-level simulator.

Each head gathers its keys from DRAM, multiplies one query with them, selects, gathers values and multiplies again.
`accelerators.spatten.rtl.run` decides when. SpAtten (HPCA'21); fields as the rows of its public workload files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatherDesign:
    """The sizes that a stream runs on. `count_multiple`: keys and values are rounded up to whole multiples of it."""

    multipliers: int  # of each of the two products; a multiple of the head size
    buffer_lines: int  # of each of the key and the value buffer; a line holds `multipliers` elements
    dram_channels: int
    fetch_channels: int
    softmax_lanes: int
    count_multiple: int = 8
    head_dim: int = 64
    dram: str = "hbm2"  # name of a standard in `accelerators.dram.standards`
    softmax_cycles: int = 0  # from a head's last score to its largest probability, which decides

    @property
    def vectors_per_line(self) -> int:
        return self.multipliers // self.head_dim

    @property
    def largest_keys(self) -> int:
        return self.vectors_per_line * self.buffer_lines


@dataclass(frozen=True, slots=True)
class HeadRow:
    """One query of one head. Heads with 6-bit keys come in pairs of equal counts.

    `low_bits`: whether the head fetches the low bits of its keys and multiplies again. `selection_cycles`: of the
    top-k engine, where values are fewer than keys. `number` places its keys and values in memory.
    """

    number: int
    keys: int
    values: int
    key_bits: int  # 4, 6 or 8
    value_bits: int
    low_bits: bool = False
    selection_cycles: int = 0


@dataclass(frozen=True)
class HeadStream:
    """Heads in order. `gap_cycles`: None sends them back to back, otherwise each (or each pair) runs alone.

    `gathered`: numbers of the keys that every head gathers, in order, at least as many as the longest head has;
    empty for consecutive keys. `rows_open`: every DRAM bank has another row open, as after other work; otherwise none.
    """

    design: GatherDesign
    rows: tuple[HeadRow, ...]
    gap_cycles: int | None = None
    gathered: tuple[int, ...] = ()
    rows_open: bool = False

    @property
    def longest(self) -> int:
        """Keys of the longest head, as they are fetched."""
        multiple = self.design.count_multiple
        return max(-(-row.keys // multiple) * multiple for row in self.rows)
