"""What goes where on SpAtten: attention as loads of keys and values, and the queries that stream over each.

A head of more than 64 elements is several lanes of 64 side by side, whose partial scores add up; keys beyond half of a
buffer are cut into pieces, whose partial results are rescaled and added (assumed: free; the RTL refuses such heads).
Query heads that share keys stream over the same load. Knows no cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

from cascadesim.accelerators.spatten.roles import units_of
from cascadesim.accelerators.spatten.spec import HeadRow, SpattenSpec, padded
from cascadesim.einsum_cascades.models.operation import Operation

KEPT = "kept:"  # begins the line that says what pruning left of a layer
LOW_BITS = 4  # SpAtten, sec. III-D: the least significant plane
MOST_STREAMED = 16_384  # heads of one query that run cycle by cycle (seconds); beyond, as loads at peak bandwidth


@dataclass(frozen=True, slots=True)
class Piece:
    """`loads` loads of `keys` keys, over each of which `queries` queries stream, using `values` values each.

    `pairs`: query-key pairs that the mask lets through, of all queries of a load.
    """

    keys: int
    values: int
    queries: int
    pairs: int
    loads: int


@dataclass(frozen=True, slots=True)
class HeadWork:
    """One attention operation. `low_bit_share`: of the queries, how many make the low bits of keys be fetched."""

    pieces: tuple[Piece, ...]
    whole: Piece | None  # the heads uncut, which the closed form counts; None where a trace lists heads of many shapes
    lanes: int
    key_bits: int
    value_bits: int
    low_bit_share: float
    selects: bool
    cut: bool  # whether the keys of a head exceed the buffer
    traced: tuple[HeadRow, ...] = ()  # the very heads, where a trace lists them

    @property
    def streams(self) -> bool:
        """Whether every load serves one query, as in the RTL's pipeline; where there are too many, the engine runs."""
        return self.single_queries and (bool(self.traced) or self.loads <= MOST_STREAMED)

    @property
    def single_queries(self) -> bool:
        return all(piece.queries == 1 for piece in self.pieces)

    @property
    def loads(self) -> int:
        return sum(piece.loads for piece in self.pieces)


def head_work(operation: Operation, spec: SpattenSpec) -> HeadWork:
    """The loads of an operation without a trace.

    Raises CascadeSimError on a cascade that is no softmax attention, or that walks keys in tiles.
    """
    units_of(operation.cascade)
    size, bits = dict(operation.extents), spec.formats
    lanes = ceil(max(size["e"], size["f"]) / spec.head_dim)
    heads, queries = size["b"] * size["h"] // size["g"], size["g"] * size["p"]
    low_bit_share = bits.low_bit_share if spec.pruning.low_bit_share is None else spec.pruning.low_bit_share
    keep = Fraction(size.get("k", size["m"]), size["m"])
    attended = operation.mask.attended_pairs(size["p"], size["m"]) / (size["p"] * size["m"])

    def piece(keys: int, count: int) -> Piece:
        pairs = max(1, ceil(attended * queries * keys))
        return Piece(keys, ceil(keep * keys), queries, pairs, count * heads * lanes)

    # a head that does not fit is cut into halves of the buffer, so that one loads while the other is used: a half holds
    # an even number of lines, which are filled in pairs, and whole multiples of the count
    pair = 2 if bits.key_bits == 6 else 1
    fits = padded(size["m"], spec) * pair <= spec.largest_keys
    step = lcm(spec.count_multiple, 2 * spec.vectors_per_line)
    half = max(spec.count_multiple, spec.largest_keys // (2 * pair) // step * step)
    pieces = tuple(piece(*one) for one in cut(size["m"], size["m"] if fits else half))
    return HeadWork(
        pieces, piece(size["m"], 1), lanes, bits.key_bits, bits.value_bits, low_bit_share, keep < 1,
        pieces[0].keys < size["m"],
    )  # fmt: skip


def cut(whole: int, part: int) -> list[tuple[int, int]]:
    """(size, how many of it): whole parts, and what is left over."""
    count, left = divmod(whole, part)
    return [(part, count)] * (count > 0) + [(left, 1)] * (left > 0)


def kept_lines(operation: Operation) -> tuple[str, ...]:
    """The extents that pruning left of a layer."""
    size = dict(operation.extents)
    if "k" not in size or operation.trace is not None:
        return ()
    return (f"{KEPT} {size['h']} heads, {size['m']} tokens, {size['k']} values a query",)


def stored_bytes(operation: Operation, spec: SpattenSpec) -> dict[str, float]:
    """Keys and values as they lie in DRAM, of the bits that are fetched first; of a trace, each head says its own."""
    if operation.trace is not None:
        return {}
    bits = {"e": spec.formats.key_bits, "f": spec.formats.value_bits}
    inputs = {access.tensor: set(access.ranks) for einsum in operation.cascade.einsums for access in einsum.inputs
              if access.tensor in operation.cascade.inputs}  # fmt: skip
    return {tensor: bits[depth] / 8 for tensor, ranks in inputs.items() for depth in bits
            if depth in ranks and "p" not in ranks}  # fmt: skip


def mapping_lines(work: HeadWork, spec: SpattenSpec) -> tuple[str, ...]:
    """What a report prints."""
    delivered = spec.dram.peak_bytes_per_cycle
    lines = [
        f"DRAM mode {spec.dram.mode}: at most {delivered:g} bytes a cycle over {spec.dram.channels} channels",
        f"keys {work.key_bits} bits, {LOW_BITS} more for {work.low_bit_share:.1%} of queries; "
        f"values {work.value_bits} bits",
        (f"softmax takes {spec.softmax_cycles} cycles behind the last score" if spec.softmax_cycles
         else "softmax passes through in no time, as in the public RTL")
        + "; top-k at " + ("latencies drawn as its harness draws them" if work.traced else "its mean latency"),
    ]
    for piece in work.pieces:
        lines.append(f"{piece.loads} loads of {piece.keys} keys, {piece.queries} queries over each, "
                     f"{piece.values} values a query")  # fmt: skip
    if work.single_queries and not work.streams:
        lines.append(f"more than {MOST_STREAMED} single queries: loads through the engine, DRAM at its peak")
    if work.lanes > 1:
        lines.append(f"a head is {work.lanes} lanes of {spec.head_dim} elements")
    if work.cut:
        lines.append("keys beyond half a buffer are cut into pieces; their results are rescaled and added")
    lines.append("queries arrive with requests and results leave with responses, not through DRAM, as in the RTL")
    return tuple(lines)
