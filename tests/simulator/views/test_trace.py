"""The trace loads, its tracks hold slices that do not overlap, and it says where the steady state is."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.simulator.request import Request
from cascadesim.simulator.views.trace import FIRST_TILES, trace, write_trace

if TYPE_CHECKING:
    from conftest import Toy

Events = list[dict[str, Any]]


def events(*requests: Request) -> Events:
    return cast(Events, json.loads(json.dumps(trace(requests)))["traceEvents"])


def tracks(found: Events) -> dict[tuple[int, str], Events]:
    """(process, name of the track) -> its slices, in the order of the file."""
    names = {(row["pid"], row["tid"]): row["args"]["name"] for row in found if row["name"] == "thread_name"}
    slices = defaultdict(list)
    for row in found:
        if row["ph"] == "X":
            slices[row["pid"], names[row["pid"], row["tid"]]].append(row)
    return slices


def test_each_task_of_each_tile_is_a_slice_on_the_track_of_its_unit(toy: Toy, tiny: Workload) -> None:
    slices = tracks(events(Request(tiny, toy, scope="attention")))
    loads, computes = slices[1, "dram"], slices[1, "array"]
    assert [row["args"]["start cycle"] for row in loads] == [0, 3, 6, 9]
    assert [row["args"]["start cycle"] for row in computes] == [3, 13, 23, 33]
    assert computes[0]["ts"] == pytest.approx(3e-3)  # 3 cycles of 1 ns, in µs
    assert computes[0]["dur"] == pytest.approx(10e-3)
    assert {row["name"] for row in computes} == {"QK"}


def test_operations_follow_one_another(toy: Toy, tiny: Workload) -> None:
    phases = tracks(events(Request(tiny, toy)))[1, "phases"]
    assert [row["ts"] for row in phases] == pytest.approx([43e-3 * place for place, _ in enumerate(phases)])
    assert phases[0]["args"]["times in the report"] == 2
    assert phases[-1]["name"] == "lm_head"


def test_each_report_is_a_process(toy: Toy, two_kinds: Workload) -> None:
    found = events(Request(two_kinds, toy, scope="attention"), Request(two_kinds, toy, scope="linear"))
    names = [row["args"]["name"] for row in found if row["name"] == "process_name"]
    assert names == [
        "two-kinds on toy: attention, one sliding layer, 16 tokens",
        "two-kinds on toy: attention, one global layer, 16 tokens",
        "two-kinds on toy: linear, one sliding+global layer, 16 tokens",
    ]


@pytest.fixture(scope="module")
def fusemax() -> Events:
    return events(Request(load_workload("bert"), catalogue.load("fusemax"), 1024, scope="attention"))


def test_slices_of_a_track_do_not_overlap(fusemax: Events) -> None:
    found = tracks(fusemax)
    assert {"array_2d", "array_1d", "dram"} <= {name for _, name in found}
    for rows in found.values():
        for earlier, later in pairwise(rows):
            assert later["ts"] >= earlier["ts"] + earlier["dur"] - 1e-6


def test_interleaved_tasks_lie_on_tracks_beside_each_other(fusemax: Events) -> None:
    """FuseMax interleaves SLNV of one tile with QK of another, cycle by cycle (spec 8.2)."""
    found = tracks(fusemax)
    beside = [name for _, name in found if name.startswith("array_2d, interleaved")]
    assert beside
    assert {row["name"] for name in beside for row in found[1, name]} <= {"QK", "SLNV"}


def test_the_steady_state_is_marked(fusemax: Events) -> None:
    """One tile finishes every 138 cycles, plus 64 of AV once in each of the 4 key tiles: spec 5.2, E = F = 64."""
    (marked,) = tracks(fusemax)[1, "steady state"]
    args = marked["args"]
    assert args["cycles"] / args["tiles"] == 138 + 64 / 4
    assert marked["name"].startswith("steady state from tile ")
    assert [row["name"] for row in fusemax if row["ph"] == "i"] == ["steady state begins"]
    drawn = {row["args"]["tile"] for row in fusemax if row.get("cat") in ("steady", "fill")}
    assert set(range(FIRST_TILES)) <= drawn
    assert any(row.get("cat") == "steady" for row in fusemax)


def test_the_file_is_json(toy: Toy, tiny: Workload, tmp_path: Path) -> None:
    write_trace([Request(tiny, toy)], tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text())["displayTimeUnit"] == "ns"
