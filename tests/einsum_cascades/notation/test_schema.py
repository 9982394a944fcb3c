"""YAML in, frozen values or one SpecError out: every problem on a line of its own, all at once, never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cascadesim.einsum_cascades.models.workload import Workload, load_workload, workload_from
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.notation.schema import (
    Fraction,
    Positive,
    PositiveFloat,
    Spec,
    parse_yaml,
    read_yaml,
    validate,
    with_settings,
)


class Memory(Spec):
    capacity_bytes: Positive
    share: Fraction = 1.0


class Machine(Spec):
    clock_hz: PositiveFloat
    memory: Memory
    spare: Memory | None = None
    banks: Mapping[str, Memory] = {}
    sizes: tuple[Positive, ...] = ()


GOOD = """
clock_hz: 940_000_000
memory: {capacity_bytes: 1024}
sizes: [1, 2]
"""


def machine(text: str) -> Machine:
    return validate(Machine, parse_yaml(text, "machine.yaml"), "machine.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as error:
        machine(text)
    return list(error.value.problems)


def test_a_good_file_becomes_a_frozen_value() -> None:
    read = machine(GOOD)
    assert (read.clock_hz, read.memory.capacity_bytes, read.sizes) == (940e6, 1024, (1, 2))
    with pytest.raises(ValidationError):
        read.clock_hz = 1.0  # type: ignore[misc]


def test_an_unknown_field_gets_the_one_that_was_meant() -> None:
    assert problems("clock_mhz: 940\nclock_hz: 1.0\nmemory: {capacity_bytes: 1}") == [
        "machine.yaml: clock_mhz: unknown field; did you mean 'clock_hz'?"
    ]


@pytest.mark.parametrize("place", ["memory", "spare", "banks.left"])
def test_suggestions_follow_nested_fields(place: str) -> None:
    content: dict[str, Any] = with_settings(parse_yaml(GOOD, ""), [f"{place}={{capacity_bytes: 1, shares: 0.5}}"])
    with pytest.raises(SpecError) as error:
        validate(Machine, content, "m.yaml")
    assert str(error.value) == f"m.yaml: {place}.shares: unknown field; did you mean 'share'?"


def test_all_problems_come_at_once_one_line_each() -> None:
    assert problems("clock_hz: -1\nmemory: {capacity_bytes: 0, share: 2.0}\nsizes: [1, 0, x]\nvoltage: 3") == [
        "machine.yaml: clock_hz: should be greater than 0 (got -1)",
        "machine.yaml: memory.capacity_bytes: should be greater than 0 (got 0)",
        "machine.yaml: memory.share: should be less than or equal to 1 (got 2.0)",
        "machine.yaml: sizes.1: should be greater than 0 (got 0)",
        "machine.yaml: sizes.2: should be a valid integer (got 'x')",
        "machine.yaml: voltage: unknown field; known: banks, clock_hz, memory, sizes, spare",
    ]


@pytest.mark.parametrize(
    ("written", "fields"),
    [("memory: 3", "memory: expected fields (capacity_bytes, share), got 3"),
     ("memory: {capacity_bytes: 1}\nbanks: large", "banks: expected fields (name: value), got 'large'"),
     ("memory: {capacity_bytes: 1}\nbanks: {left: []}", "banks.left: expected fields (capacity_bytes, share), got ()")],
)  # fmt: skip
def test_a_value_where_fields_belong_is_told_which(written: str, fields: str) -> None:
    assert problems(f"clock_hz: 1.0\n{written}") == [f"machine.yaml: {fields}"]


def test_a_missing_field_is_named_with_its_path() -> None:
    assert problems("memory: {}") == ["machine.yaml: clock_hz: missing", "machine.yaml: memory.capacity_bytes: missing"]


@pytest.mark.parametrize(
    ("written", "hint"),
    [("940e6", "940_000_000 or 9.4e+8"), ("1e9", "1_000_000_000 or 1.0e+9"), ("25e-2", "2.5e-1")],
)
def test_a_number_that_yaml_takes_for_text_gets_its_spelling(written: str, hint: str) -> None:
    (line,) = problems(f"clock_hz: {written}\nmemory: {{capacity_bytes: 1}}")
    assert line == (
        f"machine.yaml: clock_hz: should be a valid number (got '{written}'); YAML reads this as text: write {hint}"
    )
    spelling = hint.split(" or ")[-1]
    assert yaml.safe_load(spelling) == float(written)


@pytest.mark.parametrize("written", ["true", "'1'", "1.5", "[1]", "null", "{a: 1}", "2020-01-01"])
def test_nothing_is_converted_behind_the_users_back(written: str) -> None:
    (line,) = problems(f"clock_hz: 1.0\nmemory: {{capacity_bytes: {written}}}")
    assert line.startswith("machine.yaml: memory.capacity_bytes: should be a valid integer")


@pytest.mark.parametrize("written", [".inf", ".nan"])
def test_numbers_are_finite(written: str) -> None:
    (line,) = problems(f"clock_hz: {written}\nmemory: {{capacity_bytes: 1}}")
    assert line.startswith("machine.yaml: clock_hz: should be a finite number")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.yaml: expected fields (name: value), got NoneType"),
        ("- 1", "m.yaml: expected fields (name: value), got list"),
        ("just words", "m.yaml: expected fields (name: value), got str"),
        ("a: 1\na: 2", "m.yaml: not valid YAML: line 2: 'a' is given twice, first in line 1"),
        ("b:\n  a: 1\n  a: 2", "m.yaml: not valid YAML: line 3: 'a' is given twice, first in line 2"),
        ("a: &x [1]\nb: *x", "aliases (*name) are not used here"),
        ("a: [1", "m.yaml: not valid YAML: line "),
        ("a: b: c", "m.yaml: not valid YAML: line 1: mapping values are not allowed"),
        ("a: !!python/object:os.system x", "m.yaml: not valid YAML: line 1: could not determine a constructor"),
        ("a: !!int ''", "m.yaml: not valid YAML: "),
        ("a: 2020-13-45", "m.yaml: not valid YAML: "),
        ("? [a]\n: 1", "m.yaml: not valid YAML: "),
        ("a: \x07", "m.yaml: not valid YAML: "),
        ("--- 1\n--- 2", "m.yaml: not valid YAML: line 2: "),
    ],
)
def test_bad_yaml_is_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_yaml(text, "m.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_that_are_no_text_are_refused() -> None:
    assert problems(GOOD + "1: 2") == ["machine.yaml: 1: Keys should be strings (got 1)"]


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(SpecError):
        machine("clock_hz: " + "[" * 3000 + "]" * 3000)


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(SpecError):
        machine(f"clock_hz: 1.0\nmemory: {{capacity_bytes: {'9' * 6000}}}")


def test_long_values_are_cut_in_the_message() -> None:
    (line,) = problems(f"clock_hz: {'x' * 5000}\nmemory: {{capacity_bytes: 1}}")
    assert len(line) < 200


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(SpecError, match=r"latin\.yaml: cannot be read: not UTF-8 text"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        read_yaml(Path("nul\0byte.yaml"))


def test_settings_replace_fields_with_values_as_yaml_writes_them() -> None:
    content = {"clock_hz": 1.0, "memory": {"capacity_bytes": 1}}
    settings = ["clock_hz=2.5", "memory.capacity_bytes=64", "spare.capacity_bytes=8", "sizes=[3]"]
    changed = with_settings(content, settings)
    assert changed == {
        "clock_hz": 2.5, "memory": {"capacity_bytes": 64}, "spare": {"capacity_bytes": 8}, "sizes": [3],
    }  # fmt: skip
    assert content == {"clock_hz": 1.0, "memory": {"capacity_bytes": 1}}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clock_hz", "--set clock_hz: expected dotted.field=value"),
        ("=3", "--set =3: expected dotted.field=value"),
        ("memory..x=3", "--set memory..x=3: expected dotted.field=value"),
        ("clock_hz.low=3", "--set clock_hz.low=3: 'clock_hz' is a value, not a group of fields"),
        ("clock_hz=[", "--set clock_hz=[: '[' is not a value"),
        ("clock_hz=!!int ''", "is not a value"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(setting: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        with_settings({"clock_hz": 1.0}, [setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# ---- nothing but a spec or a CascadeSimError, whatever is in the file

TEXTS = {
    Path(entry.name).stem: entry.read_text(encoding="utf-8")
    for entry in (resources.files("cascadesim.einsum_cascades.models") / "workloads").iterdir()
    if entry.name.endswith(".yaml")
}
SCALARS = ["0", "-1", "1.5", "true", "null", "x", "''", "940e6", ".inf", "[1]", "{a: 1}", "9" * 40, "2020-01-01"]


def read_or_refuse(text: str) -> Workload | None:
    """A workload, or None where the error is ours; anything else fails the test."""
    with contextlib.suppress(CascadeSimError):
        return workload_from(parse_yaml(text, "fuzz.yaml"), "fuzz.yaml")
    return None


@given(text=st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refuse(text)


@given(content=st.binary())
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    with contextlib.suppress(CascadeSimError):
        load_workload(str(path))


@given(text=st.text(alphabet="ab:-[]{}&*!?|>'\"%@` \n#,0.e_~<", max_size=60))
def test_punctuation_is_read_or_refused(text: str) -> None:
    read_or_refuse(text)


@given(name=st.sampled_from(sorted(TEXTS)), data=st.data())
def test_a_real_file_with_a_piece_replaced_is_read_or_refused(name: str, data: st.DataObject) -> None:
    text = TEXTS[name]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 30, len(text))))
    read_or_refuse(text[:start] + data.draw(st.text(max_size=8)) + text[end:])


@given(name=st.sampled_from(sorted(TEXTS)), data=st.data())
def test_a_real_file_with_one_value_replaced_runs_or_is_refused(name: str, data: st.DataObject) -> None:
    """A file that is read describes a model that can be asked for its work."""
    lines = TEXTS[name].splitlines()
    index = data.draw(st.sampled_from([i for i, line in enumerate(lines) if ": " in line]))
    lines[index] = f"{lines[index].split(': ')[0]}: {data.draw(st.sampled_from(SCALARS))}"
    workload = read_or_refuse("\n".join(lines))
    if workload is not None:
        with contextlib.suppress(CascadeSimError):
            workload.operations(sequence_length=64)
            workload.kv_cache_bytes(64, 1)
        assert workload.parameters() > 0


@given(name=st.sampled_from(sorted(TEXTS)), setting=st.text(max_size=30))
def test_any_setting_is_taken_or_refused(name: str, setting: str) -> None:
    with contextlib.suppress(CascadeSimError):
        load_workload(name, [setting])


@given(name=st.text(max_size=20))
def test_any_name_is_found_or_refused(name: str) -> None:
    with contextlib.suppress(CascadeSimError):
        load_workload(name)
