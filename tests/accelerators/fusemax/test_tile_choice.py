"""Which tiles a design works on: never worse than a smaller design's, the published ones where nothing is better.

More rows, columns, lanes, buffer, bandwidth and clock are never slower, more work is never faster.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.bound import DesignPoint as TileDesign
from cascadesim.accelerators.fusemax.bound import TileWork, cycles_on, oldest_maximum, query_tiles, tile_work
from cascadesim.accelerators.fusemax.closed_form import Estimates, Points, evaluate
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.accelerators.fusemax.tile_choice import chosen_tiles
from cascadesim.accelerators.fusemax.tile_costs import FIGURES
from cascadesim.accelerators.program import TileRun
from cascadesim.accelerators.protocol import Plan, problems
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS
from cascadesim.simulator.engine.engine import run

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]

PRESETS = ("fusemax", "fusemax-architecture", "fusemax-cascade", "fusemax-edge", "fusemax-architecture-edge",
           "fusemax-cascade-edge")  # fmt: skip
HARDWARE = ("rows", "columns", "lanes", "buffer_bytes", "bandwidth_bytes_per_s", "clock_hz")
WORK = ("keys", "queries", "instances", "group")


def plan(accelerator: FuseMax, operation: Operation) -> Plan:
    found = accelerator.plan(operation, "physical")
    assert list(problems(found, accelerator)) == []
    return found


def cycles(found: Plan) -> float:
    return found.phases[0].analytical_cycles


def tile(found: Plan) -> str:
    return next(line.strip() for line in found.mapping if "in space" in line)


def test_one_column_more_than_lanes_stays_idle(model: Make, design: Design) -> None:
    """257 columns would take two turns of 256 lanes for each tile: 256 of them are used, as in the published array."""
    published, wider = (plan(design("fusemax", f"pe_array.columns={columns}"), model("BERT", 1024))
                        for columns in (256, 257))  # fmt: skip
    assert cycles(published) == cycles(wider) == 1_892_352
    assert tile(wider) == "in space: m0 over 256 rows, p0 over 256 columns"


def test_a_short_sequence_does_not_pay_for_a_wide_array(attention: Make, design: Design) -> None:
    """256 queries on 1024 columns and 256 lanes: one turn for the 256 columns that are needed, not four."""
    narrow, wide = (plan(design("fusemax", f"pe_array.columns={columns}"), attention(256, b=8))
                    for columns in (256, 1024))  # fmt: skip
    assert cycles(wide) == cycles(narrow)


def test_a_partial_last_tile_is_spread_over_all_tiles(attention: Make, design: Design) -> None:
    """257 keys need two key tiles, of 129 keys rather than 256 and 1: their drains are shorter."""
    found = plan(design("fusemax-architecture"), attention(257, 256))
    assert tile(found) == "in space: m0 over 129 rows, p0 over 256 columns"
    assert found.splits == {"M0": 129}
    assert "splits: M0 = 129" in found.mapping


def test_a_buffer_that_does_not_hold_a_tile_of_the_whole_array_holds_a_smaller_one(
    attention: Make, design: Design
) -> None:
    """Room for 200 queries of 130 words beside 200 keys and values of 128 words: 256 x 256 tiles do not fit."""
    found = plan(design("fusemax", f"global_buffer.capacity_bytes={200 * 2 * (130 + 128)}"), attention(1024))
    rows, columns = (int(word) for word in tile(found).split() if word.isdigit())
    assert rows * 128 + columns * 130 <= 200 * (130 + 128)


def test_residents_leave_room_for_a_second_key_tile_where_loads_would_stop_the_array(
    attention: Make, design: Design
) -> None:
    """5 query tiles beside one key tile, or 4 beside two: with one, loads and work take turns."""
    capacity = 2 * 256 * (5 * 130 + 128) + 2 * 100
    found = plan(design("fusemax", f"global_buffer.capacity_bytes={capacity}"), attention(256 * 20, b=8))
    assert "for p1 in 4 " in "\n".join(found.mapping)


def test_ties_go_to_the_published_tile(model: Make, design: Design) -> None:
    """Of 64 x 64 as of 256 x 256 elements all are used, though half as many rows twice would do as well."""
    for side in (64, 256):
        sizes = (f"pe_array.rows={side}", f"pe_array.columns={side}", f"vector_array.lanes={side}")
        found = plan(design("fusemax", *sizes), model("BERT", 4096))
        assert tile(found) == f"in space: m0 over {side} rows, p0 over {side} columns"


def test_published_accounting_keeps_the_published_tile(model: Make, design: Design) -> None:
    """Two turns for 512 columns, each tile 512 wide: the formulas of the artifact as they are."""
    wide = design("fusemax", "pe_array.columns=512").plan(model("BERT", 1024), "artifact")
    assert "p0 over 512 columns" in tile(wide)


def test_masks_choose_among_the_same_tiles(attention: Make, design: Design) -> None:
    found = [cycles(plan(design("fusemax", f"pe_array.columns={columns}"), attention(1000, b=4, mask=CAUSAL)))
             for columns in (256, 257, 512)]  # fmt: skip
    assert found == sorted(found, reverse=True)


@dataclass(frozen=True)
class Case:
    """A design and its work; of the same with more of one thing, `more` of it."""

    preset: str
    sizes: dict[str, float]


ROOMY, TIGHT = (8.0, 20.0, 100.0), (1.5, 2.0, 3.7)  # buffers, in tiles of the whole array


def cases(seed: int, count: int, buffers: tuple[float, ...]) -> list[Case]:
    """Square arrays and others, lengths that fill tiles and that do not."""
    chance = random.Random(seed)
    return [_case(chance, buffers) for _ in range(count)]


def _case(chance: random.Random, buffers: tuple[float, ...]) -> Case:
    preset, side = chance.choice(PRESETS), chance.choice([16, 32, 64, 128, 256])
    rows, columns = (chance.choice([side, side, chance.randint(8, 2 * side)]) for _ in "rc")
    depth, keys = chance.choice([16, 64, 128]), chance.choice([256, 1000, 1024, 4096, chance.randint(1, 5000)])
    tiles = 4 * depth * (rows + columns) + 4 * columns * (1 + (rows if "cascade" in preset else 0))
    return Case(preset, {
        "rows": rows, "columns": columns, "lanes": chance.choice([columns, side, chance.randint(4, 2 * side)]),
        "buffer_bytes": int(tiles * chance.choice(buffers)), "row_bytes": 2 * side,
        "bandwidth_bytes_per_s": chance.choice([1e10, 5e10, 1e11, 4.3e11, 2e12]), "clock_hz": 940e6,
        "instances": chance.randint(1, 64), "queries": chance.choice([keys, keys, 1, chance.randint(1, 3000)]),
        "keys": keys, "query_depth": depth, "value_depth": depth, "group": chance.choice([1, 1, 2, 4]),
    })  # fmt: skip


def more(case: Case, name: str, chance: random.Random) -> Case:
    own = case.sizes[name]
    factor = chance.choice([1.01, 1.3, 2.0])
    larger = own * factor if name.endswith(("_s", "_hz")) else max(own + 1, int(own * factor))
    return replace(case, sizes=case.sizes | {name: larger})


def estimates(found: list[Case], design: Design) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Seconds of each case, by the vectorised closed form, a preset at a time."""
    seconds = np.empty(len(found))
    for preset in PRESETS:
        members = [number for number, case in enumerate(found) if case.preset == preset]
        columns = {name: np.array([found[number].sizes[name] for number in members]) for name in found[0].sizes}
        own: Estimates = evaluate(Points(**columns), design(preset).spec, ATTENTION_1PASS)
        seconds[members] = own.latency_s
    return seconds


def violations(seed: int, count: int, name: str, buffers: tuple[float, ...], design: Design) -> list[float]:
    """How much longer a case takes with more of a resource, or shorter with more work, beyond one cycle: as a share."""
    chance, before = random.Random(seed), cases(seed, count, buffers)
    after = [more(case, name, chance) for case in before]
    first, second = np.split(estimates([*before, *after], design), 2)
    wrong = (second - first if name in HARDWARE else first - second) - 1 / 940e6
    return [float(share) for share in wrong / first if share > 0]


every_resource = pytest.mark.parametrize("name", [*HARDWARE, *WORK])


def planned(case: Case, attention: Make, design: Design) -> Plan:
    size = {name: int(value) for name, value in case.sizes.items()}
    accelerator = design(
        case.preset, f"pe_array.rows={size['rows']}", f"pe_array.columns={size['columns']}",
        f"vector_array.lanes={size['lanes']}", f"global_buffer.capacity_bytes={size['buffer_bytes']}",
        f"global_buffer.row_bytes={size['row_bytes']}", f"clock_hz={case.sizes['clock_hz']:.3f}",
        f"dram.bandwidth_bytes_per_s={case.sizes['bandwidth_bytes_per_s']:.3f}",
    )  # fmt: skip
    depth, group = size["query_depth"], size["group"]
    operation = attention(size["keys"], size["queries"], depth, depth, b=size["instances"], h=group, g=group)
    return plan(accelerator, operation)


def run_case(case: Case, attention: Make, design: Design) -> tuple[int, int]:
    """Cycles at cycle level, and those of one tile on its way through the pipeline."""
    program = planned(case, attention, design).phases[0].program
    assert program is not None
    made = program()
    alone = (run(replace(made, stream=(TileRun(kind, 1),))).cycles for kind in range(len(made.tile_classes)))
    return run(made).cycles, max(alone)


def cycle_level_violations(seed: int, count: int, name: str, attention: Make, design: Design) -> list[float]:
    """As `violations`, beyond one per cent or one pipeline depth."""
    chance, found = random.Random(seed), []
    for case in cases(seed, count, ROOMY):
        larger = more(case, name, chance)
        (first, depth), (second, other) = (run_case(each, attention, design) for each in (case, larger))
        before, after = first / case.sizes["clock_hz"], second / larger.sizes["clock_hz"]
        wrong = after - before if name in HARDWARE else before - after
        if wrong > max(0.01 * before, max(depth, other) / case.sizes["clock_hz"]):
            found.append(wrong / before)
    return found


@pytest.mark.slow
@every_resource
def test_at_cycle_level_the_order_is_kept_within_a_pipeline_depth(
    name: str, attention: Make, design: Design
) -> None:
    assert cycle_level_violations(5, 2, name, attention, design) == []


@pytest.mark.slow
@pytest.mark.parametrize(("buffers", "median"), [(ROOMY, 0.01), (TIGHT, 0.1)])
def test_the_cycle_level_is_near_the_bound_and_never_below(
    buffers: tuple[float, ...], median: float, attention: Make, design: Design
) -> None:
    above = []
    for case in cases(3, 60, buffers):
        (phase,) = planned(case, attention, design).phases
        assert phase.program is not None
        above.append(run(phase.program()).cycles / phase.analytical_cycles - 1)
    assert min(above) >= 0
    assert np.median(above) < median


@pytest.mark.nightly
@every_resource
def test_two_hundred_designs_keep_the_order_at_cycle_level(name: str, attention: Make, design: Design) -> None:
    assert cycle_level_violations(6, 20, name, attention, design) == []


@pytest.mark.slow
@every_resource
@pytest.mark.parametrize("buffers", [ROOMY, TIGHT])
def test_two_thousand_designs_keep_the_order(name: str, buffers: tuple[float, ...], design: Design) -> None:
    assert violations(7, 200, name, buffers, design) == []


@numba.njit
def _least_of_all(w: TileWork, d: TileDesign) -> float:
    """Every tile, every number of residents, every split of the buffer and every age, one after another."""
    least = np.inf
    for rows in range(1, int(d.rows) + 1):
        for columns in range(1, int(d.columns) + 1):
            query_bytes = columns * (w.resident_words + w.resident_words_row * rows) * w.word_bytes
            key_bytes = rows * w.key_words * w.word_bytes
            for residents in range(1, int(query_tiles(d, columns)) + 1):
                for ahead in range(17):
                    keys = (d.buffer_bytes - (residents + ahead) * query_bytes) // key_bytes
                    if keys >= 1:
                        for age in range(int(oldest_maximum(w, d, rows, columns)) + 1):
                            found = 0.0
                            for own in cycles_on(w, d, rows, columns, residents, residents + ahead, keys, age):
                                found = max(found, own)
                            least = min(least, found)
    return least


@settings(max_examples=60, deadline=None)
@given(
    preset=st.sampled_from(PRESETS), sides=st.tuples(*[st.integers(1, 12)] * 3), tiles=st.floats(1.05, 6),
    extents=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 3), st.integers(1, 3)),
    channel=st.sampled_from([0.05, 0.5, 5.0]),
)  # fmt: skip
@pytest.mark.slow
def test_the_search_leaves_nothing_out(
    preset: str, sides: tuple[int, int, int], tiles: float, extents: tuple[int, int, int, int], channel: float,
    design: Design,
) -> None:  # fmt: skip
    """The least of all tiles, tried one by one."""
    rows, columns, lanes = sides
    queries, keys, instances, group = extents
    spec = design(preset).spec
    work = tile_work(place(ATTENTION_1PASS, spec), spec, 4, 4)
    own_words = columns * (work.resident_words + work.resident_words_row * rows) + rows * work.key_words
    one = TileDesign(rows, columns, lanes, int(tiles * own_words * 2), 8, channel, instances, queries, keys, group)
    found = chosen_tiles(work, np.array([one], dtype=np.float64))
    best = max(float(found[name][0]) for name in FIGURES[6:])
    assert best == pytest.approx(_least_of_all(work, one), rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(
    preset=st.sampled_from(PRESETS), sides=st.tuples(*[st.integers(1, 24)] * 3), tiles=st.floats(1.05, 6),
    extents=st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 3), st.integers(1, 3)),
    channels=st.lists(st.floats(0.01, 20), min_size=2, max_size=40),
)  # fmt: skip
def test_designs_that_share_what_is_known_of_tiles_get_those_that_each_gets_alone(
    preset: str, sides: tuple[int, int, int], tiles: float, extents: tuple[int, int, int, int], channels: list[float],
    design: Design,
) -> None:  # fmt: skip
    """One array and buffer on many channels, in any order, beside a larger array."""
    rows, columns, lanes = sides
    queries, keys, *heads = extents
    work_of, spec = (heads[0], queries, keys, heads[1]), design(preset).spec
    work = tile_work(place(ATTENTION_1PASS, spec), spec, 4, 4)
    own_words = columns * (work.resident_words + work.resident_words_row * rows) + rows * work.key_words
    designs = np.array([
        TileDesign(rows + other, columns, lanes, int(tiles * own_words * 2), 8, channel, *work_of)
        for channel in channels for other in (0, 3)
    ], dtype=np.float64)  # fmt: skip
    together = chosen_tiles(work, designs)
    for number in range(len(designs)):
        alone = chosen_tiles(work, designs[number : number + 1])
        for name in FIGURES:
            np.testing.assert_array_equal(together[name][number], alone[name][0])
