"""Rows of a pruning trace as the heads that the design runs: bits it has, top-k latencies, what it cannot take.

Section 2 and the test harness of SpAtten's public RTL: which bits run for which, and that the latency model draws once
a row, in the order of the whole workload. Counts stay as traced; the design rounds them up itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from cascadesim.accelerators.spatten.head_stream import GatherDesign, HeadRow, HeadStream
from cascadesim.accelerators.spatten.randomness import JavaRandom
from cascadesim.accelerators.spatten.score_buffer import gathered_keys
from cascadesim.accelerators.spatten.topk import drawn_cycles
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.sparsity.pruning_trace import TracedHead, raise_all

STORED_BITS = (4, 6, 8)  # SpAtten RTL: widths that a key or value profile has
WIDE = (None, 10, 12)  # TestSpAtten: not quantized, 6+4 and 8+4 run at 8 bits


@dataclass(frozen=True, slots=True)
class Bits:
    """What is fetched of a head: first bits of keys, bits of values, whether the low bits of keys follow."""

    key: int | None
    value: int | None
    low: bool

    @property
    def paired(self) -> bool:
        """Two heads of 6 bits share a fetch."""
        return 6 in (self.key, self.value)


def harness_bits(row: TracedHead) -> Bits:
    """TestSpAtten: wide keys run as 8 bits and then 4 low bits, always; wide values as 8; the rest as it is."""
    wide = row.key_bits in WIDE
    return Bits(8 if wide else row.key_bits, 8 if row.value_bits in WIDE else row.value_bits, wide or row.low_bits)


def traced_bits(row: TracedHead) -> Bits:
    """As the trace says."""
    return Bits(row.key_bits, row.value_bits, row.low_bits)


BIT_POLICIES: Mapping[str, Callable[[TracedHead], Bits]] = MappingProxyType(
    {"harness": harness_bits, "traced": traced_bits}
)


def head_rows(
    trace: Sequence[TracedHead],
    design: GatherDesign,
    topk_parallelism: int = 16,
    bits: str = "harness",
    source: str = "trace",
    seed: int = 1,
) -> tuple[HeadRow, ...]:
    """The heads of a whole workload. Raises SpecError with one located line for each row the design cannot take."""
    if bits not in BIT_POLICIES:
        raise UnknownNameError("bit policy", bits, BIT_POLICIES)
    fetched = [BIT_POLICIES[bits](row) for row in trace]
    problems = [
        f"{_place(row, number)}: {problem}"
        for number, (row, own) in enumerate(zip(trace, fetched, strict=True))
        for problem in _problems(row, own, design)
    ]
    raise_all(source, problems or list(_unpaired(trace, fetched)))
    latencies = selection_cycles(trace, fetched, topk_parallelism, seed)
    return tuple(
        HeadRow(number, row.keys, row.values, own.key or 0, own.value or 0, own.low, cycles)
        for number, (row, own, cycles) in enumerate(zip(trace, fetched, latencies, strict=True))
    )


def head_stream(
    trace: Sequence[TracedHead],
    design: GatherDesign,
    topk_parallelism: int = 16,
    bits: str = "harness",
    source: str = "trace",
) -> HeadStream:
    """The heads of a whole workload back to back, with the keys that the harness gathers."""
    stream = HeadStream(design, head_rows(trace, design, topk_parallelism, bits, source))
    return replace(stream, gathered=gathered_keys(stream.longest, design.fetch_channels, design.largest_keys))


def selection_cycles(
    trace: Sequence[TracedHead], fetched: Sequence[Bits], topk_parallelism: int, seed: int = 1
) -> list[int]:
    """Latencies drawn one after another, also where all values are kept; the second of two 6-bit heads has none."""
    draw = JavaRandom(seed)
    second = _seconds(fetched)
    return [
        0 if skipped else drawn_cycles(row.keys, row.values, topk_parallelism, draw)
        for row, skipped in zip(trace, second, strict=True)
    ]


def _seconds(fetched: Sequence[Bits]) -> list[bool]:
    """Which heads are the second of a 6-bit pair."""
    found: list[bool] = []
    for own in fetched:
        before = fetched[len(found) - 1] if found else own
        found.append(own.paired and before.paired and bool(found) and not found[-1])
    return found


def _place(row: TracedHead, number: int) -> str:
    return f"line {row.line}" if row.line else f"row {number}"


def _problems(row: TracedHead, own: Bits, design: GatherDesign) -> Iterator[str]:
    for name, given, stored in (
        ("quant_key_bit", row.key_bits, own.key), ("quant_value_bit", row.value_bits, own.value),
    ):  # fmt: skip
        if stored not in STORED_BITS:
            shown = -1 if given is None else given
            yield f"{name} {shown}: the design has {', '.join(map(str, STORED_BITS))} bits (10, 12 and -1 run as 8)"
    if row.head_dim != design.head_dim:
        yield f"embedding_length_D {row.head_dim}: the design multiplies heads of {design.head_dim}"
    if row.queries != 1:
        yield f"queries {row.queries}: the design takes one query a row"
    yield from _too_large("key_fetch_num", row.keys, own.key, design)
    yield from _too_large("value_fetch_num", row.values, own.value, design)


def _too_large(name: str, vectors: int, bits: int | None, design: GatherDesign) -> Iterator[str]:
    lines = buffer_lines(vectors, bits, design)
    if lines > design.buffer_lines:
        yield f"{name} {vectors} needs {lines} buffer lines, the buffer has {design.buffer_lines}"


def buffer_lines(vectors: int, bits: int | None, design: GatherDesign) -> int:
    """Of one head, or of both heads of a 6-bit pair: an even number each, counts rounded up as the design does."""
    padded = -(-vectors // design.count_multiple) * design.count_multiple
    lines = 2 * -(-padded // (2 * design.vectors_per_line))
    return 2 * lines if bits == 6 else lines


def _unpaired(trace: Sequence[TracedHead], fetched: Sequence[Bits]) -> Iterator[str]:
    """6-bit heads come two by two with the same counts."""
    second = _seconds(fetched)
    for number, (row, own) in enumerate(zip(trace, fetched, strict=True)):
        if not own.paired or second[number]:
            continue
        if number + 1 == len(trace) or not fetched[number + 1].paired:
            yield f"{_place(row, number)}: a head with 6-bit keys or values is alone; they are fetched in pairs"
        elif _shape(trace[number + 1], fetched[number + 1]) != _shape(row, own):
            yield (
                f"{_place(trace[number + 1], number + 1)}: the second of two 6-bit heads must have the keys, values "
                f"and bits of the first"
            )


def _shape(row: TracedHead, own: Bits) -> tuple[int, int, int | None, int | None]:
    return row.keys, row.values, own.key, own.value
