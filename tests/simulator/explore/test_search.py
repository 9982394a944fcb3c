"""Searches: on several workers or a cluster, stopped, killed, going on where they were; evolution beside them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore import search as explore_search
from cascadesim.simulator.explore.explore import explore

SMALL: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("small_space.yaml").read_text(encoding="utf-8"))


def test_more_workers_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore_search, "_VECTORISED_CHUNK", 20)
    one, two = (explore(SMALL, workers=workers, cycle_level=False) for workers in (1, 2))
    assert list(one.rows()) == list(two.rows())
    assert one.counts == two.counts


class Stop(Exception):
    pass


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore_search, "_VECTORISED_CHUNK", 20)
    target = tmp_path / "front.csv"
    seen: list[int] = []

    def stop_after_60(done: int, total: int) -> None:
        if done >= 60:
            raise Stop

    with pytest.raises(Stop):
        explore(SMALL, workers=1, output=target, watches={"searching": stop_after_60})
    assert not target.exists()
    frame = explore(SMALL, workers=1, output=target, watches={"searching": lambda done, total: seen.append(done)})
    assert seen[0] == 60  # three chunks of 20 were there already
    assert os.listdir(tmp_path) == ["front.csv"]
    assert list(frame.rows()) == list(explore(SMALL, workers=1).rows())


def test_leavings_of_another_space_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore_search, "_VECTORISED_CHUNK", 20)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done >= 60:
            raise Stop

    for objectives in (["latency_s"], ["energy_j"]):
        with pytest.raises(Stop):
            explore({**SMALL, "objectives": objectives}, workers=1, output=tmp_path / "a.csv",
                    watches={"searching": stop})
    assert seen == [0, 20, 40, 60] * 2


def test_leavings_for_another_preset_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same space file, but what its architecture names has changed."""
    monkeypatch.setattr(explore_search, "_VECTORISED_CHUNK", 20)
    preset, seen = tmp_path / "mine.yaml", []
    text = catalogue.presets()["fusemax/fusemax"].read_text(encoding="utf-8")

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done >= 20:
            raise Stop

    for clock in ("940_000_000.0", "950_000_000.0"):
        preset.write_text(text.replace("940_000_000.0", clock), encoding="utf-8")
        with pytest.raises(Stop):
            explore({**SMALL, "architecture": str(preset)}, workers=1, output=tmp_path / "a.csv",
                    watches={"searching": stop})
    assert seen == [0, 20, 0, 20]


BIG = """
question: Long enough to be killed
architecture: fusemax
vary:
  pe_array.rows: {powers_of_two: [64, 256]}
  pe_array.columns: {powers_of_two: [64, 256]}
  vector_array.lanes: {powers_of_two: [64, 256]}
  global_buffer.capacity_bytes: {powers_of_two: [262144, 33554432]}
  dram.bandwidth_bytes_per_s: {log_range: [5.0e+10, 4.0e+12, 8000]}
workloads: [{workload: bert, scope: attention, sequence_length: 16K}]
objectives: [latency_s, energy_j, area_um2]
"""


@pytest.mark.slow
def test_a_killed_process_leaves_no_file_and_its_chunks_are_used(tmp_path: Path) -> None:
    space, target = tmp_path / "space.yaml", tmp_path / "front.csv"
    space.write_text(BIG, encoding="utf-8")
    program = "from cascadesim.simulator.cli.commands import main; main()"
    command = [sys.executable, "-c", program, "explore", str(space), "--output", str(target), "--workers", "2",
               "--no-cycle-level"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    partial = tmp_path / ".front.csv.partial"
    while process.poll() is None and len(list(partial.glob("chunk-*.npz"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    known = {path.name: path.stat().st_mtime_ns for path in partial.glob("chunk-*.npz")}
    assert 3 <= len(known) < 14
    seen: list[int] = []
    frame = explore(space, output=target, workers=2, cycle_level=False,
                    watches={"searching": lambda done, total: seen.append(done)})
    assert seen[0] >= 3 * 2**17
    assert sorted(os.listdir(tmp_path)) == ["front.csv", "space.yaml"]
    assert list(frame.rows()) == list(explore(space, workers=1, cycle_level=False).rows())


@pytest.mark.slow
def test_ray_runs_the_same_chunks_on_a_cluster_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_cluster = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setattr(explore_search, "_VECTORISED_CHUNK", 20)
    expected = explore(SMALL, workers=1)
    cluster = ray_cluster.Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        frame = explore(SMALL, engine="ray")
    finally:
        cluster.shutdown()
    assert list(frame.rows()) == list(expected.rows())


@pytest.mark.slow
def test_an_interrupted_run_exits_with_130_and_no_file(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(BIG, encoding="utf-8")
    command = [sys.executable, "-c", "from cascadesim.simulator.cli.commands import main; main()", "explore",
               str(space), "--output", str(tmp_path / "a.csv"), "--report", str(tmp_path / "a.html"), "--workers", "2"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background of a shell ignore it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    while process.poll() is None and not list((tmp_path / ".a.csv.partial").glob("chunk-*.npz")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "explore: interrupted\n")
    assert sorted(os.listdir(tmp_path)) == [".a.csv.partial", "space.yaml"]


def test_without_ray_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CascadeSimError, match=r"--engine ray needs Ray: pip install 'cascadesim\[ray\]'"):
        explore(SMALL, engine="ray", cycle_level=False)


EVOLUTION: dict[str, Any] = {"search": {"method": "evolutionary", "population": 20, "generations": 12}, "seed": 7}


def test_evolution_finds_most_of_the_exact_front() -> None:
    pytest.importorskip("pymoo")
    frame = explore({**SMALL, **EVOLUTION}, workers=1, cycle_level=False)
    found, exact = (
        {tuple(row[name] for name in SMALL["objectives"]) for row in each.rows()}
        for each in (frame, explore(SMALL, workers=1, cycle_level=False))
    )
    assert len(found & exact) > len(exact) / 2
    assert frame.counts.designs <= 20 * 12


@pytest.mark.slow
def test_seeds_make_evolution_repeatable_and_resumable(tmp_path: Path) -> None:
    pytest.importorskip("pymoo")

    def stop_after_5(done: int, total: int) -> None:
        if done >= 5:
            raise Stop

    space = {**SMALL, **EVOLUTION, "conditions": ["pe_array.rows * pe_array.columns <= 4096"]}
    once = explore(space, workers=1, cycle_level=False)
    with pytest.raises(Stop):
        explore(space, workers=2, output=tmp_path / "a.csv", watches={"searching": stop_after_5})
    again = explore(space, workers=2, cycle_level=False, output=tmp_path / "a.csv")
    assert list(once.rows()) == list(again.rows())
    assert os.listdir(tmp_path) == ["a.csv"]
    other = explore({**space, "seed": 8}, workers=1, cycle_level=False)
    assert once.counts != other.counts or list(once.rows()) != list(other.rows())


@pytest.mark.slow
def test_a_space_beyond_counting_needs_evolution() -> None:
    """10^20 designs."""
    pytest.importorskip("pymoo")
    every = {"range": [16, 100_015, 1]}
    fields = ("pe_array.rows", "pe_array.columns", "vector_array.lanes", "global_buffer.capacity_bytes")
    frame = explore({**SMALL, **EVOLUTION, "derive": {},
                     "vary": {**dict.fromkeys(fields[:3], every), fields[3]: {"range": [10**9, 10**11, 10**6]}},
                     "conditions": [], "set": {"global_buffer.row_bytes": 16}}, workers=1, cycle_level=False)
    assert 0 < frame.counts.possible <= 240


def test_without_pymoo_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(CascadeSimError, match=r"evolutionary needs pymoo: pip install 'cascadesim\[explore\]'"):
        explore({**SMALL, **EVOLUTION}, workers=1)
