"""The page of assumptions: what each moves is what the commands print today."""

from __future__ import annotations

import re
import shlex
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import cascadesim as cs

PAGE = (Path(__file__).parents[2] / "docs" / "assumptions.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"```sh\n(.*?)\n```\n\n(\|.*?)\n\n", PAGE, re.DOTALL)
QUANTITIES = {"latency": "latency_s", "energy": "total_energy_j", "time": "total_s"}


class Row(NamedTuple):
    """A line of a table: the command above it, what it is given besides, and column -> what is said to change."""

    command: str
    options: str
    effects: tuple[tuple[str, str], ...]


def rows() -> list[Row]:
    found = []
    for command, table in SECTIONS:
        (_, _, *columns), _, *lines = ([cell.strip() for cell in line.strip("| ").split(" | ")]
                                       for line in table.splitlines())  # fmt: skip
        for line in lines:
            *_, instead = line[: -len(columns)]
            (options, *_) = re.findall(r"`([^`]+)`", instead)
            found.append(Row(command, options, tuple(zip(columns, line[-len(columns):], strict=True))))
    return found


ROWS = rows()


@cache
def figures(command: str) -> dict[str, float | None]:
    """What the function of a command gives: seconds and joules."""
    program, *words = shlex.split(command)
    if program == "cascadesim":
        words = words[1:]
    options: dict[str, Any] = {"set": {}}
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name == "--set":
            options["set"] |= (value.split("=", 1),)
        else:
            options[name.removeprefix("--").replace("-", "_")] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # settings that change nothing say so, and that is the point of their rows
        if program == "simulate":
            reports = tuple(cs.simulate(options.pop("arch"), options.pop("workload"), **options))
            return {name: together([getattr(each, name) for each in reports], [each.layers or 1 for each in reports])
                    for name in ("latency_s", "total_energy_j")}  # fmt: skip
        options.pop("set")
        predicted: Any = cs.gna(**options).to_dict()["predicted"]
        return dict(predicted)


def together(of_layers: list[float | None], layers: list[int]) -> float | None:
    """A figure of all layers, where one kind each has a report; None where one has none."""
    known = [figure for figure in of_layers if figure is not None]
    if len(known) < len(layers):
        return None
    return sum(figure * count for figure, count in zip(known, layers, strict=True))


def test_every_model_has_its_table() -> None:
    assert len(SECTIONS) == 8
    assert len(ROWS) >= 36
    assert {name for row in ROWS for name, _ in row.effects} == set(QUANTITIES)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=[f"{row.command.split()[2]} {row.options}" for row in ROWS])
def test_an_assumption_moves_what_the_page_says(row: Row) -> None:
    base, changed = figures(row.command), figures(with_options(row))
    for name, said in row.effects:
        before, after = base[QUANTITIES[name]], changed[QUANTITIES[name]]
        found = "–" if before is None or after is None else f"{after / before - 1:+.1%}"
        assert said == found.replace("-0.0%", "+0.0%")


def with_options(row: Row) -> str:
    """The command with the options of a row in place of its own."""
    words, given = shlex.split(row.command), shlex.split(row.options)
    for name, value in zip(given[::2], given[1::2], strict=True):
        if name != "--set" and name in words:
            words[words.index(name) + 1] = value
        else:
            words += [name, value]
    return shlex.join(words)


def test_a_changed_option_replaces_the_one_of_the_command() -> None:
    row = Row("simulate --arch a --fidelity cycle", "--fidelity analytical --set b=1 --set c=2", ())
    assert with_options(row) == "simulate --arch a --fidelity analytical --set b=1 --set c=2"
