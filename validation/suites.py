"""Finds suites: every module of `claims/` lists its own in `SUITES`.

A new family of claims is a new module; nothing is registered.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.validation.calibration import Calibration, declared
from cascadesim.validation.claim import Suite
from cascadesim.validation.table import Table, joined, published, read_table

_CLAIMS = "cascadesim.validation.claims"


@cache
def suites() -> tuple[Suite, ...]:
    """Every suite, in order of the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(import_module(_CLAIMS).__path__))
    return tuple(suite for name in names for suite in import_module(f"{_CLAIMS}.{name}").SUITES)


def suite_names() -> tuple[str, ...]:
    """Runs nothing."""
    return tuple(suite.name for suite in suites())


def find_suites(names: Sequence[str]) -> tuple[Suite, ...]:
    """The suites of these names, each once; all of them if none is named. Raises UnknownNameError."""
    known = {suite.name: suite for suite in suites()}
    for name in names:
        if name not in known:
            raise UnknownNameError("suite", name, known)
    return tuple(known[name] for name in dict.fromkeys(names)) or suites()


def own_data(suite: Suite) -> Table:
    """The table that ships with the suite: all its files as one."""
    return joined([published(name, suite.layout, suite.parse) for name in (suite.data, *suite.more)])


def other_data(suite: Suite, path: Path) -> Table:
    """A user's table for the claims of the suite, in its layout or in the published one."""
    return read_table(path, suite.layout, suite.parse)


def calibrations(suite: Suite, table: Table) -> tuple[Calibration, ...]:
    """What the table declares, and what the suite's own does: that binds other rows of the same figures too."""
    tables = dict.fromkeys((own_data(suite), table))
    return tuple(found for each in tables if each.rows
                 for found in declared(each, suite.layout, each.rows[0].source))


def cited_source(suite: Suite, table: Table, path: Path | None) -> str:
    """The file, and the source that its first comment cites."""
    cited = next((comment for comment in table.comments if comment.startswith("Source: ")), "")
    return f"{suite.data if path is None else path.name}{cited and ': '}{cited.removeprefix('Source: ')}"
