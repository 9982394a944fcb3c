"""Closed forms of mappings over arrays of sizes, beside one mapping after another."""

from __future__ import annotations

from time import perf_counter

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.mapper.single import ways
from cascadesim.accelerators.mapping.placing import bound
from cascadesim.accelerators.mapping.plan import sized_problems
from cascadesim.einsum_cascades.texts import find


def test_a_closed_form_of_many_mappings_at_once_is_a_hundred_times_as_fast_as_of_each() -> None:
    """Of a product of 4,096 a side on an edge array: all orders, 19 sizes a side; one to four million a second."""
    spec = load("edge-array").spec  # type: ignore[attr-defined]
    whole, _ = next(sized_problems(find("linear"), (("r", 4096), ("k", 4096), ("n", 4096), ("x", 1)), spec))
    found = list(ways(whole, spec, 0, overlapped=True))
    begin = perf_counter()
    count = sum(way.bound_cycles.size for way in found)
    at_once_s = (perf_counter() - begin) / count
    drafts = [way.take(way.leaf[way.order[0]].argsort()[:1]).draft().overlapped(2) for way in found]
    begin = perf_counter()
    assert all(bound(draft).bound_cycles > 0 for draft in drafts)
    each_s = (perf_counter() - begin) / len(drafts)
    assert count > 300_000
    assert each_s > 100 * at_once_s
