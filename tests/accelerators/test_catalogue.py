"""Finding accelerators: short names, folder/preset, files; every wrong input gets one clear answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim import accelerators
from cascadesim.accelerators import catalogue, program, protocol
from cascadesim.accelerators.catalogue import folders, load, preset_names, presets
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, UnknownNameError
from cascadesim.einsum_cascades.notation.schema import read_yaml


def test_a_preset_is_loaded_by_its_name() -> None:
    accelerator = load("fusemax")
    assert accelerator.name == "fusemax"
    assert accelerator.clock_hz == 940e6


def test_every_published_configuration_is_there_in_both_sizes() -> None:
    published = {"unfused", "flat", "fusemax-cascade", "fusemax-architecture", "fusemax"}
    assert published | {f"{name}-edge" for name in published} <= set(preset_names())


def test_folder_and_preset_is_the_same_accelerator() -> None:
    assert load("fusemax/fusemax") == load("fusemax")


def test_every_folder_with_presets_is_an_accelerator() -> None:
    assert {name.split("/")[0] for name in presets()} == set(folders())
    assert {"flat", "fusemax"} <= set(folders())


def test_a_setting_changes_one_field() -> None:
    small = load("fusemax", ["pe_array.rows=64", "pe_array.columns=64", "vector_array.lanes=64"])
    lanes = {unit.name: unit.lanes for unit in small.units}
    assert lanes["array_2d"] == 64 * 64
    assert lanes["array_1d"] == 64


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(presets()["fusemax/fusemax"].read_text(encoding="utf-8"), encoding="utf-8")
    accelerator = load(str(path))
    assert accelerator.name == "mine.yaml"
    assert accelerator.units == load("fusemax").units


def test_a_typing_error_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="no architecture 'fusmax'; did you mean 'fusemax'"):
        load("fusmax")


def test_an_unknown_name_is_answered_with_the_first_names_and_how_many_there_are() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load("qqqqqqqq")
    named = str(caught.value).partition("known: ")[2].partition(" ... ")[0].split(", ")
    assert named == sorted(preset_names())[: len(named)]
    assert str(caught.value).endswith(f" ... and {len(preset_names()) - len(named)} more; `cascadesim list` names all")


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("pe_array.rows=0", "pe_array.rows: should be greater than 0 (got 0)"),
        ("pe_array.rows=many", "pe_array.rows: should be a valid integer (got 'many')"),
        ("pe_array.row=4", "pe_array.row: unknown field; did you mean 'rows'?"),
        ("clock_mhz=940", "clock_mhz: unknown field; did you mean 'clock_hz'?"),
        ("clock_hz.fast=1", "--set clock_hz.fast=1: 'clock_hz' is a value, not a group of fields"),
        ("pe_array.rows", "--set pe_array.rows: expected dotted.field=value"),
        ("pe_array=7", "pe_array: "),
        ("architecture=fusmax", "architecture: no accelerator 'fusmax'; did you mean 'fusemax'?"),
        ("architecture=[fusemax]", "architecture: no accelerator ['fusemax']"),
    ],
)
def test_a_wrong_setting_names_its_field(setting: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        load("fusemax", [setting])
    assert problem in str(caught.value)


def test_all_problems_of_a_file_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        load("fusemax", ["pe_array.rows=0", "word_bytes=two", "clock_mhz=940"])
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "wrong.yaml: expected fields (name: value), got NoneType"),
        ("- 1\n", "wrong.yaml: expected fields (name: value), got list"),
        ("a: [1\n", "wrong.yaml: not valid YAML: line "),
        ("clock_hz: 1\n", "wrong.yaml: architecture: missing; known: "),
        ("architecture: 5\n", "wrong.yaml: architecture: no accelerator 5"),
        ("architecture: fusemax\n", "wrong.yaml: clock_hz: missing"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(str(path))
    assert problem in str(caught.value)


def dotted_fields(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in content.items():
        found.append(f"{prefix}{name}")
        if isinstance(value, Mapping):
            found += dotted_fields(value, f"{prefix}{name}.")
    return found


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(presets())), values)
def test_any_value_anywhere_is_taken_or_refused(data: st.DataObject, preset: str, value: Any) -> None:
    field = data.draw(st.sampled_from(dotted_fields(read_yaml(presets()[preset]))))
    with suppress(CascadeSimError):
        assert load(preset, [f"{field}={json.dumps(value)}"]).clock_hz > 0


@pytest.mark.parametrize("name", ["nowhere.yaml", "nowhere/else.YML"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load(name)


def test_every_error_is_of_the_one_family() -> None:
    assert issubclass(SpecError, CascadeSimError)
    assert issubclass(UnknownNameError, CascadeSimError)


@pytest.mark.parametrize(("code", "problem"), [
    (None, "accelerators/toy: needs a module accelerator.py"),
    ("x = 1", "needs a function build"),
    ("build = 3", "needs a function build"),
    ("def build(name, content, source): return 7", "build returns a int with no name, clock_hz"),
    ("from types import SimpleNamespace\n"
     "def build(name, content, source): return SimpleNamespace(name=name, clock_hz=1, units=(), attention='', "
     "leakage_w=0, area_um2=None, plan=None, capabilities=True)", "capabilities that are none"),
])  # fmt: skip
def test_a_folder_that_is_no_accelerator_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, problem: str
) -> None:
    folder = tmp_path / "toy"
    (folder / "presets").mkdir(parents=True)
    (folder / "presets" / "tiny.yaml").write_text("architecture: toy\n")
    (folder / "__init__.py").write_text("")
    if code is not None:
        (folder / "accelerator.py").write_text(code)
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(accelerators, "__path__", [*accelerators.__path__, str(tmp_path)])
    catalogue.presets.cache_clear()
    try:
        with pytest.raises(SpecError, match=problem):
            catalogue.load("tiny")
    finally:
        catalogue.presets.cache_clear()
        for name in [name for name in sys.modules if name.startswith("cascadesim.accelerators.toy")]:
            del sys.modules[name]


def test_the_package_exports_what_an_accelerator_needs_and_imports_it_when_used() -> None:
    for public in accelerators.__all__:
        found = getattr(accelerators, public)
        assert any(getattr(home, public, None) is found for home in (catalogue, program, protocol)), public
    with pytest.raises(AttributeError, match="has no attribute 'Machine'"):
        accelerators.Machine  # noqa: B018
    script = "import sys, cascadesim.accelerators; print([name for name in sys.modules if 'accelerators.' in name])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "dram_bytes_per_s", "buffer_bytes"), [
    ("fusemax", 400 * 2**30, 2**24),  # 400 GiB/s, 16 MiB: artifact
    ("h100-sxm", 3.02e12, 50 * 2**20),  # measured; L2
    ("spatten", 256e9, 2 * 256 * 512 * 12 / 8),  # 16 channels of 32 bytes every 2 cycles at 1 GHz; two buffers, 12 bits
    ("spatten-behavioural", 512e9, 2 * 256 * 512 * 12 / 8),  # every cycle
])  # fmt: skip
def test_machines_say_what_dram_delivers_and_what_their_chip_keeps(
    name: str, dram_bytes_per_s: float, buffer_bytes: float
) -> None:
    found = load(name).capabilities
    assert found.dram_bytes_per_s == pytest.approx(dram_bytes_per_s)
    assert found.buffer_bytes == buffer_bytes


def test_every_preset_states_both() -> None:
    """Rooflines need them."""
    assert all(load(name).capabilities.dram_bytes_per_s and load(name).capabilities.buffer_bytes for name in presets())
