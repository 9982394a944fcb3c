"""When every head of a stream gets its scores and its result: gather, multiply, select, gather, multiply.

The stages run cycle by cycle (`pipeline`, `fetch`), each DRAM channel with its own controller
(`channel`); equal heads whose state returns are repeated (`steady_state`). Constants are the latencies of registers,
FIFOs and memories that each stage's module lists; what the RTL's times say and its description does not is in
docs/spatten.md; none is fitted to a row. Knows streams of heads and their rules; knows no cascade.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cascadesim.accelerators.dram.commands import Integers
from cascadesim.accelerators.spatten.rtl import state as at
from cascadesim.accelerators.spatten.rtl.steady_state import run_to_end
from cascadesim.accelerators.spatten.spec import GatherDesign, HeadRow, HeadStream, padded
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

KEYS_AT, LOW_AT, VALUES_AT, BETWEEN = 0xAB10000, 0xAB20000, 0xCD10000, 0x10000  # addresses of the RTL's test harness
LONGEST_CYCLES_PER_HEAD = 1 << 20  # far beyond any head; a stream that takes longer has stopped


@dataclass(frozen=True)
class HeadSchedule:
    """Times of each head, in cycles from the first accept. `second_report` is -1 where there was no second pass.

    `dram_reads` and `dot_product_lines` count up to each head's result and last report.
    """

    accept: Integers
    report: Integers
    second_report: Integers
    done: Integers
    dram_reads: Integers
    dot_product_lines: Integers
    simulated_heads: int  # the others repeat them exactly
    stream: HeadStream = field(repr=False)

    @property
    def cycles(self) -> int:
        return int(self.done.max())

    @property
    def latency(self) -> Integers:
        """Accept to result of each head."""
        return self.done - self.accept


def run_heads(stream: HeadStream) -> HeadSchedule:
    """Raises CascadeSimError with every problem of the stream, or if it never ends."""
    problems = [*_problems(stream)]
    if problems:
        raise CascadeSimError("\n".join(problems))
    state = at.pipeline(stream, encoded(stream), gathered(stream))
    found = run_to_end(state, LONGEST_CYCLES_PER_HEAD * len(stream.rows))
    if found is None:
        raise CascadeSimError("the stream of heads does not end; a buffer may be too small for its heads")
    times, simulated = found
    start = times[0, at.ACCEPT]
    times[:, : at.DONE + 1][times[:, : at.DONE + 1] >= 0] -= start
    accept, report, second_report, done, reads, lines = times.T
    return HeadSchedule(accept, report, second_report, done, reads, lines, simulated, stream)


def _problems(stream: HeadStream) -> Iterator[str]:
    design = stream.design
    if not stream.rows:
        yield "a stream needs at least one head"
    if design.multipliers % design.head_dim or design.dram_channels & (design.dram_channels - 1):
        yield (
            f"multipliers must be a multiple of the head size {design.head_dim} and DRAM channels a power of two, got "
            f"{design.multipliers} and {design.dram_channels}"
        )
        return
    for place, row in enumerate(stream.rows, start=1):
        yield from (f"head {place}: {problem}" for problem in _row_problems(row, design))
    for bits in ("key_bits", "value_bits"):
        yield from _unpaired(stream, bits)
    if stream.gathered and len(stream.gathered) < stream.longest:
        yield f"gathered names {len(stream.gathered)} keys, the longest head has {stream.longest}"


def _row_problems(row: HeadRow, design: GatherDesign) -> Iterator[str]:
    if not 1 <= row.values <= row.keys:
        yield f"values must be 1 to the {row.keys} keys, got {row.values}"
    for name, bits in (("key", row.key_bits), ("value", row.value_bits)):
        if bits not in (4, 6, 8):
            yield f"{name}s of {bits} bits; the format has 4, 6 and 8"
    pair = 2 if row.key_bits == 6 else 1
    if padded(row.keys, design) * pair > design.largest_keys:
        yield f"{row.keys} keys{' of a pair' if pair == 2 else ''} exceed the buffer of {design.largest_keys // pair}"


def _unpaired(stream: HeadStream, bits: str) -> Iterator[str]:
    """Heads of 6 bits share a fetch with the next one."""
    paired = [row for row in stream.rows if getattr(row, bits) == 6]
    if len(paired) % 2:
        yield f"heads with 6-bit {bits.split('_')[0]}s come in pairs, got {len(paired)} of them"
    for one, other in zip(paired[::2], paired[1::2], strict=False):
        if (one.keys, one.values) != (other.keys, other.values):
            yield f"the heads {one.number} and {other.number} form a pair and must have equal keys and values"


def encoded(stream: HeadStream) -> Integers:
    """Columns as `state` names them."""
    parts = zip(stream.rows, _parts(stream, "key_bits"), _parts(stream, "value_bits"), strict=True)
    rows = [
        (
            padded(row.keys, stream.design), padded(row.values, stream.design), row.key_bits, row.value_bits,
            row.low_bits, row.selection_cycles if row.selects(stream.design) else at.UNUSED,
            KEYS_AT + BETWEEN * row.number, VALUES_AT + BETWEEN * row.number, LOW_AT + BETWEEN * row.number,
            key_part, value_part,
        )
        for row, key_part, value_part in parts
    ]  # fmt: skip
    return np.array(rows, dtype=np.int64)


def _parts(stream: HeadStream, bits: str) -> Iterator[int]:
    """0 and 1 for the heads of a pair, -1 for a head by itself."""
    part = 0
    for row in stream.rows:
        if getattr(row, bits) == 6:
            yield part
            part = 1 - part
        else:
            yield -1


def gathered(stream: HeadStream) -> Integers:
    """Key numbers in the order in which they are gathered; the same table serves every head."""
    longest = stream.longest + stream.design.fetch_channels  # the last line may be longer than the head
    keys = stream.gathered or range(longest)
    return np.resize(np.array(keys, dtype=np.int64), max(longest, len(keys)))
