"""Counters without ncu: its command line, its table in the documented form, and one clear line where it is absent."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.cli import measure
from cascadesim.validation.kernels.records import COUNTERS, read
from cascadesim.validation.measure import counters
from cascadesim.validation.measure.cases import BenchmarkCase, Prepared, case_named
from cascadesim.validation.measure.command import COUNTED, SUITES
from cascadesim.validation.measure.counters import sound
from cascadesim.validation.measure.run import attempted, recorded

LOG = """\
==PROF== Connected to process 4711 (python)
==PROF== Profiling "empty" - 0: 0%....50%....100% - 3 passes
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC",\
"dram__bytes_read.sum","dram__bytes_write.sum","sm__inst_executed_pipe_tensor_op_gmma.sum"
"","","","","","","","","","","","byte","byte","inst"
"0","4711","python","127.0.0.1","empty","1","7","(256, 1, 1)","(1, 1, 1)","0","9.0","64","0","0"
"1","4711","python","127.0.0.1","attention_1pass","1","7","(256, 1, 1)","(8, 16, 1)","0","9.0","1,234,560","32","4,096"
"2","4711","python","127.0.0.1","empty","1","7","(256, 1, 1)","(1, 1, 1)","0","9.0","64","0","0"
"3","4711","python","127.0.0.1","store_scores","1","7","(256, 1, 1)","(8, 16, 1)","0","9.0","1000","2000","n/a"
"4","4711","python","127.0.0.1","void f<int, 2>(int)","1","7","(64, 1, 1)","(9, 1, 1)","0","9.0","5","6","7"
"""  # Nsight Compute CLI documentation, `--page raw --csv`: names, units, a line per kernel; ==PROF== lines are its own
METRICS = """\
Device NVIDIA H100 80GB HBM3 (GH100)
------------------------------------------------------- ----------- --------------- -------------------------------
Metric Name                                             Metric Type Metric Unit     Metric Description
------------------------------------------------------- ----------- --------------- -------------------------------
dram__bytes_read                                        Counter     byte            # of bytes read from DRAM
dram__bytes_write                                       Counter     byte            # of bytes written to DRAM
sm__inst_executed                                       Counter     inst            # of warp instructions executed
"""


def test_the_command_line_leaves_clocks_alone_and_starts_with_the_program() -> None:
    line = counters.command("ncu", (counters.READ, counters.WRITTEN), Path("log"), Path("names"), "attention", "B1 H2")
    assert line[0] == "ncu"
    assert line[line.index("--clock-control") + 1] == "none"
    assert line[line.index("--profile-from-start") + 1] == "off"
    assert line[line.index("--metrics") + 1] == "dram__bytes_read.sum,dram__bytes_write.sum"
    assert line[-6:] == [sys.executable, "-m", "cascadesim.validation.measure.counters", "attention", "B1 H2", "names"]


def test_a_table_has_names_then_units_then_kernels() -> None:
    units, kernels = counters.table(LOG)
    assert units == {counters.READ: "byte", counters.WRITTEN: "byte", counters.WARPGROUP_PRODUCTS: "inst"}
    assert [each["kernel"] for each in kernels][3:] == ["store_scores", "void f<int, 2>(int)"]
    assert kernels[1]["values"] == {
        "dram__bytes_read.sum": 1234560.0, "dram__bytes_write.sum": 32.0, counters.WARPGROUP_PRODUCTS: 4096.0,
    }  # fmt: skip
    assert kernels[1]["grid"] == "(8, 16, 1)"
    assert counters.WARPGROUP_PRODUCTS not in kernels[3]["values"]  # n/a: not counted is not 0


def test_kernels_belong_to_the_variant_of_the_marker_before_them() -> None:
    variants = counters.by_variant(counters.table(LOG)[1], ["1-pass", "stored"])
    assert [each["kernel"] for each in variants["1-pass"]] == ["attention_1pass"]
    assert len(variants["stored"]) == 2
    assert counters.dram_bytes(variants["stored"]) == 1000 + 2000 + 5 + 6
    with pytest.raises(RuntimeError, match="counted 2 variants, 3 ran"):
        counters.by_variant(counters.table(LOG)[1], ["a", "b", "c"])


def test_metrics_that_a_device_lacks_are_left_out() -> None:
    assert counters.known(METRICS) == ("dram__bytes_read.sum", "dram__bytes_write.sum", "sm__inst_executed.sum")
    with pytest.raises(RuntimeError, match="lists no dram__bytes_read"):
        counters.known(METRICS.replace("dram__bytes_read ", "dram__bytes_rd   "))


def test_an_error_of_ncu_is_its_own_line() -> None:
    log = "==PROF== Connected\n==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access counters\n"
    assert counters.problem(log).startswith("ERR_NVGPUCTRPERM")
    with pytest.raises(RuntimeError, match="ERR_NVGPUCTRPERM"):
        counters.table(log)


def test_without_ncu_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters.shutil, "which", lambda name: None)
    result = CliRunner().invoke(measure, ["--counters", "--output", "nowhere"])
    assert isinstance(result.exception, CascadeSimError)
    assert str(result.exception) == "--counters: needs NVIDIA Nsight Compute, and no ncu is on the PATH"
    assert not Path("nowhere").exists()


def test_microbenchmarks_are_not_counted() -> None:
    assert set(SUITES) - set(COUNTED) == {"microbenchmarks"}
    result = CliRunner().invoke(measure, ["microbenchmarks", "--counters", "--output", "nowhere"])
    assert "microbenchmarks have none; known: attention, decode" in str(result.exception)


def program(folder: Path, text: str) -> str:
    path = folder / "ncu"
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


STAND_IN = f"""
import json, sys
given = sys.argv[1:]
if given == ["--query-metrics"]:
    print({METRICS!r})
elif given == ["--version"]:
    print("NVIDIA (R) Nsight Compute Command Line Profiler\\nVersion 2025.3.1.0 (build 1)")
else:
    open(given[given.index("--log-file") + 1], "w").write({LOG!r})
    json.dump({{"variants": ["1-pass", "stored"], "errors": {{"broken": "no tile"}}}}, open(given[-1], "w"))
"""


def counted(path: Path, ncu: str) -> list[str]:
    shape = {"B": 1, "H": 1, "L": 16, "D": 64, "causal": False}
    case = BenchmarkCase("attention", "made up", shape, {}, ("1-pass", "stored"), lambda device: Prepared({}))
    about = {"device": {"name": "none"}, "env": {}}
    return list(recorded([case], path, COUNTERS, about, lambda each, *_: attempted(each, ncu), 60))


def test_a_record_holds_every_kernel_of_every_variant(tmp_path: Path) -> None:
    """A program in place of ncu writes the table above."""
    ncu, path = program(tmp_path, STAND_IN), tmp_path / "r.counters.jsonl"
    (line,) = counted(path, ncu)
    assert line == "[1/1] attention: made up: 1-pass 1.2 MB, stored 0.0 MB, broken: no tile"
    (written,) = read(path).records
    assert (written["schema"], written["tool"]) == ("cascadesim.counters/1", "ncu 2025.3.1.0")
    assert [each["kernel"] for each in written["counters"]["1-pass"]] == ["attention_1pass"]
    assert counted(path, ncu) == ["[1/1] attention: made up: already there"]


def test_a_failure_of_ncu_is_recorded_in_its_words(tmp_path: Path) -> None:
    ncu = program(tmp_path, STAND_IN.replace(repr(LOG), repr("==ERROR== ERR_NVGPUCTRPERM - no permission\n")))
    path = tmp_path / "r.counters.jsonl"
    counted(path, ncu)
    assert "ERR_NVGPUCTRPERM" in read(path).records[0]["error"]
    counted(path, ncu)
    assert counted(path, ncu) == ["[1/1] attention: made up: already there"]  # twice is enough
    assert len(read(path).records) == 2


def test_a_variant_that_fails_is_left_out_of_the_count() -> None:
    def breaks() -> None:
        raise ValueError("no\ntile")

    assert sound({"a": breaks, "b": lambda: None}, lambda: None) == (["b"], {"a": "ValueError: no tile"})


def test_a_case_is_found_by_its_names() -> None:
    assert case_named("attention", "B4 H16 L4096 D128").shape["D"] == 128
