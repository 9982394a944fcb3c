"""More hardware is never slower, more work is never faster: FLAT, unfused, linear and element-wise work.

Random pairs of designs or sizes, of which one is larger: log-uniform in every size, so that arrays, buffers and
extents meet in all proportions. Seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import exp, log
from random import Random

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.flat.accelerator import Flat
from cascadesim.accelerators.mapping.mapper.costs import cost
from cascadesim.accelerators.mapping.plan import searched
from cascadesim.accelerators.protocol import Phase, Plan, problems
from cascadesim.einsum_cascades.models.operation import Operation, OperationKind
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

DESIGN = ("rows", "columns", "lanes", "capacity", "ports", "bandwidth", "clock")
ELEMENTWISE = ("layer-norm", "rms-norm", "gelu", "gated-silu", "rotary", "residual-add", "softmax-router", "scaled-add")
MASKS: tuple[Mask, ...] = (FULL, FULL, KeyInterval(True), KeyInterval(True, window=7), KeyInterval(True, window=300))
Design = Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """The same but for `what`, which the second has more of."""

    what: str
    designs: tuple[Design, Design]
    operations: tuple[Operation, Operation]
    fusion: str

    def plans(self) -> tuple[Plan, Plan]:
        first, second = (
            machine(design, self.fusion).plan(operation, "physical")
            for design, operation in zip(self.designs, self.operations, strict=True)
        )
        return first, second

    @property
    def is_searched(self) -> bool:
        return self.operations[0].kind != "attention"

    @property
    def more_hardware(self) -> bool:
        return self.what in DESIGN


def machine(design: Design, fusion: str = "row") -> Flat:
    settings = {
        "pe_array.rows": "rows", "pe_array.columns": "columns", "vector_array.lanes": "lanes",
        "global_buffer.capacity_bytes": "capacity", "global_buffer.ports": "ports", "global_buffer.row_bytes": "row",
        "dram.bandwidth_bytes_per_s": "bandwidth", "clock_hz": "clock",
    }  # fmt: skip
    values = {**design, "row": min(512, int(design["capacity"]))}
    changes = [f"{field}={values[name]}" for field, name in settings.items()]
    return load("flat" if fusion == "row" else "unfused", changes)  # type: ignore[return-value]


def size(random: Random, most: int, least: int = 1) -> int:
    return max(least, round(exp(random.uniform(log(least), log(most)))))


def pairs(family: str, seed: int, count: int, longest: int = 3000) -> Iterator[Pair]:
    random = Random(seed)
    for _ in range(count):
        yield _pair(family, random, longest)


def _pair(family: str, random: Random, longest: int) -> Pair:
    design: dict[str, float] = {
        "rows": size(random, 512), "columns": size(random, 512), "lanes": size(random, 512),
        "capacity": size(random, 2**23, 8192), "ports": size(random, 8),
        "bandwidth": 10 ** random.uniform(8, 12.5), "clock": 10 ** random.uniform(7, 10),
    }  # fmt: skip
    make, extents = _SIZES[family](random, longest)
    what = random.choice([*DESIGN, *extents])
    larger = {**design, what: _more(random, design[what])} if what in DESIGN else design
    longer = extents if what in DESIGN else _longer(random, extents, what)
    return Pair(what, (design, larger), (make(extents), make(longer)), "none" if family == "unfused" else "row")


def _more(random: Random, value: float) -> float:
    if isinstance(value, float):
        return value * random.choice([1.01, 1.5, 4])
    return value + random.choice([1, random.randint(1, int(value)), value, 3 * value])


def _longer(random: Random, extents: Mapping[str, int], what: str) -> dict[str, int]:
    more = int(_more(random, extents[what]))
    together = ("m", "p") if what in ("m", "p") and extents["m"] == extents["p"] else (what,)
    return {**extents, **dict.fromkeys(together, more)}


Make = Callable[[Mapping[str, int]], Operation]


def _attention(random: Random, longest: int) -> tuple[Make, dict[str, int]]:
    group, keys, mask = random.choice([1, 1, 2, 8]), size(random, longest), random.choice(MASKS)
    queries = keys if mask != FULL or random.random() < 0.7 else random.choice([1, 7])
    text = find(random.choice(["attention-3pass", "attention-3pass", "attention-3pass-deferred"]))
    sizes = {"b": size(random, 16), "heads": size(random, 8), "m": keys, "p": queries}
    depths = {"e": random.choice([8, 64, 80, 128]), "f": random.choice([8, 64, 96, 128])}

    def make(extents: Mapping[str, int]) -> Operation:
        bound = {"b": extents["b"], "h": group * extents["heads"], "g": group, "m": extents["m"], "p": extents["p"]}
        return Operation("attention", "attention", text, tuple((bound | depths).items()), mask=mask)

    return make, sizes


def _linear(random: Random, longest: int) -> tuple[Make, dict[str, int]]:
    sizes = {rank: size(random, longest) for rank in "rkn"} | {"x": random.choice([1, 1, 1, 3, 64])}
    return _maker("linear", "linear"), sizes


def _elementwise(random: Random, longest: int) -> tuple[Make, dict[str, int]]:
    return _maker(random.choice(ELEMENTWISE), "elementwise"), {rank: size(random, longest) for rank in "rd"}


def _maker(text: str, kind: OperationKind) -> Make:
    return lambda extents: Operation(text, kind, find(text), tuple(extents.items()))


_SIZES: Mapping[str, Callable[[Random, int], tuple[Make, dict[str, int]]]] = {
    "flat": _attention, "unfused": _attention, "linear": _linear, "elementwise": _elementwise,
}  # fmt: skip


def closed_form_cycles(plan: Plan) -> float:
    return sum(phase.analytical_cycles for phase in plan.phases)


def check_closed_form(pair: Pair) -> None:
    """Never slower with more hardware, never faster with more work, but for a cycle; and a plan without problems.

    A search compares more than a closed form shows, what the first tile takes by itself and what arrays wait for: the
    closed form of a larger design is below what was compared of the smaller one.
    """
    plans = pair.plans()
    for plan, design in zip(plans, pair.designs, strict=True):
        assert not list(problems(plan, machine(design, pair.fusion))), pair
    slow, fast = _in_order(pair, [closed_form_cycles(plan) for plan in plans])
    cycle_s = max(1 / design["clock"] for design in pair.designs)
    if pair.is_searched:
        designs = zip(pair.designs, pair.operations, strict=True)
        slow, _ = _in_order(pair, [compared_cycles(*each, pair.fusion) for each in designs])
    assert fast <= slow * (1 + 1e-9) + cycle_s, pair


def compared_cycles(design: Design, operation: Operation, fusion: str) -> float:
    """What a search compares, all instances together."""
    found = searched(operation.cascade, operation.extents, machine(design, fusion).spec)
    return sum(group.problem.instances * cost(group)[0] for group in found.groups)


def check_cycle_level(pair: Pair) -> None:
    """The same within 1 % or what one step takes from its first load to its last store."""
    plans = pair.plans()
    runs = [[(run(_program(phase)()).cycles, _depth(phase)) for phase in plan.phases] for plan in plans]
    for plan, parts in zip(plans, runs, strict=True):
        for phase, (cycles, _) in zip(plan.phases, parts, strict=True):
            assert cycles >= phase.analytical_cycles * (1 - 1e-12), pair
    slow, fast = _in_order(pair, [sum(cycles for cycles, _ in parts) for parts in runs])
    cycle_s = max(1 / design["clock"] for design in pair.designs)
    depth_s = cycle_s * max(sum(depth for _, depth in parts) for parts in runs)
    assert fast <= slow + max(0.01 * slow, depth_s), pair


def _program(phase: Phase):  # type: ignore[no-untyped-def]
    assert phase.program is not None
    return phase.program


def _depth(phase: Phase) -> int:
    """Every task of the longest step one after another, with what results take to leave an array."""
    program = _program(phase)()
    longest = max(sum(cycles) for cycles in program.tile_classes)
    return int(longest + sum(edge.lag_cycles for task in program.tasks for edge in task.after))


def _in_order(pair: Pair, cycles: list[float]) -> tuple[float, float]:
    """Seconds of the one that may be slower, and of the other."""
    first, second = (count / design["clock"] for count, design in zip(cycles, pair.designs, strict=True))
    return (first, second) if pair.more_hardware else (second, first)


def test_under_a_mask_a_larger_array_has_the_query_tiles_of_a_smaller_one() -> None:
    """181 causal rows meet fewer tiles of 8 keys in tiles of 28 rows than of 29, though 7 tiles it is for both."""
    design = {"columns": 8, "lanes": 29, "capacity": 1_446_456, "ports": 2, "bandwidth": 4.2e10, "clock": 8e8}
    extents = {"b": 3, "h": 3, "g": 1, "m": 181, "p": 181, "e": 8, "f": 64}
    work = Operation("attention", "attention", find("attention-3pass"), tuple(extents.items()), mask=KeyInterval(True))
    check_closed_form(Pair("rows", ({**design, "rows": 28}, {**design, "rows": 29}), (work, work), "none"))


@pytest.mark.slow
def test_what_transfers_lose_in_whole_cycles_counts() -> None:
    """Tiles of 13 x 13 words at 6.24 bytes a cycle: 54.2 cycles each, that take 55; whole columns lose nothing."""
    design = {"rows": 6, "lanes": 13, "capacity": 24_212, "ports": 3, "bandwidth": 6_006_882_891, "clock": 962_672_497}
    work = Operation("rotary", "elementwise", find("rotary"), (("r", 786), ("d", 2263)))
    check_cycle_level(Pair("columns", ({**design, "columns": 1}, {**design, "columns": 4}), (work, work), "row"))


# family -> pairs in the normal run: what takes about two seconds of CPU
OFTEN = {"linear": 24, "elementwise": 40, "unfused": 60, "flat": 16}
NIGHTLY = 2000
every_family = pytest.mark.parametrize("family", sorted(OFTEN))


@pytest.mark.slow
@every_family
def test_the_closed_form_is_monotone(family: str) -> None:
    for pair in pairs(family, seed=1, count=OFTEN[family], longest=600 if family == "flat" else 3000):
        check_closed_form(pair)


@pytest.mark.slow
@every_family
def test_the_cycle_level_is_monotone_within_one_percent(family: str) -> None:
    for pair in pairs(family, seed=2, count=20 if family != "flat" else 10, longest=400):
        check_cycle_level(pair)


@pytest.mark.nightly
@every_family
def test_the_closed_form_is_monotone_for_two_thousand_pairs(family: str) -> None:
    for pair in pairs(family, seed=3, count=NIGHTLY):
        check_closed_form(pair)


@pytest.mark.nightly
@every_family
def test_the_cycle_level_is_monotone_for_two_hundred_pairs(family: str) -> None:
    for pair in pairs(family, seed=4, count=200):
        check_cycle_level(pair)
