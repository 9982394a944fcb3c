"""Files of records as others hand them in: what is damaged is named and costs nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.cli import suite_names, validate
from cascadesim.validation.kernels import records
from cascadesim.validation.kernels.record_claims import JUDGED, judged
from cascadesim.validation.kernels.records import COUNTERS, RECORD_SUITES, TIMES, Records, append, divided, fault, read
from cascadesim.validation.measure.cases import cases

DEVICE = {"name": "NVIDIA H100 80GB HBM3"}


def a_time(suite: str) -> dict[str, Any]:
    """A whole record of the suite's first case, as it would be written."""
    case = next(case for case in cases() if case.suite == suite)
    record = {"schema": TIMES, "suite": suite, "case": case.name, "device": DEVICE, "shape": dict(case.shape),
              "work": dict(case.work), "check": dict.fromkeys(case.variants, 1e-4), "errors": {},
              "timing": {name: {"cold": [10.0, 11.0], "hot": [9.0]} for name in case.variants}}  # fmt: skip
    return dict(json.loads(json.dumps(record)))


def a_count(suite: str) -> dict[str, Any]:
    record = a_time(suite)
    kernels = [{"kernel": "k", "values": {"dram__bytes_read.sum": 1e6, "sm__inst_executed_pipe_tensor_op_gmma.sum": 9}}]
    return {**record, "schema": COUNTERS, "timing": None, "counters": dict.fromkeys(record["timing"], kernels)}


WHOLE = [*map(a_time, ("microbenchmarks", "attention", "decode", "neighborhood", "pruned")),
         *map(a_count, ("attention", "pruned"))]  # fmt: skip


@pytest.mark.parametrize("record", WHOLE, ids=lambda record: f"{record['schema'][11:16]} {record['suite']}")
def test_what_measuring_writes_is_no_fault(record: dict[str, Any]) -> None:
    assert fault(record) is None


def test_every_case_that_is_measured_is_read() -> None:
    for case in cases():
        record = {"schema": TIMES, "suite": case.suite, "case": case.name, "device": DEVICE,
                  "shape": dict(case.shape), "work": dict(case.work), "timing": {}}  # fmt: skip
        assert fault(json.loads(json.dumps(record))) is None, case.name


def test_a_line_that_is_cut_off_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append(path, WHOLE[1])
    path.write_bytes(path.read_bytes()[:-50])
    append(path, WHOLE[2])
    found = read(path)
    assert [record["suite"] for record in found.records] == ["decode"]
    assert found.complaints == ("r.jsonl: line 1 left out: no JSON object",)
    append(path, WHOLE[3])
    assert len(path.read_bytes().splitlines()) == 3


def test_the_first_damaged_line_is_named_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"schema": 1}\n\xff\xfe\n[1]\n' + b"[" * 100_000 + b"\n" + json.dumps(WHOLE[1]).encode())
    found = read(path)
    assert len(found.records) == 1
    assert found.complaints == (f"r.jsonl: line 1, and 3 more left out: schema is 1, known: {TIMES}, {COUNTERS}",)


@pytest.mark.parametrize(("path", "value", "line"), [
    (("suite",), "atention", "no suite 'atention'; known: attention, "),
    (("case",), None, "names no case, or no device"),
    (("device",), [], "names no case, or no device"),
    (("device",), {}, "its device has no name"),
    (("shape",), [], "its shape or its work is no object"),
    (("shape", "H"), -1, "shape: H is -1, not a size"),
    (("shape", "H"), True, "shape: H is True, not a size"),
    (("shape", "layout"), [4, 4], "shape: layout, window, stride and tiles differ in their dimensions"),
    (("shape", "layout"), 7, "shape: layout is 7, not 1 to 3 sizes"),
    (("shape", "layout"), [1 << 20] * 3, "shape: larger than any device"),
    (("work", "key_tiles"), "many", "work: key_tiles is 'many', not a count"),
    (("work", "key_tiles"), 0, "work: key_tiles is 0, not a count"),
    (("work", "dense_key_tiles"), (1 << 60) + 1, "work: dense_key_tiles is 1152921504606846977, not a count"),
    (("shape", "H"), (1 << 31) + 1, "shape: H is 2147483649, not a size"),
    (("work", "without_mask"), 1 << 50, "work: more tiles without a mask than tiles, or more tiles than there are"),
    (("timing",), None, "its times or its checks are no object"),
    (("timing", "dense, ours"), 3, "timing: dense, ours is no object"),
    (("timing", "dense, ours", "cold"), [0.0], "timing: dense, ours, cold: not all are microseconds"),
    (("timing", "dense, ours", "hot"), "9", "timing: dense, ours, hot: not all are microseconds"),
    (("check", "dense, ours"), "small", "check: dense, ours is no number"),
])  # fmt: skip
def test_a_fault_says_where_it_is(path: tuple[str, ...], value: Any, line: str) -> None:
    record = copy.deepcopy(a_time("neighborhood"))
    *outer, last = path
    place = record
    for name in outer:
        place = place[name]
    place[last] = value
    found = fault(record)
    assert found is not None
    assert found.startswith(line)


def test_all_tiles_may_have_a_mask() -> None:
    record = a_time("neighborhood")
    record["work"]["without_mask"] = 0
    assert fault(record) is None


def test_a_shape_that_no_device_holds_is_a_fault() -> None:
    """2^31 tokens squared are 2^62 scores."""
    record = a_time("attention")
    record["shape"]["L"] = 1 << 31
    assert fault(record) == "shape: larger than any device"


def test_counters_are_counts() -> None:
    record = a_count("attention")
    record["counters"]["attention-1pass"] = [{"values": {"dram__bytes_read.sum": -1}}]
    assert fault(record) == "counters: attention-1pass: not all are kernels with counts"
    assert fault({**record, "counters": 3}) == "its counters are no object"


def test_a_case_that_failed_is_a_record() -> None:
    record = {**a_time("decode"), "error": "lost"}
    del record["timing"]
    assert fault(record) is None
    assert judged("kernels-measured", [record]) == ()


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CascadeSimError, match="cannot be read: No such file"):
        read(tmp_path / "none.jsonl")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([0, 1, -1, 1 << 62, 10**40, 1e308, "attention"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A record with one to three of its values, anywhere, replaced or left out."""
    record = copy.deepcopy(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = record
        while True:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            inner = place[key]
            if not inner or not isinstance(inner, (dict, list)) or draw(st.booleans()):
                break
            place = inner
        if isinstance(place, dict) and draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(JSON)
        if not record:
            break
    return dict(record)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(record=damaged())
def test_no_damage_breaks_a_comparison(record: dict[str, Any]) -> None:
    """What `fault` lets through, every suite compares, or refuses in one line."""
    record = dict(json.loads(json.dumps(record)))
    if fault(record) is None:
        for name in JUDGED:
            try:
                judged(name, [record])
            except CascadeSimError as error:
                assert "\n" not in str(error)  # noqa: PT017 (most are compared)


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=st.binary(max_size=60))
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    path.write_bytes(text)
    assert read(path).records == ()


@pytest.fixture
def _no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "records_of", lambda given: Records(()))


@pytest.mark.usefixtures("_no_records")
@pytest.mark.parametrize("name", RECORD_SUITES)
def test_a_suite_without_records_has_not_passed(name: str) -> None:
    result = CliRunner().invoke(validate, [name], standalone_mode=False)
    assert result.return_value.exit_code == 1
    assert f"{name}: no records, so not passed" in result.output
    assert ("measure --counters" in result.output) == (name in ("spatten-kernels", "cascade-passes"))


@pytest.mark.usefixtures("_no_records")
def test_beside_other_suites_it_is_named_and_not_counted() -> None:
    asked = ["kernels-static", "gna-kernels", "--format", "json"]
    result = CliRunner().invoke(validate, asked, standalone_mode=False)
    assert result.return_value.exit_code == 0
    assert "gna-kernels: no records" in result.output
    assert '"suite": "gna-kernels"' not in result.output


def test_records_that_nothing_compares_are_no_pass_either() -> None:
    assert "not passed" in Records((Path("h100.jsonl"),), ({"schema": ""},)).not_judged("kernels-measured")


def test_the_predictions_of_before_are_judged_first() -> None:
    assert RECORD_SUITES[0] == "kernels-predicted"


def test_a_folder_or_a_file_can_be_judged_in_place_of_what_ships(tmp_path: Path) -> None:
    record = {"schema": "cascadesim.measurement/2", "suite": "decode", "case": "c", "device": {"name": "none"},
              "shape": {"B": 1, "H": 1, "G": 1, "M": 1, "D": 1}, "work": {"bytes": 1}, "timing": {}}  # fmt: skip
    (tmp_path / "h100").mkdir()
    (tmp_path / "h100" / "a.jsonl").write_text(json.dumps(record) + "\n{\n")
    for place in (tmp_path, tmp_path / "h100" / "a.jsonl"):
        result = CliRunner().invoke(validate, ["kernels-measured", "--data", str(place)], standalone_mode=False)
        assert result.return_value.exit_code == 1
        assert result.output.splitlines() == [
            "validate: a.jsonl: line 2 left out: no JSON object",
            "validate: kernels-measured: 1 files of records, but nothing to hold against them, so not passed",
        ]


@pytest.mark.parametrize(("suites", "line"), [
    (["kernels-measured"], "no file of records (.jsonl) there"),
    (["kernels-measured", "fusemax-linear"], "fusemax-linear compares a table and kernels-measured records"),
])  # fmt: skip
def test_data_that_cannot_be_judged_is_one_line(tmp_path: Path, suites: list[str], line: str) -> None:
    result = CliRunner().invoke(validate, [*suites, "--data", str(tmp_path / "none.jsonl")])
    assert isinstance(result.exception, CascadeSimError)
    assert line in str(result.exception)


def test_all_are_listed() -> None:
    assert set(RECORD_SUITES) <= set(suite_names())
    assert divided(()) == ((), RECORD_SUITES)
    assert divided(("fusemax-linear", "gna-kernels")) == (("fusemax-linear",), ("gna-kernels",))
