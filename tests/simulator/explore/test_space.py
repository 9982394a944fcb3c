"""Space files: what fields may be, and every error with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.simulator.explore.problem import problem
from cascadesim.simulator.explore.space import Space, read_space, space_from, space_names

SMALL = """
question: How many rows?
architecture: fusemax
vary:
  pe_array.rows: [64, 128]
workloads: [{workload: bert, scope: attention}]
objectives: [latency_s, area]
"""


def space(text: str) -> Space:
    return space_from(parse_yaml(text, "space.yaml"), "space.yaml")


def values(text: str) -> tuple[object, ...]:
    (listed,) = space(SMALL.replace("[64, 128]", text)).vary.values()
    return listed.listed()


def test_quantities_may_have_units() -> None:
    varied = SMALL.replace("pe_array.rows: [64, 128]", "global_buffer.capacity_bytes: [8MiB, 16MiB]")
    made = space(varied + "set: {clock_hz: 1GHz, binding.policy: serial}\n")
    assert made.vary["global_buffer.capacity_bytes"].listed() == (2**23, 2**24)
    assert made.set == {"clock_hz": 10**9, "binding.policy": "serial"}
    ranged = varied.replace("[8MiB, 16MiB]", "{powers_of_two: [1MiB, 4MiB]}")
    assert space(ranged).vary["global_buffer.capacity_bytes"].listed() == (2**20, 2**21, 2**22)
    with pytest.raises(SpecError, match=r"space\.yaml: global_buffer\.capacity_bytes=8M: is in B"):
        space(varied.replace("8MiB", "8M"))


def test_a_small_space() -> None:
    made = problem(space(SMALL), "space.yaml")
    assert made.size == 2
    assert [metric.name for metric in made.objectives] == ["latency_s", "area_um2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2.5]", (1, 2.5)),
        ("{powers_of_two: [16, 128]}", (16, 32, 64, 128)),
        ("{range: [16, 40, 8]}", (16, 24, 32, 40)),
        ("{range: [0.1, 0.5, 0.2]}", pytest.approx((0.1, 0.3, 0.5))),
        ("{log_range: [1, 1000, 4]}", (1, 10, 100, 1000)),
        ("{log_range: [1.0, 100.0, 3]}", pytest.approx((1.0, 10.0, 100.0))),
        ("[epochs, serial]", ("epochs", "serial")),
    ],
)
def test_what_a_field_may_be(text: str, expected: object) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "a list of 1 to 100,000 numbers or texts"),
        ("[1, 1]", "1 is given more than once"),
        ("[1, two]", "do not mix"),
        ("[.nan]", "numbers below 2^63"),
        ("[100000000000000000000]", "numbers below 2^63"),
        ("{powers_of_two: [3, 9]}", "from a power of two"),
        ("{powers_of_two: [8, 4]}", "from <= to"),
        ("{range: [1, 2]}", "expected [from, to, step], got [1, 2]"),
        ("{range: [1, 2, 0]}", "step > 0"),
        ("{range: [0, 1.0e+9, 1]}", "at most 100000 values"),
        ("{log_range: [0, 9, 3]}", "0 < from < to"),
        ("{range: [1, 2, 1], values: [1]}", "give one of"),
        ("{powers: [1, 2]}", "powers: unknown field"),
        ("4", "expected a list of values"),
    ],
)
def test_values_that_mean_nothing_say_so(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        values(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("space.yaml: vary.pe_array.rows")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("pe_array.rows:", "pe_array.row:", "vary.pe_array.row: no such field, and no expression uses it; "
                                            "did you mean 'pe_array.rows'?"),
        ("pe_array.rows:", "clock_mhz:", "did you mean 'clock_hz'?"),
        ("[latency_s, area]", "[latncy_s]", "objectives.0: no objective 'latncy_s'; did you mean 'latency_s'?"),
        ("[latency_s, area]", "[area, area_um2]", "objectives.1: 'area_um2' is given twice"),
        ("objectives:", "conditions: [rows > 1]\nobjectives:", "conditions.0: no field or name 'rows'"),
        ("objectives:", "derive: {pe_array.rows: '3'}\nobjectives:", "derive.pe_array.rows: varied already"),
        ("objectives:", "constraints: [area_um2 <]\nobjectives:", "constraints.0: not an expression"),
        ("architecture: fusemax", "architecture: fusmax", "no architecture 'fusmax'; did you mean 'fusemax'?"),
        ("workload: bert", "workload: brt", "no workload 'brt'"),
        ("scope: attention", "scope: atention", "workloads.0.scope: should be"),
        ("scope: attention", "sequence_length: 3X", "workloads.0.sequence_length: '3X' is not a length"),
        ("architecture: fusemax", "", "give either architecture or neighborhood"),
        ("objectives:", "set: {clok_hz: 1.0}\nobjectives:", "set.clok_hz: no such field"),
        ("question:", "questoin: x\nquestion:", "questoin: unknown field; did you mean 'question'?"),
    ],
)
def test_every_error_is_located(before: str, after: str, message: str) -> None:
    with pytest.raises(CascadeSimError) as caught:
        problem(space(SMALL.replace(before, after)), "space.yaml")
    assert message in str(caught.value)


def test_all_errors_of_a_file_come_at_once() -> None:
    text = SMALL.replace("[latency_s, area]", "[latncy_s]").replace("pe_array.rows:", "pe_array.row:")
    with pytest.raises(SpecError) as caught:
        problem(space(text), "space.yaml")
    assert len(str(caught.value).splitlines()) == 2


def test_derived_fields_follow() -> None:
    text = SMALL.replace("objectives:", "derive: {pe_array.columns: 2 * pe_array.rows}\nobjectives:")
    made = problem(space(text), "space.yaml")
    assert made.columns(made.digits_of(0, 2))["pe_array.columns"].tolist() == [128, 256]


@pytest.mark.parametrize("name", space_names())
def test_every_space_that_comes_along_is_ready(name: str) -> None:
    read, text = read_space(name)
    made = problem(read, name)
    assert made.size > 1
    assert text.startswith("# ")  # says what it asks and where its sizes come from


def test_the_space_in_the_documentation_is_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "explore.md").read_text(encoding="utf-8")
    made = problem(space(text.split("```yaml")[1].split("```")[0]), "docs")
    assert made.size == 6 * 3 * 5 * 5
    assert made.columns(made.digits_of(0, 1))["global_buffer.capacity_bytes"].tolist() == [1 * 512 * 64 * 1]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_space(tmp_path / "none.yaml")
    with pytest.raises(CascadeSimError, match="did you mean 'fusemax-front-256k'"):
        read_space("fusemax-front-256")
