"""Finds suites, reads their tables, and judges them: every module of `claims/` lists its own suites in `SUITES`.

A new family of claims is a new module; nothing is registered.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.simulator.cli.commands import complain
from cascadesim.validation.claim import Suite, Verdict
from cascadesim.validation.compare import CalibratedCells, compare, declared
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


def calibrations(suite: Suite, table: Table) -> tuple[CalibratedCells, ...]:
    """What the table declares, and what the suite's own does: that binds other rows of the same figures too."""
    tables = dict.fromkeys((own_data(suite), table))
    return tuple(found for each in tables if each.rows
                 for found in declared(each, suite.layout, each.rows[0].source))


def cited_source(suite: Suite, table: Table, path: Path | None) -> str:
    """The file, and the source that its first comment cites."""
    cited = next((comment for comment in table.comments if comment.startswith("Source: ")), "")
    return f"{suite.data if path is None else path.name}{cited and ': '}{cited.removeprefix('Source: ')}"


def verdicts_of(names: Sequence[str], data: Path | None = None) -> tuple[Verdict, ...]:
    """Every claim of the named suites judged, all suites if none is named.

    `data`: a user's table, in a suite's layout or in the published one, in place of the suites' own. Columns that no
    suite reads and rows that a suite cannot judge are told on standard error. Raises CascadeSimError on an unknown
    suite or an unusable file.
    """
    if data is not None and not names:
        raise CascadeSimError(f"--data needs a suite, whose claims are held against the file; "
                              f"known: {', '.join(suite_names())}")
    chosen = find_suites(names)
    tables = [own_data(suite) if data is None else read_table(data, suite.layout, suite.parse) for suite in chosen]
    if data is not None and (unread := set.intersection(*(set(table.unread_columns) for table in tables))):
        complain("validate", f"{data.name}: no suite reads the columns {', '.join(sorted(unread))}")
    for suite, table in zip(chosen, tables, strict=True):
        if table.left_out:
            reasons = "; ".join(f"{rows} ({why})" for why, rows in table.left_out)
            complain("validate", f"{suite.name}: {sum(rows for _, rows in table.left_out)} rows left out: {reasons}")
    return tuple(verdict for suite, table in zip(chosen, tables, strict=True)
                 for verdict in compare(suite, table, cited_source(suite, table, data), calibrations(suite, table)))
