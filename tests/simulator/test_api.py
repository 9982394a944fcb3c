"""The commands as functions: what the command prints is what the function returns, by the same path."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

import cascadesim as cs
from cascadesim.simulator import api
from cascadesim.simulator.cli import commands
from cascadesim.simulator.cli.commands import exit_code

LLAMA = {"workload": "llama", "phase": "decode", "batch": 32}
TYPED = ("--arch", "h100-sxm", "--workload", "llama", "--phase", "decode", "--batch", "32")
BERT = {"workload": "bert", "scope": "attention", "fidelity": "analytical"}


def command(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `cascadesim` prints."""
    assert exit_code(commands.cascadesim, "cascadesim", arguments) in (0, 1)
    return capsys.readouterr().out


def test_a_run_in_one_line_prints_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    result = cs.simulate("h100-sxm", "llama", phase="decode", batch=32, seq_len="8K")
    assert f"{result}\n" == command("simulate", *TYPED, "--seq-len", "8K", capsys=capsys)
    (report,) = result
    assert (report.batch, report.sequence_length, report.phase) == (32, 8192, "decode")
    assert result.latency_s == report.latency_s == result[0].latency_s


@pytest.mark.parametrize(("made", "typed"), [
    (lambda: cs.passes("attention-1pass", set={"M0": 256}, rank="m"), "passes attention-1pass --set M0=256 --rank m"),
    (lambda: cs.gna(layout=(64, 64), window=(16, 16), q_tile="8x8", kv_tile=[8, 8], causal=[True, False],
                    recommend=True),
     "gna --layout 64x64 --window 16x16 --q-tile 8x8 --kv-tile 8x8 --causal 1,0 --recommend"),
    (lambda: cs.validate("fusemax-pareto"), "validate fusemax-pareto"),
    (lambda: cs.map("linear-attention", "flat", seq_len=512), "map linear-attention --arch flat --seq-len 512"),
    (lambda: cs.simulate("fusemax", **BERT), "simulate --arch fusemax --workload bert --scope attention "
                                             "--fidelity analytical"),
])  # fmt: skip
def test_text_and_json_are_those_of_the_command(made: Any, typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = made()
    assert f"{result}\n" == command(*typed.split(), capsys=capsys)
    as_json = command(*typed.split(), "--format", "json", capsys=capsys)
    assert json.dumps(result.to_dict()) == json.dumps(json.loads(as_json))


def test_a_view_is_the_text_of_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    typed = "simulate --arch fusemax --workload bert --scope attention --fidelity analytical --show mapping"
    assert f"{cs.simulate('fusemax', **BERT, show='mapping')}\n" == command(*typed.split(), capsys=capsys)


def test_another_format_is_what_is_printed() -> None:
    result = cs.simulate("fusemax", **BERT, format="json")
    assert json.loads(repr(result)) == result.to_dict()


@pytest.mark.slow
def test_lists_in_are_a_report_for_each_combination_out() -> None:
    result = cs.simulate(["h100-sxm", "h200-sxm"], ["llama", "mistral-7b-v0.1"], phase=["prefill", "decode"],
                         batch=[1, 2], seq_len=[1024, "2K"])  # fmt: skip
    assert len(result) == 2 * 2 * 2 * 2 * 2
    assert {(each.phase, each.batch, each.sequence_length) for each in result} == {
        (phase, batch, length) for phase in ("prefill", "decode") for batch in (1, 2) for length in (1024, 2048)
    }


def test_numbers_of_numpy_are_numbers() -> None:
    sizes = np.array([1, 8])
    result = cs.simulate("h100-sxm", "llama", phase="decode", batch=sizes, set={"clock_hz": np.float64(1.0e9)})
    assert [report.batch for report in result] == [1, 8]
    assert result[0].clock_hz == 1e9


def test_loaded_things_go_in_as_they_are_in_either_order() -> None:
    model, gpu = cs.load_workload("llama"), cs.load_accelerator("h100-sxm", ["clock_hz=1.0e+9"])
    one, other = cs.simulate(gpu, model, seq_len=4096), cs.simulate(model, gpu, sequence_length=4096)
    assert one.clock_hz == other.clock_hz == 1e9
    assert one.to_dict() == other.to_dict()
    with pytest.raises(cs.CascadeSimError, match="goes with a name or a file"):
        cs.simulate(gpu, "llama", set={"clock_hz": 1e9})
    with pytest.raises(cs.CascadeSimError, match="goes with a name or a file"):
        cs.simulate("h100-sxm", model, set="batch=2")


@pytest.mark.parametrize(("options", "message"), [
    ({"arch": "h10-sxm"}, "no architecture 'h10-sxm'; did you mean 'h100-sxm'?"),
    ({"seqlen": 4096}, "simulate: no option 'seqlen'; did you mean 'seq_len'?"),
    ({"seq_len": "4,096"}, "simulate: invalid value for '--seq-len': '4,096': did you mean 4096?"),
    ({"batch": 0}, "simulate: invalid value for '--batch': 0; give 1 to 65536 sequences"),
    ({"phase": "train"}, "simulate: invalid value for '--phase': no 'train'; give one of: prefill, decode"),
    ({"seq_len": object()}, "expected text, a number or a list of them, got <object"),
    ({"batch": [1, None]}, "expected text, a number or a list of them, got None"),
    ({"batch": 2**16, "seq_len": "1M"}, "exceed the 80.00 GB of h100-sxm; not even a batch of 1 fits"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(cs.CascadeSimError) as refused:
        cs.simulate(**{"arch": "h100-sxm", **LLAMA, **options})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 300


def test_what_of_a_sweep_cannot_be_answered_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"exceed the 80\.00 GB of h100-sxm"):
        result = cs.simulate(["flat", "h100-sxm"], "llama", phase="decode", batch=128, fidelity="analytical")
    assert [report.architecture for report in result] == ["flat"]
    assert len(result.problems) == 1


def test_a_claim_that_fails_is_no_error(tmp_path: Path) -> None:
    """The published traffic of every design twice as large: the error is a half."""
    published = Path(cs.__file__).parent / "validation" / "published" / "fusemax-pareto.csv"
    *remarks, header = (lines := published.read_text(encoding="utf-8").splitlines())[:3]
    rows = lines[3:]
    place = header.split(",").index("traffic_bytes")
    doubled = [[*row.split(",")[:place], str(2 * float(row.split(",")[place])), *row.split(",")[place + 1 :]]
               for row in rows]  # fmt: skip
    (tmp_path / "mine.csv").write_text("\n".join([*remarks, header, *map(",".join, doubled)]), encoding="utf-8")
    found = cs.validate("fusemax-pareto", data=tmp_path / "mine.csv")
    assert found.exit_code == 1
    assert [verdict.holds for verdict in found] == [False, True, True, True]


@pytest.mark.parametrize("name", ["simulate", "passes", "gna", "explore", "map"])
def test_a_signature_has_every_option_of_the_command(name: str) -> None:
    function = getattr(cs, name)
    shown = inspect.signature(function).parameters
    found = commands.cascadesim.get_command(click.Context(commands.cascadesim), name)
    assert found is not None
    options = {option.lstrip("-").replace("-", "_") for each in found.params for option in each.opts if
               option.startswith("--")}  # fmt: skip
    assert options <= set(shown)
    assert all(f"{option}: " in (function.__doc__ or "") for option in options - {"arch", "workload"})
    assert shown["format"].default == "table" if "format" in shown else True


def test_a_notebook_gets_the_table_escaped_and_the_picture() -> None:
    result = cs.simulate("fusemax", **BERT)
    assert result._repr_html_().startswith("<pre")
    assert "1,892,352 cycles" in result._repr_html_()
    assert "<tr><th>latency_s</th><td>0.00201314</td></tr>" in result._repr_html_()
    assert "<tr><th>cycles</th><td>1,892,352</td></tr>" in result._repr_html_()
    picture = result.plot()
    assert picture._repr_mimebundle_()["image/png"].startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_what_is_printed_into_a_text_has_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks set FORCE_COLOR for their terminals."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    made = cs.simulate("fusemax", **BERT), cs.gna(layout=(64, 64), window=(8, 8), q_tile=(8, 8), kv_tile=(8, 8))
    assert all("\x1b" not in repr(each) + each._repr_html_() for each in made)


def test_a_figure_goes_to_a_file_of_either_kind(tmp_path: Path) -> None:
    result = cs.passes("attention-1pass")
    assert "image/svg+xml" in result.plot(tmp_path / "passes.svg")._repr_mimebundle_()
    assert (tmp_path / "passes.svg").read_text().startswith("<?xml")
    with pytest.raises(cs.CascadeSimError, match=r"ends in \.png or \.svg"):
        result.plot(tmp_path / "passes.pdf")
    with pytest.raises(cs.CascadeSimError, match="no figure of this"):
        cs.gna(layout=4096, pattern="sink-window:sinks=64,window=1024", q_tile=128, kv_tile=128).plot()


def test_pandas_gets_a_row_for_each_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in: pandas is no dependency."""
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: rows))  # type: ignore[arg-type]
    rows = cs.simulate(["fusemax", "flat"], **BERT).to_pandas()
    assert [row["architecture"] for row in rows] == ["fusemax", "flat"]
    assert rows[0]["cycles"] == 1_892_352  # 12288 tiles x 154 cycles
    assert {row["name"] for row in cs.passes("attention-1pass").to_pandas()} >= {"QK", "AV"}
    assert len(cs.validate("fusemax-pareto").to_pandas()) == 4
    assert "multidim_static" in {row["mode"] for row in cs.gna(layout=64, window=8, q_tile=8, kv_tile=8).to_pandas()}


def test_the_front_of_a_mapping_is_its_rows() -> None:
    found = cs.map("relu", "flat", set={"D": 64, "R": 64})
    assert found.text.startswith("mapping ")
    assert found.to_dict()["schema"] == "cascadesim.mapping/1"
    assert len(list(found.rows())) == len(found.front)


def test_without_pandas_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(cs.CascadeSimError, match="to_pandas needs pandas: pip install pandas"):
        cs.passes("attention-1pass").to_pandas()


@pytest.mark.slow
def test_files_are_written_as_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, figure = tmp_path / "report.json", tmp_path / "figure.svg"
    result = cs.simulate("fusemax", **BERT, format="json", output=target, plot=figure)
    assert json.loads(target.read_text()) == result.to_dict()
    assert "2.013 ms" in repr(result)  # nothing was printed: the table
    out, error = capsys.readouterr()
    assert (out, error) == ("", f"wrote {figure} (4 panels)\n")


def test_every_section_can_be_listed() -> None:
    for section in commands.SECTIONS:
        assert getattr(cs, f"list_{section}")() == api.names(section)
    assert "h100-sxm" in cs.list_devices()
    assert "bert" in cs.list_workloads()
    with pytest.raises(cs.CascadeSimError, match="did you mean 'devices'"):
        api.names("device")


def test_a_space_is_a_frame(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("question: which array?\narchitecture: fusemax\n"
                     "workloads: [{workload: bert, scope: attention}]\nobjectives: [latency]\n"
                     "vary: {pe_array.rows: [128, 256]}\n")  # fmt: skip
    result = cs.explore(str(space), cycle_level=False, workers=1)
    assert result["pe_array.rows"].tolist() == [256]
    assert result.to_dict()["front"][0]["pe_array.rows"] == 256  # type: ignore[index]
    assert len(result) == 1
    result.report(tmp_path / "front.html")
    assert "which array?" in (tmp_path / "front.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_package_is_imported_below_a_tenth_of_a_second() -> None:
    """The interpreter's own start is not counted; the best of five, on a busy machine."""
    code = "import time; start = time.perf_counter(); import cascadesim; print(time.perf_counter() - start)"
    times = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
             for _ in range(5)]  # fmt: skip
    assert min(times) < 0.1


def test_true_is_a_one_where_a_number_is_expected() -> None:
    sizes = {"layout": 64, "window": 8, "q_tile": 4, "kv_tile": 4}
    assert cs.gna(**sizes, causal=True).to_dict() == cs.gna(**sizes, causal=1).to_dict()
