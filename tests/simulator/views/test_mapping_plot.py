"""The picture of a mapping: loops in each other, tensors where they stay, bars where the schedule has tasks."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.plan import given
from cascadesim.accelerators.mapping.text import find_mapping, parse_mapping
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.execution import schedule_of
from cascadesim.simulator.mapper import load, operation_of
from cascadesim.simulator.request import Request, load_any_workload
from cascadesim.simulator.views.mapping_plot import MappedRun, draw, figure_of, mapped_runs
from cascadesim.simulator.views.nest_plot import LINE_HEIGHT, NestPicture, kept, kept_in_slices, nest, text_width, trips
from cascadesim.simulator.views.plot_style import DARK
from cascadesim.simulator.views.schedule_charts import FARTHEST_TILE, charts, name_of, row_of

TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
FILL = re.compile(r"fill: (#[0-9a-f]{6})")


def mapped(name: str, arch: str, length: int = 1024, *changed: str) -> MappedRun:
    mapping, machine = find_mapping(name), load(arch)
    mapping = parse_mapping(str(mapping).replace(*changed)) if changed else mapping
    operation = operation_of(mapping.cascade, "bert", length, None, {})
    return MappedRun(arch, machine.with_mapping(mapping).plan(operation, "physical"), machine.clock_hz)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def fusemax() -> MappedRun:
    return mapped("fusemax", "fusemax")


def laid_out(run: MappedRun, width: float = 4.3) -> NestPicture:
    (text,) = described("", run.groups).groups
    return nest(run.groups[0], text, width, {"array_2d": "#d7e7f5", "array_1d": "#fbe3d4"})


def test_loops_are_boxes_in_each_other_with_their_trips(fusemax: MappedRun) -> None:
    """BERT at 1K: 64 sequences, 12 heads, 1,024 keys and queries in tiles of 256."""
    (group,) = fusemax.groups
    assert [trips(group, depth) for depth in range(5)] == [
        "  one after another", "  12 trips", "  1 trip of 1,024 p", "  4 trips of 256 m", "  4 trips of 256 p"]
    boxes = sorted((box for box in laid_out(fusemax).boxes if box.depth < 5), key=lambda box: box.depth)
    assert len(boxes) == 5
    for outer, inner in pairwise(boxes):
        assert outer.left < inner.left < inner.right < outer.right
        assert outer.top < inner.top < inner.bottom < outer.bottom


def test_a_loop_that_does_not_come_out_even_says_how_much_is_left() -> None:
    (group,) = mapped("fusemax", "fusemax", 600).groups
    assert "  3 trips of 256 m, the last of 88" in {trips(group, depth) for depth in range(5)}


def test_tensors_stand_at_the_loop_at_which_they_are_kept(fusemax: MappedRun) -> None:
    """Of two bytes a word: Q has 1,024 queries of depth 64 (128 KiB), which come in pieces, a tile of K 256 keys
    (32 KiB), in three copies because the pipeline is longer than the four tiles that share one; running values stay
    outside of the keys' loop."""
    (group,) = fusemax.groups
    assert kept(group, 2) == {"global_buffer": ["Q 128 KiB in pieces"],
                              "global_buffer, running": ["RM 2 KiB ×2", "RD 2 KiB ×2", "RNV 128 KiB ×2"]}
    assert kept(group, 3) == {"global_buffer": ["K 32 KiB ×3", "V 32 KiB ×3"]}
    assert set(kept(group, 4)) == {"registers", "straight to the reader", "straight to DRAM"}
    assert kept(group, 4)["straight to DRAM"] == ["AV"]


def test_memories_behind_the_buffer_stand_where_they_keep_something() -> None:
    """Two products of 64 x 64 words of two bytes: a result rests in `shared` between them, 8 KiB; all of W stays there
    for all tiles of rows, 16 at a time."""
    machine = load("edge-array", [f"memories.shared.{field}" for field in (
        "capacity_bytes=1048576", "row_bytes=64", "ports=1")])  # fmt: skip
    text = cascade("two-products", "Y[r,n] = A[r,k] * W[k,n]\nZ[r,j] = Y[r,n] * U[n,j]")
    mapping = parse_mapping("""mapping mine for two-products
keep Y in shared
for r1, n1:
  split r: r1 by 16, r0
  split n: n1 by 16, n0
  array_2d [r0 over rows, n0 over columns]: Y for k
  keep W in shared at r1
for top:
  array_2d [r over rows, j over columns]: Z for n
""")
    sizes = tuple((rank, 64) for rank in "rnkj")
    first, second = given(mapping, text, sizes, machine.spec).groups  # type: ignore[attr-defined]
    assert kept(first, 0) == {"stays in shared": ["Y 8 KiB"]}
    assert kept(first, 1) == {"shared": ["W 8 KiB"], "global_buffer": ["A 2 KiB"]}
    assert kept(first, 2) == {"global_buffer": ["W 2 KiB"], "straight to shared": ["Y"]}
    assert kept(second, 0)["straight to DRAM"] == ["Z"]


def test_every_tensor_is_somewhere_exactly_once(fusemax: MappedRun) -> None:
    names = "flat", "flat-streamed", "flat-spilled", "flat-slices"
    for run in (fusemax, *(mapped(name, "flat") for name in names)):
        (group,) = run.groups
        where = [*(kept(group, depth) for depth in range(len(group.loops) + 1)),
                 *(kept_in_slices(group, [each.work.name]) for each in group.runs)]  # fmt: skip
        items = [item for each in where for items in each.values() for item in items]
        places = [re.sub(r" [\d.,]+ [KM]?i?B.*", "", item) for item in items]
        assert sorted(places) == sorted(each.tensor for each in (*group.reads, *group.made))


def test_what_passes_by_in_slices_stands_with_its_only_reader() -> None:
    """256 keys of depth 64 in words of 2 bytes are 32 KiB; the next slice is loaded meanwhile."""
    (group,) = mapped("flat-streamed", "flat").groups
    assert kept_in_slices(group, ["QK", "GM"]) == {"global_buffer at m1": ["K 32 KiB ×2"]}
    assert kept_in_slices(group, ["GM", "SN"]) == {}


def test_einsums_stand_in_boxes_of_their_unit(fusemax: MappedRun) -> None:
    """What comes after the loop of the keys is outside of its box, in that of the queries."""
    found = laid_out(fusemax)
    where = {words.text: words for words in found.words}
    blue, *orange = (box for box in found.boxes if box.depth == 5)
    assert {blue.fill, *(box.fill for box in orange)} == {"#d7e7f5", "#fbe3d4"}
    assert blue.top < where["QK for e; LM; SLN; SLD; SLNV for f"].top < blue.bottom
    keys = next(box for box in found.boxes if box.depth == 3)
    queries = next(box for box in found.boxes if box.depth == 2)
    assert keys.bottom < where["AV for f"].top < queries.bottom


@pytest.mark.parametrize(("name", "arch"), [
    ("fusemax", "fusemax"), ("flat", "flat"), ("flat-streamed", "flat"), ("flat-slices", "flat")])  # fmt: skip
def test_no_words_leave_their_box_or_lie_on_others(name: str, arch: str) -> None:
    found = laid_out(mapped(name, arch))
    for words in found.words:
        inside = [box for box in found.boxes if box.top <= words.top < box.bottom and box.left <= words.left]
        assert words.left + text_width(words.text, words.bold) <= min(box.right for box in inside)
    lines: dict[float, list[tuple[float, float]]] = {}
    for words in found.words:
        begin = round(words.top, 3)
        lines.setdefault(begin, []).append((words.left, words.left + text_width(words.text, words.bold)))
    for spans in lines.values():
        ordered = sorted(spans)
        assert all(one[1] <= other[0] + 1e-9 for one, other in pairwise(ordered))
    tops = sorted(lines)
    assert all(other - one >= LINE_HEIGHT - 1e-3 for one, other in pairwise(tops))


def test_bars_are_the_tasks_of_the_schedule(fusemax: MappedRun) -> None:
    """A tile is 64 cycles of QK, 1 of LM, 7 of SLN, 1 of SLD, 64 of SLNV; keys come for four tiles at once."""
    (first, *_), (phase,) = charts(schedule_of(fusemax.plan, fusemax.plan.phases[0])), fusemax.plan.phases
    tile = {name_of(piece): piece.finish - piece.start for piece in first.slices
            if piece.tile == 1 and piece.unit == "array_2d"}
    assert tile == {"QK": 64, "LM": 1, "SLN": 7, "SLD": 1, "SLNV": 64}
    loads = {piece.tile for piece in first.slices if row_of(piece) == "dram loads" and name_of(piece) == "K"}
    assert {tile % 4 for tile in loads} == {0}
    assert {row_of(piece) for piece in first.slices} == {
        "dram loads", "dram stores", "global_buffer", "array_2d", "array_1d"}
    assert phase.traffic.total_bytes == fusemax.plan.traffic.total_bytes


def test_a_steady_state_that_begins_later_has_a_chart_of_its_own(fusemax: MappedRun) -> None:
    schedule = schedule_of(fusemax.plan, fusemax.plan.phases[0])
    first, second = charts(schedule)
    assert schedule.steady is not None
    assert first.steady is None
    assert second.steady == (second.start, second.end)
    assert second.end - second.start <= schedule.steady.cycles
    begun = [piece.start for piece in second.slices if piece.tile >= schedule.steady.first_tile]
    assert second.start == min(begun)
    older = [piece for piece in second.slices if piece.tile < schedule.steady.first_tile]
    assert max(piece.finish for piece in older) > second.start  # tiles under way are drawn, too
    far = replace(schedule, steady=replace(schedule.steady, first_tile=FARTHEST_TILE + 1))
    (only,) = charts(far)
    assert "steady from tile 4,097" in only.remark


@pytest.mark.parametrize(("name", "arch", "length"), [("fusemax", "fusemax", 65536), ("flat", "flat", 1024)])
def test_titles_of_a_chart_stand_side_by_side(name: str, arch: str, length: int) -> None:
    run = mapped(name, arch, length)
    for axes in figure_of([run]).axes[1:]:
        inches = axes.get_position().width * 10
        title = axes.get_title(loc="left"), axes.get_title(loc="right")
        assert sum(text_width(part, False) for part in title) < inches - 0.1
    assert sum(text_width(part, False) for part in ("part of a period",
               "steady from tile 4,096: 1,234,567 cycles every 1,024 tiles")) < inches  # fmt: skip


def test_a_long_first_load_does_not_push_the_tiles_aside() -> None:
    """8,192 queries come whole in more than 2,000 cycles; the chart begins shortly before the first scores."""
    run = mapped("fusemax", "fusemax", 65536, " by p1\n", " double\n")
    first = charts(schedule_of(run.plan, run.plan.phases[0]))[0]
    scores = min(piece.start for piece in first.slices if piece.unit == "array_2d")
    assert scores > 2000
    assert 0 < first.start < scores
    assert scores - first.start < (first.end - first.start) / 3


def test_an_early_steady_state_is_marked_among_the_first_tiles() -> None:
    """FLAT: GM, SN, SD and A of a tile, 256 queries by 1,024 keys each, take 1,024 cycles each on 256 lanes."""
    run = mapped("flat", "flat")
    (chart,) = charts(schedule_of(run.plan, run.plan.phases[0]))
    assert chart.steady is not None
    first, last = chart.steady
    assert last - first == 4 * 4096
    assert chart.start <= first < last <= chart.end


def test_the_line_below_says_cycles_bound_and_traffic(fusemax: MappedRun) -> None:
    """Closed form: 12,288 tiles of 154 cycles. Q, K, V are read once, AV is written: 64 x 12 x 1,024 x 64 x 2 bytes."""
    assert "closed form 1,892,352; bound by array_1d, busy 100%" in fusemax.summary
    assert fusemax.summary.endswith("DRAM: 288 MiB read, 96 MiB written")


@pytest.mark.slow
def test_vector_pictures_have_both_schemes_and_are_equal(fusemax: MappedRun, tmp_path: Path) -> None:
    draw([fusemax], tmp_path / "a.svg")
    draw([mapped("fusemax", "fusemax")], tmp_path / "b.svg")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert (tmp_path / "b.svg").read_text(encoding="utf-8") == svg
    assert {fusemax.title, "array_2d", "QK", fusemax.summary} <= set(TEXT.findall(svg))
    sheet, rest = svg.split("</style>", 1)
    assert "prefers-color-scheme: dark" in sheet
    on_paper = {FILL.search(each)[1] for each in re.findall(r"<text[^>]*>", rest)}  # type: ignore[index]
    assert on_paper <= {*DARK, "#fefefe", "#111111"}  # or on bars, which stay as they are
    assert all(f'fill: {light}"]{{fill:{dark}!important}}' in sheet for light, dark in DARK.items())
    assert len(svg) < 100_000


def test_groups_and_runs_stand_below_each_other(fusemax: MappedRun) -> None:
    one = figure_of([fusemax])
    both = figure_of([fusemax, mapped("flat", "flat")])
    assert both.get_figheight() > one.get_figheight() + 2
    assert len(one.axes) == 3  # a nest, the first tiles, the steady state
    assert len(both.axes) == 5


def test_both_commands_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--arch", "flat", "--workload", "bert", "--scope", "attention", "--seq-len", "512",
                 "--show", "mapping")  # fmt: skip
    target = tmp_path / "simulated.svg"
    simulate = ("simulate", *arguments, "--mapping", "flat", "--plot", str(target))
    assert exit_code(cascadesim, "cascadesim", simulate) == 0
    assert "overlap interleave 2" in capsys.readouterr().out
    assert "mapping flat for attention-3pass on flat" in target.read_text(encoding="utf-8")
    target = tmp_path / "mapped.png"
    assert exit_code(cascadesim, "cascadesim", ("map", "relu", "--arch", "flat", "--set", "r=64", "--set", "d=64",
                                                "--plot", str(target))) == 0
    assert target.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_operations_that_run_by_one_mapping_share_its_picture() -> None:
    """All layers of BERT have one mapping of attention, which leaves products and norms out. Two sequences are another
    run."""
    asked = [Request(load_any_workload("bert"), load("flat").with_mapping(find_mapping("flat")),  # type: ignore[attr-defined]
                     256, batch, attention="attention-3pass") for batch in (1, 1, 2)]  # fmt: skip
    runs = mapped_runs(asked)
    assert [run.title for run in runs] == 2 * ["mapping flat for attention-3pass on flat"]
    assert [run.plan.operation.extent("b") for run in runs] == [1, 2]


@pytest.mark.parametrize("arch", ["fusemax", "h100-sxm"])
def test_a_plan_of_the_machines_own_cannot_be_drawn(
    arch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "none.svg"
    arguments = ("--arch", arch, "--workload", "bert", "--scope", "attention", "--show", "mapping")
    code = exit_code(cascadesim, "cascadesim", ("simulate", *arguments, "--plot", str(target)))
    assert code == 2
    assert capsys.readouterr().err == (
        f"simulate: no mapping to draw: {arch} planned this by a model of its own; on an array --mapping search or "
        f"--mapping NAME gives one\n")
    assert not target.exists()


def test_blanks_before_what_is_said_of_a_loop_are_kept_by_svg(fusemax: MappedRun, tmp_path: Path) -> None:
    draw([fusemax], tmp_path / "a.svg")
    said = [text for text in TEXT.findall((tmp_path / "a.svg").read_text(encoding="utf-8")) if "trip" in text]
    assert said
    assert all(text.startswith("\N{NO-BREAK SPACE}" * 2) for text in said)
