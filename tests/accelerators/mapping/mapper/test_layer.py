"""A whole layer on one array: fused groups compute it, bounds leave out nothing better, energy needs prices."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from mapped_cases import edge
from walker import Execution

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import Draft, illegal
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours
from cascadesim.accelerators.mapping.mapper.costs import NO_LIMIT, Objective, cost
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.search import best_group, every_group, least_cost, search
from cascadesim.accelerators.mapping.placing import bound
from cascadesim.accelerators.mapping.plan import Mapped, given, searched
from cascadesim.accelerators.mapping.problem import MappingProblem, problem
from cascadesim.accelerators.mapping.runs import BoundLoop
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import LLAMA_LAYER

SIZES = {"P": 8, "M": 8, "M0": 4, "H": 2, "G": 2, "D": 6, "J": 2, "C": 2, "I": 2, "F": 3, "N": 10}
RANKS = {"X": "PD", "GX": "D", "GY": "D", "WQ": "HGDJI", "WK": "HDJI", "WV": "HDF", "ROT": "PJCI", "WO": "HGFD",
         "WG": "DN", "WU": "DN", "WD": "ND"}  # fmt: skip
EXTENTS = tuple((name.lower(), size) for name, size in SIZES.items() if name != "M0")


@cache
@cache
def layer(fused: int) -> Mapped:
    return searched(LLAMA_LAYER, EXTENTS, edge(), most_fused=fused)


@pytest.mark.slow
@pytest.mark.parametrize("fused", [1, 16])
def test_a_mapped_layer_computes_the_layer(fused: int) -> None:
    """All tiles of keys are visited: the walker has a place for each step of a state, those left out included."""
    of = problem(LLAMA_LAYER, SIZES)
    groups, _ = search(of, edge(), fused)
    assert groups is not None
    assert len(groups) < 28 or fused == 1  # 30 Einsums; SPD, RD and SPNV, RNV need each other's earlier values
    random = np.random.default_rng(4)
    inputs = {name: random.normal(size=[SIZES[rank] for rank in RANKS[name]]) for name in LLAMA_LAYER.inputs}
    execution = Execution(of, inputs)
    execution.groups(groups)
    expected = evaluate(LLAMA_LAYER, inputs, {"M0": SIZES["M0"]})["Z"]
    np.testing.assert_allclose(execution.arrays["Z"], expected, rtol=1e-9)


@pytest.mark.slow
def test_fusing_is_no_slower_and_moves_less() -> None:
    fused, alone = layer(16), layer(1)
    assert len(fused.groups) < len(alone.groups)
    assert fused.cost() <= alone.cost()
    assert fused.dram_bytes < alone.dram_bytes


@pytest.mark.slow
def test_the_text_of_a_mapped_layer_reads_back() -> None:
    text = str(described("mine", layer(16).groups))
    read = given(parse_mapping(text), LLAMA_LAYER, EXTENTS, edge())
    assert (read.cycles, read.dram_bytes) == (layer(16).cycles, layer(16).dram_bytes)


def test_keys_of_all_tokens_are_made_before_queries_attend_them() -> None:
    """K is made token by token, and read key by key: the loop over tokens cannot be shared."""
    of = problem(LLAMA_LAYER, SIZES)
    places = {work.name: place for place, work in enumerate(of.work)}
    members = tuple(range(places["K"], places["QK"] + 1))
    assert len(members) == 2
    spaces = {place: ("array_2d", (), tuple(sorted(of.work[place].axes))) for place in members}
    draft = Draft(of, edge(), members, (BoundLoop("p1", "p", 4, 8),), spaces, {}, {})
    assert list(illegal(draft)) == ["QK reads K before its loop over p has ended"]
    shared = [draft.axes for draft in Neighbours(of, edge(), members).drafts()]
    assert shared
    assert not any("p" in axes for axes in shared)


def exhaustive(
    of: MappingProblem, spec: SpatialArray, members: tuple[int, ...], objective: Objective
) -> BoundGroup | None:
    """The best of all drafts, none of them left out for a bound."""
    found = list(every_group(of, spec, members, objective=objective))
    return min(found, key=lambda group: cost(group, objective), default=None)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["latency", "dram", "energy"])
@pytest.mark.parametrize(("name", "sizes"), [
    ("llama-layer", SIZES),
    ("attention-3pass-causal", {"H": 2, "P": 9, "M": 9, "E": 5, "F": 3}),
    ("attention-1pass", {"H": 1, "P": 7, "M": 11, "M0": 4, "E": 3, "F": 5}),
    ("mamba-2-ssd", None),
])  # fmt: skip
def test_bounds_leave_out_nothing_that_is_better(name: str, sizes: dict[str, int] | None, objective: Objective) -> None:
    text = find(name)
    sizes = sizes or {rank.upper(): 4 for rank in text.ranks} | {"G": 1}
    of, spec = problem(text, sizes), edge()
    for start in range(0, len(of.work), 2):
        for end in (start + 1, min(start + 3, len(of.work))):
            members = tuple(range(start, end))
            best = best_group(of, spec, members, objective).group
            expected = exhaustive(of, spec, members, objective)
            if len(members) == 1:  # tries more sizes
                assert expected is None or best is not None
            else:
                assert (best is None) == (expected is None)
            if best is None or expected is None:
                continue
            assert cost(best, objective) <= cost(expected, objective)
            assert len(members) == 1 or cost(best, objective) == cost(expected, objective)
            assert least_cost(of, spec, members, objective) <= cost(best, objective)
            nothing = best_group(of, spec, members, objective, below=cost(best, objective)).group
            assert nothing is None
            assert cost(best, objective) < NO_LIMIT


def test_what_is_taken_over_from_a_group_of_more_open_tiles_is_the_same() -> None:
    """With few registers more open tiles put more of what is made into the buffer."""
    of = problem(find("attention-1pass"), {"H": 1, "P": 7, "M": 12, "M0": 4, "E": 3, "F": 5})
    spec = edge(**{"pe_array.register_words_per_pe": 2, "vector_array.register_words_per_lane": 6})
    places, members = set(), tuple(range(len(of.work)))
    for draft in Neighbours(of, spec, members).drafts():
        first = bound(draft.overlapped(8))
        assert first.bound_cycles >= first.busiest_cycles
        for tiles in (4, 2, 1):
            group, again = bound(draft.overlapped(tiles)), bound(draft.overlapped(tiles)).like(first)
            assert (group.bound_cycles, group.port_cycles) == (again.bound_cycles, again.port_cycles)
            places.add(tuple(made.where for made in group.made) == tuple(made.where for made in first.made))
    assert places == {True, False}


def test_an_array_of_another_technology_has_no_energy() -> None:
    """Prices are of 45 nm."""
    priced, unpriced = (searched(find("attention-3pass"), (("h", 1), ("p", 8), ("m", 8), ("e", 4), ("f", 4)), spec)
                        for spec in (edge(), edge(technology_nm=7)))  # fmt: skip
    assert priced.energy_j is not None
    assert unpriced.energy_j is None
    assert priced.cycles == unpriced.cycles
    assert load("tpu-v4i-like").area_um2() is None


def test_an_array_like_tpu_v4i_has_its_published_peaks() -> None:
    """ISCA'21, table 1: 138 Tera-operations of bf16 each second, 128 MiB, 614 GB/s."""
    spec = load("tpu-v4i-like").spec
    assert 2 * spec.pe_array.elements * spec.clock_hz == pytest.approx(138e12, rel=0.01)
    assert spec.global_buffer.capacity_bytes == 128 * 2**20
    assert spec.dram.bandwidth_bytes_per_s == 614e9


def test_what_was_counted_on_one_array_is_not_taken_for_another() -> None:
    """An exponential of 16 cycles instead of one: the groups of one cascade keep what they count with the cascade."""
    of, members = problem(find("attention-3pass"), {"H": 1, "P": 8, "M": 8, "E": 4, "F": 4}), (2,)
    once, slower = (next(group for group in every_group(of, edge(**{"vector_array.operations.exp": cycles}), members)
                         if group.runs[0].unit == "array_1d") for cycles in (1, 16))  # fmt: skip
    assert [run.work.name for run in slower.runs] == ["SN"]
    assert once.cycles(once.runs[0]) < slower.cycles(slower.runs[0])
