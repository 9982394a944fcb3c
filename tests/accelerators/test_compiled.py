"""Compiled entries: kept between processes, rebuilt when damaged, announced when somebody has to wait."""

from __future__ import annotations

import importlib.util
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cascadesim.accelerators.compiled import compiled_entry

TOY = """
from cascadesim.accelerators.compiled import compiled, compiled_entry

@compiled
def twice(number):
    return 2 * number

@compiled_entry("the toy", about_s=1)
def toy(number):
    return twice(number) + 1
"""
PROGRESS = re.compile(r"cascadesim: compiling the toy: \d+ s, \d+ functions\n")  # after 10, 20, 40 s, on a slow machine
ANNOUNCED = "cascadesim: compiling the toy (about 1 s) "


@pytest.fixture
def process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[int], str]:
    """What a process that asks for 2 * number + 1 says on standard error: a fresh module has compiled nothing yet."""
    path = tmp_path / "toy.py"
    path.write_text(TOY)

    def run(number: int) -> str:
        spec = importlib.util.spec_from_file_location("toy", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.toy(number) == 2 * number + 1
        assert module.toy(number + 1) == 2 * number + 3
        out, error = capsys.readouterr()
        assert out == ""
        return PROGRESS.sub("", error)

    return run


def test_the_first_process_says_that_it_compiles_and_later_ones_say_nothing(process: Callable[[int], str]) -> None:
    assert process(3) == f"{ANNOUNCED}once; later runs start at once\n"
    assert process(4) == ""


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[: len(content) // 2], lambda content: content + b"\0",
    lambda content: bytes(byte ^ 0x5A if place % 97 == 50 else byte for place, byte in enumerate(content)),
    lambda content: content[:-300] + bytes([content[-300] ^ 1]) + content[-299:],
], ids=["emptied", "cut off", "longer", "garbled", "one bit"])  # fmt: skip
def test_a_damaged_file_is_never_run_but_rebuilt_with_one_line(
    process: Callable[[int], str], tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    process(3)
    (kept,) = (tmp_path / "__pycache__").glob(f"*.{suffix}")
    kept.write_bytes(damage(kept.read_bytes()))
    said = process(5)
    assert said.count("\n") <= 1
    harmless = suffix == "nbi" and said == ""  # bytes of an index that nothing depends on
    assert harmless or said.startswith(ANNOUNCED)
    if suffix == "nbc":
        assert said == f"{ANNOUNCED}again: what was kept in {kept.parent} is damaged\n"
    assert process(6) == ""


def test_a_data_file_that_is_gone_is_made_again(process: Callable[[int], str], tmp_path: Path) -> None:
    process(3)
    (kept,) = (tmp_path / "__pycache__").glob("*.nbc")
    kept.unlink()
    assert process(4).startswith(ANNOUNCED)
    assert process(5) == ""


def test_a_disk_that_is_full_costs_the_next_run_the_same_time_and_says_so(
    process: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    announced, warned = process(3).splitlines()
    assert announced.startswith(ANNOUNCED)
    assert warned.startswith("cascadesim: the toy cannot be kept in ")
    assert warned.endswith("(No space left on device): the next run compiles it again")


def test_where_nothing_can_be_kept_every_run_says_that_it_compiles(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Callable[[int], int]] = {}
    exec(compile("def toy(number): return number + 1", "<nowhere>", "exec"), names)  # numba keeps code beside a file
    assert compiled_entry("the toy", about_s=1)(names["toy"])(1) == 2
    assert capsys.readouterr().err.startswith(f"{ANNOUNCED}in every run: no folder")


def test_worker_processes_are_silent(process: Callable[[int], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    assert process(3) == ""
