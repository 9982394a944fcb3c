"""The least cycles of attention on tiles of given sizes: what no schedule of the published orders can beat.

The larger of ResMII and RecMII (Rau, MICRO'94), times the tiles: the busier array, the stages of `serial`, the DRAM
channel and the buffer ports on one side; on the other the circuits that slots of the buffer close. A key slot is taken
from the load of a key tile to its last product, a query slot from the load of a query tile to the store of its result,
so all these times together are at most the slots times the cycles of the run. Every term falls with the hardware and
grows with the work. Knows one tile at a time, compiled; which one is the business of `tile_choice`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.access_counts import LinearForm
from cascadesim.accelerators.compiled import compiled
from cascadesim.accelerators.fusemax.actions import PHYSICAL, Nests, count, form_of, single_loops, symbols, tile_words
from cascadesim.accelerators.fusemax.spec import ARRAY_1D, ARRAY_2D, FuseMaxSpec, Placed, Placement
from cascadesim.accelerators.fusemax.timing import STAGES
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles
from cascadesim.accelerators.spatial.tile_order import TILES_AHEAD

Floats = NDArray[np.float64]

FILLING_ROWS = 3  # assumed: besides the oldest maximum, rows in which no older tiles take turns yet
_CHAIN = ("QK", "LM", "RM", "SLN", "SLNV")  # each reads the one before; SLD comes between the last two in order
_FRONT, _THROUGH = ("QK", "LM"), ("QK", "LM", "RM", "SLN", "SLD", "SLNV")  # one after another in a tile


class TileWork(NamedTuple):
    """Cycles and words of one tile, for one placement and one pair of depths.

    TileCycles of the 1D array are for one turn of its lanes: a constant part, and a part for each row of the tile.
    """

    array_2d: float
    array_1d: float
    array_1d_row: float
    finish_1d: float  # of a tile that finishes its queries, besides
    front_2d: float  # of the products that follow the load of a key tile
    through_2d: float  # from the load of a key tile to its last product: parts of a chain on either array
    through_1d: float
    through_1d_row: float
    circuits: bool  # slots are held along the chain of the published Einsums; of other texts only resources are bounded
    epochs: bool  # the order of the published software pipeline
    products_2d: tuple[float, float]  # of QK and of SLNV, which take turns
    weights_2d: float  # of SLN and SLD
    maximum_1d: float  # of RM
    stages: Floats  # (stage, side, 2D | 1D | 1D for each row | 1D of a finished tile), cycles; none but under `serial`
    window: float  # tiles that may be out of order: `in_flight` of a greedy policy, none of a static one
    key_words: float  # of a key and its value
    query_words: float
    result_words: float  # of each query
    resident_words: float  # for each resident query: a constant part, and a part for each row
    resident_words_row: float
    slots_ahead: float  # query slots beside the residents that tiles under way can use
    port_words: Floats  # (always | queries fetched | keys fetched | finished, 1 | rows | columns | rows x columns)
    word_bytes: float


class DesignPoint(NamedTuple):
    """One design and its work, as numbers."""

    rows: float
    columns: float
    lanes: float
    buffer_bytes: float
    port_bytes: float  # that all ports of the buffer move in a cycle
    dram_bytes_per_cycle: float
    instances: float
    queries: float
    keys: float
    group: float


class TileCycles(NamedTuple):
    """Cycles that each resource needs; the most of them is the bound."""

    array_2d: float
    array_1d: float
    stages: float
    dram: float
    ports: float
    key_waits: float
    query_waits: float
    recurrence: float  # of rows under `epochs`


def tile_work(placement: Placement, spec: FuseMaxSpec, query_depth: int, value_depth: int) -> TileWork:
    """Whatever the sizes of `spec`: only its operations, policy and word are read."""
    depths = {"e": query_depth, "f": value_depth}

    def cycles(einsums: Iterable[Placed], unit: str, per_row: bool = False, finishes: bool = False) -> float:
        """Cycles of one tile on one element, or for each row; `finishes`: what comes once the last key has passed."""
        chosen = (each for each in einsums if each.unit == unit and (placement.key_outer not in each.ranks) == finishes)
        return float(sum(
            each.op_cycles * np.prod([depths[rank] for rank in each.ranks & set(depths)])
            for each in chosen if unit == ARRAY_2D or (placement.key_inner in each.ranks) == per_row
        ))  # fmt: skip

    def named(names: Iterable[str]) -> list[Placed]:
        return [each for each in placement.einsums if each.name in names]

    every, through, policy = placement.einsums, named(_THROUGH), spec.binding.policy
    stages = [
        [(cycles(side, ARRAY_2D), cycles(side, ARRAY_1D), cycles(side, ARRAY_1D, per_row=True),
          cycles(side, ARRAY_1D, finishes=True)) for side in map(named, stage)]
        for stage in (STAGES["serial"] if policy == "serial" else ())
    ]  # fmt: skip
    kept = [[depths.get(rank, 1) for rank in ranks] for ranks in placement.resident.values()]
    with_row = [placement.key_inner in ranks for ranks in placement.resident.values()]
    results = sum(float(np.prod([depths[rank] for rank in ranks])) for ranks in placement.results)
    forms = tile_forms(placement)
    corners = [[form.evaluate(_sizes({"m0": rows, "p0": columns, **depths})) for columns in (0, 1) for rows in (0, 1)]
               for form in (forms.always, forms.queries_fetched, forms.keys_fetched, forms.finished)]  # fmt: skip
    return TileWork(
        cycles(every, ARRAY_2D), cycles(every, ARRAY_1D), cycles(every, ARRAY_1D, per_row=True),
        cycles(every, ARRAY_1D, finishes=True), cycles(named(_FRONT), ARRAY_2D), cycles(through, ARRAY_2D),
        cycles([each for each in through if each.name != "SLD"], ARRAY_1D),
        cycles([each for each in through if each.name != "SLD"], ARRAY_1D, per_row=True),
        _is_published(placement),
        policy == "epochs", (cycles(named(["QK"]), ARRAY_2D), cycles(named(["SLNV"]), ARRAY_2D)),
        cycles(named(["SLN", "SLD"]), ARRAY_2D), cycles(named(["RM"]), ARRAY_1D),
        np.array(stages, dtype=np.float64).reshape(-1, 2, 4), float(spec.binding.in_flight or 0),
        float(query_depth + value_depth), float(query_depth),
        max(1.0, results), float(sum(np.prod(own) for own, row in zip(kept, with_row, strict=True) if not row)),
        float(sum(np.prod(own) for own, row in zip(kept, with_row, strict=True) if row)),
        float(max(TILES_AHEAD, spec.binding.in_flight or 0)),
        np.array([[a, b - a, c - a, d - b - c + a] for a, b, c, d in corners], dtype=np.float64),
        float(spec.word_bytes),
    )  # fmt: skip


@dataclass(frozen=True)
class TileForms:
    """Words through the buffer in one whole tile: always, and when it fetches or finishes what a Kind says."""

    always: LinearForm
    queries_fetched: LinearForm
    keys_fetched: LinearForm
    finished: LinearForm


def tile_forms(placement: Placement) -> TileForms:
    """Words of a tile of any sizes: projections to m0, p0 and the depths."""
    return _tile_forms(_Kept(placement))


@dataclass(frozen=True, eq=False)
class _Kept:
    """Equal where every Einsum runs on the same unit and keeps the same operands, whatever its operations cost."""

    placement: Placement

    @cached_property
    def _key(self) -> tuple[object, ...]:
        placed = ((each.name, each.unit, each.operands, each.dram_keeps, each.buffer_keeps, each.registers_1d_keeps)
                  for each in self.placement.einsums)  # fmt: skip
        return (self.placement.key_outer, self.placement.key_inner, *placed)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and self._key == other._key


@cache
def _tile_forms(kept: _Kept) -> TileForms:
    placement, single = kept.placement, single_loops(1, 1, 1)
    one = AttentionTiles(AttentionShape(2, 2, 2, 2, 2), rows=2, columns=2, buffer_tiles=1, P1=1, kv_slots=1)
    counted = count(Nests(placement, one, {"e": 2, "f": 2}, symbols(single)), PHYSICAL)
    return TileForms(*(form_of(words) for words in tile_words(placement, counted)))


def _is_published(placement: Placement) -> bool:
    """Whether each Einsum of the published chain reads the one before, and its last one is the last to read keys."""
    reads = {each.name: {operand.name for operand in each.operands} for each in placement.einsums}
    readers = [each.name for each in placement.einsums if each.dram_keeps & each.buffer_keeps]
    chained = all(before in reads.get(after, ()) for before, after in pairwise(_CHAIN))
    return chained and "SLD" in reads and readers[-1:] == [_CHAIN[-1]]


def _sizes(sizes: Mapping[str, int]) -> Callable[[frozenset[str]], Floats]:
    """Size of a projection of one tile."""
    return lambda loops: np.array(float(np.prod([sizes[loop] for loop in loops & set(sizes)])))


@compiled
def query_tiles(d: DesignPoint, columns: float) -> float:
    """Query tiles of one instance: heads apart where each fills the columns, side by side otherwise."""
    if d.queries >= columns:
        return float(d.group * np.ceil(d.queries / columns))
    return float(np.ceil(d.group * d.queries / columns))


@compiled
def _port_words(w: TileWork, kind: int, rows: float, columns: float) -> float:
    own = w.port_words[kind]
    return float(own[0] + own[1] * rows + own[2] * columns + own[3] * rows * columns)


@compiled
def _staged_cycles(w: TileWork, score_tiles: float, query_tiles: float, rows: float, turns: float) -> float:
    """Cycles under `serial`: stages as long as their slower side, and the drain of LM of every tile; 0 under others."""
    staged = 0.0
    for stage in range(len(w.stages)):
        longest = 0.0
        for side in range(2):
            own = w.stages[stage, side]
            per_tile = own[0] + turns * (own[1] + own[2] * rows)
            longest = max(longest, score_tiles * per_tile + query_tiles * turns * own[3])
        staged += longest
    return staged + score_tiles * rows if len(w.stages) else 0.0


@compiled
def _scores(w: TileWork, rows: float, turns: float) -> float:
    """Cycles from QK, which takes turns with SLNV of an older tile, to the next QK: LM, its drain, RM, SLN and SLD."""
    qk, slnv = w.products_2d
    return w.front_2d + min(qk, slnv) + rows + turns * w.maximum_1d + w.weights_2d


@compiled
def oldest_maximum(w: TileWork, d: DesignPoint, rows: float, columns: float) -> float:
    """The age of a maximum, in epochs, from which on no drain of LM is waited for; 0 but under `epochs`."""
    turns = np.ceil(columns / d.lanes)
    busiest = max(w.array_2d, turns * (w.array_1d + w.array_1d_row * rows))
    return float(np.ceil(_scores(w, rows, turns) / busiest)) if w.epochs else 0.0


@compiled
def _row_cycles(
    w: TileWork, rows: float, turns: float, residents: float, load: float, key_slots: float, maximum_age: float
) -> float:
    """Cycles of a row of resident query tiles past a key tile, by the circuits of the published order.

    `maximum_age`: epochs from QK of a tile to its maximum (c of the binding); its SLNV follows one epoch later, and its
    RNV at most a row after its maximum, whose place in the group of the 1D array the next row takes.
    """
    qk, slnv = w.products_2d
    before = slnv + min(slnv - 1, qk)  # SLNV takes turns with QK of a later tile
    found = w.weights_2d + turns * w.maximum_1d + rows  # RM, SLN, SLD, the drain of SLNV, RM of the next row
    if key_slots < 2:
        return found  # empty epochs between load and last read: a row at a time
    if maximum_age > 0 and (key_slots - 1) * residents <= maximum_age:
        return float(np.inf)  # empty epochs, which a younger maximum does not need
    found = max(found, residents * _scores(w, rows, turns) / (maximum_age + 1))
    between = key_slots - 1 - np.floor(maximum_age / residents)  # SLNV takes turns with QK of a later row
    if between > 0:
        found = max(found, (maximum_age % residents * w.array_2d + before + load) / between)
    return found


@compiled
def _waits(
    w: TileWork, d: DesignPoint, rows: float, columns: float, residents: float, query_slots: float, key_slots: float,
    maximum_age: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Cycles by the slots of keys, by those of queries (without their transfers), and by rows under `epochs`."""
    if not w.circuits:
        return 0.0, 0.0, 0.0
    key_tiles, tiles, turns = np.ceil(d.keys / rows), query_tiles(d, columns), np.ceil(columns / d.lanes)
    tile_1d, finish_1d = turns * (w.array_1d + w.array_1d_row * rows), turns * w.finish_1d
    word_cycles = w.word_bytes / d.dram_bytes_per_cycle
    chain_1d = turns * (w.through_1d + w.through_1d_row * rows)
    through = rows + w.through_2d + chain_1d
    front, filled = (w.front_2d, w.front_2d + rows) if w.window == 0 else (0.0, 0.0)
    passes = np.ceil(tiles / residents) if key_tiles > 1 else 1.0
    row = max(tiles * w.array_2d, tiles * chain_1d, passes * through + (tiles - passes) * front)  # of all groups
    held_keys = d.instances * (passes * d.keys * w.key_words * word_cycles + key_tiles * row)
    load, ordered = rows * w.key_words * word_cycles, w.window == 0 and key_tiles > 1
    packed = d.queries < columns
    smallest = d.group * d.queries - (tiles - 1) * columns if packed else d.queries - (tiles / d.group - 1) * columns
    fetch, store = smallest * w.query_words * word_cycles, smallest * w.result_words * word_cycles
    again = rows + w.weights_2d + turns * w.maximum_1d if w.epochs else 0.0
    published = again
    if w.epochs and key_tiles > 1:
        published = _row_cycles(w, rows, turns, residents, load, key_slots, maximum_age)
    whole, held_queries, recurring = np.floor(tiles / residents), 0.0, 0.0
    ahead = query_slots - residents if query_slots < 2 * residents else 0.0
    for group in range(2):  # all whole groups of residents, and the smaller last one
        times, size = (whole, residents) if group == 0 else (1.0, tiles - whole * residents)
        if size == 0:
            continue
        held = (load + max(size * w.array_2d, size * chain_1d, through + (size - 1) * front)) / key_slots
        row = max(held, load, published if group == 0 else again)
        recurring += times * max(row, size * max(w.array_2d, tile_1d))
        between = max(1.0, (key_tiles - 1) * size + 1 - ahead - w.window)  # tiles of a column, first to last
        rows_between = (key_tiles - 1 - min(ahead, 1.0)) * again
        if key_tiles - key_slots > 1:  # a row may be inf
            rows_between = max(rows_between, (key_tiles - key_slots - 1) * row)
        last = through + (rows if w.epochs else 0.0)
        held = max(between * w.array_2d, between * tile_1d + filled, rows_between + last) + finish_1d
        if query_slots < 2 * residents:  # a column is fetched once the one `ahead` before it is stored, a group back
            behind = max(0.0, size - ahead - 1) * fetch + (load if ahead == 0 else 0.0) if ordered else 0.0
            held_queries += times * (held + behind + fetch + store)
        else:
            held_queries += times * size * (held + ((size - 1) / 2 * fetch + load / size if ordered else 0.0))
    settled = d.instances * key_tiles - oldest_maximum(w, d, rows, columns) - FILLING_ROWS  # once the pipeline is full
    recurring = recurring * settled if w.epochs and key_tiles > 1 and settled > 0 else 0.0  # a row may be inf
    return held_keys / key_slots, d.instances * held_queries, recurring


@compiled
def cycles_on(
    w: TileWork, d: DesignPoint, rows: float, columns: float, residents: float, query_slots: float, key_slots: float,
    maximum_age: float,
) -> TileCycles:  # fmt: skip
    """Cycles of an operation on tiles of `rows` keys and `columns` queries, `maximum_age` as in `_row_cycles`."""
    key_tiles, tiles, turns = np.ceil(d.keys / rows), query_tiles(d, columns), np.ceil(columns / d.lanes)
    score_tiles, word_cycles = d.instances * tiles * key_tiles, w.word_bytes / d.dram_bytes_per_cycle
    passes = np.ceil(tiles / residents) if key_tiles > 1 else 1.0  # of all keys, for each instance
    moved = d.instances * d.group * d.queries * (w.query_words + w.result_words) * word_cycles
    words = (
        _port_words(w, 0, rows, columns) * tiles * key_tiles + _port_words(w, 2, rows, columns) * passes * key_tiles
        + (_port_words(w, 1, rows, columns) + _port_words(w, 3, rows, columns)) * tiles
    )  # fmt: skip
    keys_wait, queries_wait, recurring = _waits(w, d, rows, columns, residents, query_slots, key_slots, maximum_age)
    if query_slots >= 2 * residents and w.circuits:
        queries_wait = (moved + queries_wait) / query_slots
    return TileCycles(
        score_tiles * w.array_2d,
        score_tiles * turns * (w.array_1d + w.array_1d_row * rows) + d.instances * tiles * turns * w.finish_1d,
        _staged_cycles(w, score_tiles, d.instances * tiles, rows, turns),
        d.instances * passes * d.keys * w.key_words * word_cycles + moved,
        d.instances * words * w.word_bytes / d.port_bytes, keys_wait, queries_wait, recurring,
    )  # fmt: skip
