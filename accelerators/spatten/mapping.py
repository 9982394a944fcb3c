"""What goes where on SpAtten: the unit of each Einsum, loads of keys and values, the layers of a pruned model.

Products of queries with keys and of probabilities with values have an array each, all else the softmax lanes, made
for the exponentials, their sum and the division; the top-k engine follows the pruning schedule. A head of more than 64
elements is several lanes of 64 side by side, whose partial scores add up; keys beyond half of a buffer, or beyond a
buffer that serves single queries, are cut into pieces, whose partial results are rescaled and added (assumed: free; the
RTL refuses such heads). Query heads that share keys stream over the same load. Lanes that would only delay others stay
idle. Layers of equal tokens, heads and values are one kind. Knows no cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from math import ceil, lcm
from types import MappingProxyType

from cascadesim.accelerators.binding import Part, part_of
from cascadesim.accelerators.spatten.spec import Formats, HeadRow, Pruning, SpattenSpec, padded
from cascadesim.accelerators.spec import point_operations
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.operators import fiber_operator
from cascadesim.einsum_cascades.sparsity.pruning_schedules import SCHEDULES, PruningSchedule, kept, published_schedule

SCORES, SOFTMAX, CHOICE, RESULTS = "multiply_qk", "softmax", "top_k", "multiply_pv"
UNITS: Mapping[Part, str] = {"scores": SCORES, "statistics": SOFTMAX, "output": RESULTS, "update": SOFTMAX}
SOFTMAX_OF_A_SCORE = Counter({"max": 1, "exp": 1, "add": 2, "divide": 1})  # HPCA 2021: exponential, sum, division
KEPT = "kept:"  # begins the line that says what pruning left of a layer
LOW_BITS = 4  # SpAtten, sec. III-D: the least significant plane
MOST_CUT = 2_048  # assumed: pieces in a stream up to which other orders and cuts are tried, some milliseconds each
MOST_STREAMED = 16_384  # heads of one query that run cycle by cycle (seconds); beyond, as loads at peak bandwidth
STORED = (4, 6, 8)  # bits that the format has; wider keys run as 8 bits and 4 more (TestSpAtten)


@lru_cache(maxsize=64)
def units_of(cascade: Cascade) -> Mapping[str, str]:
    """Einsum -> unit. Raises CascadeSimError on a cascade that the pipeline does not run."""
    if "m0" in cascade.ranks:
        raise CascadeSimError(f"{cascade.name} walks keys in tiles; spatten does so in attention-1pass and "
                              "pruned-1pass only, else use --attention attention-3pass")  # fmt: skip
    if any(fiber_operator(einsum) is not None for einsum in cascade.einsums):
        raise CascadeSimError(f"{cascade.name} chooses in its text; spatten prunes by its own schedule: use "
                              "--attention attention-3pass with --set pruning.value_keep=…")  # fmt: skip
    found = {einsum.name: UNITS[part_of(einsum)] for einsum in cascade.einsums}
    counts = [list(found.values()).count(unit) for unit in (SCORES, RESULTS)]
    if counts != [1, 1]:
        raise CascadeSimError(
            f"{cascade.name} has {counts[0]} products of queries with keys and {counts[1]} of probabilities with "
            "values; spatten runs one of each, as in attention-3pass"
        )
    _refuse_other_softmax(cascade, found)
    return MappingProxyType(found)


def _refuse_other_softmax(cascade: Cascade, units: Mapping[str, str]) -> None:
    """The lanes evaluate max, exp(x - max), sum and division for each score, and nothing else."""
    lanes: Counter[str] = Counter()
    for einsum in cascade.einsums:
        if units[einsum.name] != SOFTMAX:
            continue
        if not {"m", "p"} <= set(einsum.ranks) or "f" in einsum.ranks:
            raise CascadeSimError(f"{cascade.name}: {einsum.name} is no work on scores; spatten divides probabilities "
                                  "before it multiplies values, as in attention-3pass")  # fmt: skip
        lanes.update(point_operations(einsum))
    if lanes != SOFTMAX_OF_A_SCORE:
        does, has = (" + ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"
                     for counts in (SOFTMAX_OF_A_SCORE, lanes))  # fmt: skip
        raise CascadeSimError(f"{cascade.name}: the softmax lanes of spatten do {does} for each score, the cascade has "
                              f"{has}; use --attention attention-3pass")  # fmt: skip




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


def head_work(operation: Operation, spec: SpattenSpec, part: int | None = None) -> HeadWork:
    """The loads of an operation without a trace; `part`: keys of a piece, otherwise heads whole or as large as fits.

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

    if part is None:
        loads = 2 if queries > 1 or bits.key_bits == 6 else 1  # in the buffer at a time: one is used, one comes; a pair
        fits = loads * padded(size["m"], spec) <= spec.largest_keys
        part = size["m"] if fits else max(piece_sizes(spec), default=spec.count_multiple)
    pieces = tuple(piece(*one) for one in cut(size["m"], part))
    return HeadWork(
        pieces, piece(size["m"], 1), lanes, bits.key_bits, bits.value_bits, low_bit_share, keep < 1,
        pieces[0].keys < size["m"],
    )  # fmt: skip


def piece_sizes(spec: SpattenSpec) -> tuple[int, ...]:
    """Keys of the pieces that a head may be cut into, smallest first, so that a larger buffer has all of a smaller one.

    Two pieces fit the buffer, one for each half. The smallest is a multiple of the count and fills lines in pairs, and
    each other one is twice the one before.
    """
    half = spec.largest_keys // (4 if spec.formats.key_bits == 6 else 2)
    least = lcm(spec.count_multiple, 2 * spec.vectors_per_line)
    return tuple(least << times for times in range((half // least).bit_length()))


def smaller_pieces(work: HeadWork, spec: SpattenSpec) -> tuple[int, ...]:
    """Sizes of pieces into which the heads of a stream may be cut beside what the RTL does, which is to cut none.

    A trace lists heads that are not cut.
    """
    if not work.streams or work.traced or work.whole is None:
        return ()
    keys, heads = work.pieces[0].keys, work.whole.loads
    return tuple(part for part in piece_sizes(spec)
                 if part < keys and heads * ceil(work.whole.keys / part) <= MOST_CUT)  # fmt: skip


def lanes_in_use(spec: SpattenSpec) -> tuple[int, int]:
    """(fetch channels, softmax lanes) that a stream of single queries uses; the others stay idle.

    Powers of two, as the RTL has them. A fetch channel more delays its row of transactions, which waits for the
    slowest: two a DRAM channel are enough, and a row wider than two lines of 8-bit vectors, at 32 bytes a transaction,
    waits in the realigner. A softmax lane meets a vector of a line, and each index has a fetch channel of its own.
    """
    fetch, lanes, line = (1 << (count.bit_length() - 1) for count in (
        spec.fetch_channels, spec.softmax_lanes, spec.vectors_per_line))  # fmt: skip
    fetch = min(fetch, 2 * spec.dram.channels, 4 * line)
    return fetch, min(lanes, line, fetch)


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
    if work.streams and not work.traced and work.loads <= MOST_CUT:
        lines.append("at cycle level at most one or two heads are in the key buffer where that is faster by more than "
                     "1 % and a head's depth")  # fmt: skip
    if sizes := smaller_pieces(work, spec):
        lines.append(f"heads are cut into {sizes[0]} to {sizes[-1]} keys, powers of two apart, where that is likewise "
                     "faster; results are rescaled and added (assumed: free)")  # fmt: skip
    if work.streams:
        sizes_there = (("fetch channels", spec.fetch_channels), ("softmax lanes", spec.softmax_lanes))
        for (name, there), used in zip(sizes_there, lanes_in_use(spec), strict=True):
            if used < there:
                lines.append(f"{there - used} of {there} {name} stay idle: they would only delay others")
    lines.append("queries arrive with requests and results leave with responses, not through DRAM, as in the RTL")
    return tuple(lines)




def schedule_for(pruning: Pruning, workload: str) -> PruningSchedule | None:
    """Raises UnknownNameError on a schedule that does not exist."""
    if pruning.schedule == "none":
        return None
    if pruning.schedule == "published":
        return SCHEDULES.get(workload)
    return published_schedule(pruning.schedule)


def stored_formats(schedule: PruningSchedule, given: Formats) -> Formats:
    """Bits of a schedule as the design stores them."""
    wide = schedule.key_bits not in STORED
    bits = {
        "key_bits": 8 if wide else schedule.key_bits,
        "value_bits": schedule.value_bits if schedule.value_bits in STORED else 8,
        "low_bit_share": 1.0 if wide else schedule.low_bit_share,
    }
    return given.model_copy(update=bits)


def pruned(operation: Operation, schedule: PruningSchedule | None, spec: SpattenSpec) -> Iterator[Operation]:
    """The operation as each kind of layer runs it; itself where nothing is pruned."""
    layers = schedule.layers if schedule is not None else 1
    other = schedule is not None and operation.count not in (1, layers)
    if operation.kind != "attention" or operation.trace is not None or other:
        yield operation
        return
    size = dict(operation.extents)
    kinds = groupby(range(layers), lambda layer: _kept(size, schedule, layer, spec.pruning))
    for (tokens, heads, values), members in kinds:
        queries = tokens if size["p"] == size["m"] else size["p"]  # dropped tokens ask nothing either
        extents = {**size, "h": heads, "m": tokens, "p": queries, "k": values}
        found, numbers = replace(operation, extents=tuple(extents.items())), list(members)
        if schedule is not None:
            span = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
            count = len(numbers) if operation.count > 1 else 1
            found = replace(
                found, name=f"{operation.name} {span}", layer=f"{operation.layer}:{span}", count=count
            )
        yield found


def _kept(
    size: Mapping[str, int], schedule: PruningSchedule | None, layer: int, pruning: Pruning
) -> tuple[int, int, int]:
    """Tokens, heads and values of a layer: the schedule's counts, or the shares that the user gave."""
    tokens, heads, values = size["m"], size["h"], size["m"]
    if schedule is not None:
        tokens, values = schedule.tokens(layer, tokens), schedule.values(layer, tokens)
        heads = min(heads, schedule.heads[layer]) if size["g"] == 1 else heads
    tokens = tokens if pruning.token_keep is None else kept(pruning.token_keep, size["m"])
    heads = heads if pruning.head_keep is None else size["g"] * kept(pruning.head_keep, size["h"] // size["g"])
    if pruning.value_keep is not None or (pruning.token_keep is not None and schedule is not None):
        share = pruning.value_keep if pruning.value_keep is not None or schedule is None else schedule.value_keep
        values = kept(share or 1.0, tokens)
    return tokens, heads, min(values, tokens)
