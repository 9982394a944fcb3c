"""The front of a search: what brute force over all ways finds, no worse than any single search, each one a mapping."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from cascadesim.accelerators.mapping import plan as mapped_plans
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.search import every_group
from cascadesim.accelerators.mapping.nest import MOST_FUSED
from cascadesim.accelerators.mapping.plan import Mapped, searched, sized_problems
from cascadesim.accelerators.mapping.text import parse_mapping
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.mapper import find_mapping_of, load, operation_of
from cascadesim.simulator.pareto import Figures, Tradeoffs, Ways, each_once, figures_of, joined, tradeoffs
from cascadesim.simulator.views.front_plot import figure_of, together

PRODUCT_RELU = cascade("product-relu", """
    T[r,n] = A[r,k] * W[k,n]
    Y[r,n] = max(T[r,n], 0)
""")
Costs = tuple[float, float, float]


def array() -> SpatialArray:
    return load("edge-array").spec  # type: ignore[attr-defined,no-any-return]


def found_for(operation: Operation) -> tuple[Tradeoffs, list[Mapped]]:
    known = [searched(operation.cascade, operation.extents, array(), objective=each)
             for each in ("latency", "energy", "dram")]  # fmt: skip
    return tradeoffs(operation, array(), known), known


def costs(figures: Figures) -> Costs:
    assert figures.energy_j is not None
    return figures.cycles, figures.energy_j, figures.dram_bytes


def beats(one: Costs, other: Costs) -> bool:
    return one != other and all(own <= its for own, its in zip(one, other, strict=True))


def every_way(operation: Operation) -> list[Costs]:
    """Figures of every mapping of groups that a search looks at: all cuts of the text, all groups of each part."""
    found = []
    for problem, _ in sized_problems(operation.cascade, operation.extents, array()):
        count = len(problem.work)
        for cuts in product((False, True), repeat=count - 1):
            ends = [place for place, cut in enumerate((*cuts, True), 1) if cut]
            parts = list(zip((0, *ends[:-1]), ends, strict=True))
            groups = [list(every_group(problem, array(), tuple(range(*part)))) for part in parts]
            found += [costs(figures_of(Mapped("any", way, {}, 1))) for way in product(*groups)]
    return found


def nearly(point: Costs) -> Costs:
    """Sums of joules in another order differ in the last digits."""
    cycles, joules, size = point
    return cycles, float(f"{joules:.9e}"), size


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(st.sampled_from([16, 40, 64, 100]), st.sampled_from([8, 32, 96]), st.sampled_from([16, 33, 128]))
def test_nothing_that_is_looked_at_beats_the_front(rows: int, depth: int, columns: int) -> None:
    """All ways of fusing and tiling two Einsums on tiles of the array's sides, by brute force."""
    operation = Operation("y", "linear", PRODUCT_RELU, (("r", rows), ("k", depth), ("n", columns)))
    found, _ = found_for(operation)
    front = {nearly(costs(figures_of(each))) for each in found.front}
    ways = {nearly(each) for each in every_way(operation)}
    assert not any(beats(way, point) for way in ways for point in front)
    best = {way for way in ways if not any(beats(other, way) for other in ways)}
    unseen = {way for way in best if way not in front and not any(beats(point, way) for point in front)}
    assert unseen == set()


@pytest.mark.slow
def test_the_front_has_the_best_of_every_single_objective() -> None:
    operation = operation_of("attention-2pass", "bert", 512, 1, {})
    found, known = found_for(operation)
    for objective in range(3):
        least = min(costs(figures_of(each))[objective] for each in found.front)
        assert least <= min(costs(figures_of(each))[objective] for each in known)
    points = [costs(figures_of(each)) for each in found.front]
    assert len(points) > 1
    assert not any(beats(one, other) for one in points for other in points)
    assert [point[0] for point in points] == sorted(point[0] for point in points)
    assert all(any(beats(point, costs(each)) for point in points) for each in found.beaten)
    assert len(found.beaten) > 10


@pytest.mark.slow
def test_each_mapping_of_the_front_is_read_again_with_the_same_figures() -> None:
    operation = operation_of("attention-2pass", "bert", 512, 1, {})
    for each in found_for(operation)[0].front:
        text = str(described(each.name, each.groups))
        again = mapped_plans.given(parse_mapping(text), operation.cascade, operation.extents, array())
        assert figures_of(again) == figures_of(each)


def test_ways_through_two_parts_have_the_figures_of_their_groups() -> None:
    """Two ways through the first Einsum, three through the second: each of the six is joined of its own two groups."""
    operation = Operation("y", "linear", PRODUCT_RELU, (("r", 64), ("k", 32), ("n", 48)))
    (bound, _), *_ = sized_problems(operation.cascade, operation.extents, array())
    parts = [list(every_group(bound, array(), (place,)))[:count] for place, count in ((0, 2), (1, 3))]
    tables = [np.array([[1.0, 20.0, 3.0], [2.0, 10.0, 3.0]]),
              np.array([[100.0, 900.0, 0.0], [300.0, 200.0, 0.0], [200.0, 400.0, 0.0]])]  # fmt: skip
    ways = {(place, place + 1): Ways([(group,) for group in groups], table)
            for place, (groups, table) in enumerate(zip(parts, tables, strict=True))}  # fmt: skip
    found, compared = joined(ways, 2)
    assert len(compared) == len(found.paths) == 6
    for path, total in zip(found.paths, found.costs, strict=True):
        first, second = (groups.index(group) for groups, group in zip(parts, path, strict=True))
        assert list(total) == list(tables[0][first] + tables[1][second])


def test_points_that_differ_by_the_order_of_a_sum_are_one() -> None:
    """Python adds floats with a correction from 3.12 on: what is a point must not depend on it."""
    tenths = sum([0.1] * 10, 0.0)
    points = np.array([[100.0, 1.0 - 2**-53, 4.0], [100.0, 1.0, 4.0], [100.0, tenths, 4.0], [101.0, 1.0, 4.0],
                       [100.0, 10.0, 4.0], [100.0, 1.0 + 1e-7, 4.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # fmt: skip
    assert sorted(each_once(points)[:, 0].tolist()) == [0.0, 100.0, 100.0, 100.0, 101.0]


@pytest.mark.slow
def test_parts_that_may_not_be_fused_are_not() -> None:
    assert MOST_FUSED < 18
    long = "\n".join(f"T{number + 1}[i] = max(T{number}[i], 0)" for number in range(MOST_FUSED + 1))
    found, _ = found_for(Operation("long", "linear", cascade("long", long), (("i", 64),)))
    assert all(len(each.groups) > 1 for each in found.front)


@pytest.mark.slow
def test_the_machines_own_plan_is_marked_with_its_own_figures() -> None:
    """FLAT, BERT at 1K, two sequences: GM, SN, SD and A of 24 heads, 1,024 x 1,024 scores each, on 256 lanes."""
    found = find_mapping_of(operation_of("attention-3pass", "bert", 1024, 2, {}), load("flat"), "pareto")
    assert found.own is not None
    own, level = found.own
    assert own.cycles == 24 * 4 * 1024 * 1024 // 256
    assert own.dram_bytes == 24 * 4 * 1024 * 64 * 2
    assert level > own.cycles
    panel = figure_of(found).axes[0]
    (mark,) = (line for line in panel.lines if line.get_label() == "the machine's own plan")
    assert list(mark.get_xdata()) == [own.cycles / 1e6]  # type: ignore[arg-type]
    (front,) = (line for line in panel.lines if str(line.get_label()).startswith("not beaten"))
    assert list(front.get_xdata()) == [mapped.cycles / 1e6 for mapped, _ in found.front]  # type: ignore[arg-type]


def test_points_that_lie_together_share_a_label() -> None:
    axes = Figure().subplots()
    axes.set(xlim=(0, 100), ylim=(0, 100))
    assert together(axes, [(10, 10), (11, 11), (50, 10)]) == {(10, 10): ["1", "2"], (50, 10): ["3"]}


UNPRICED = "Y[i] = log(X[i])\nZ[i] = Y[i] + X[i]\n"


@pytest.fixture
def with_logarithms(tmp_path: Path) -> tuple[str, str]:
    """An array that has an operation without a sourced price, and a cascade that needs it."""
    from importlib.resources import files

    text = (files("cascadesim.accelerators.mapped_array") / "presets" / "edge-array.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("    exp: 1\n", "    exp: 1\n    log: 2\n"), encoding="utf-8")
    (tmp_path / "mine.cascade").write_text(UNPRICED, encoding="utf-8")
    return str(tmp_path / "mine.cascade"), str(tmp_path / "mine.yaml")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert exit_code(cascadesim, "cascadesim", ("map", *arguments, "--objective", "pareto")) == 0
    printed = capsys.readouterr()
    picture = [word for word in arguments if word.endswith(".svg")]
    assert printed.err == "".join(f"wrote {name} (2 panels)\n" for name in picture)  # traffic and energy
    return printed.out


def test_without_a_price_energy_is_no_axis(
    with_logarithms: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text, arch = with_logarithms
    out = run(capsys, text, "--arch", arch, "--set", "i=4096")
    assert "beats in cycles and DRAM traffic" in out
    assert "energy is left out: an operation has no sourced price" in out
    found = json.loads(run(capsys, text, "--arch", arch, "--set", "i=4096", "--format", "json"))
    assert found["energy_j"] is None
    picture = figure_of(find_mapping_of(operation_of(text, "bert", None, None, {"i": 4096}), load(arch), "pareto"))
    assert len(picture.axes) == 1


@pytest.mark.slow
def test_the_command_prints_the_front_and_writes_its_fastest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    written, picture = tmp_path / "best.mapping", tmp_path / "front.svg"
    arguments = ("attention-1pass", "--arch", "fusemax", "--seq-len", "1K", "--batch", "2")
    found = json.loads(run(capsys, *arguments, "--format", "json", "--output", str(written), "--plot", str(picture)))
    assert found["objective"] == "pareto"
    assert (found["lower_bound"], found["optimal"]) == (None, False)
    assert found["cycle_level_cycles"] == min(each["cycle_level_cycles"] for each in found["front"])
    assert all(each["cycles"] <= each["cycle_level_cycles"] for each in found["front"])
    assert written.read_text(encoding="utf-8") == found["mapping"]
    svg = picture.read_text(encoding="utf-8")
    assert "the machine's own plan" in svg
    assert f"{len(found['front'])} mappings that no other one beats" in svg
    out = run(capsys, *arguments)
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines[3:4 + len(found["front"])]] == [
        *(str(number) for number in range(1, len(found["front"]) + 1)), "published"]
    assert lines[3][1] == f"{found['front'][0]['cycles']:,.0f}"
    assert out.endswith(found["mapping"])
