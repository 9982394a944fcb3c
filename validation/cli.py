"""`cascadesim validate`: every claim with its error; exit code 1 if one does not hold.

Found by the simulator's command line through the entry-point group `cascadesim.commands`. Importing it is cheap:
models and tables are read when the command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.simulator.cli_shell import complain

if TYPE_CHECKING:
    from cascadesim.validation.compare import Verdict
    from cascadesim.validation.table import Table

A_CLAIM_FAILS = 1


@click.command()
@click.argument("names", nargs=-1, metavar="[SUITE]...")
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE",
              help="Compare with the rows of this CSV file instead of the suite's own.")
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png|.svg",
              help="Draw predicted against measured, suite by suite.")
@click.pass_context
def validate(context: click.Context, names: tuple[str, ...], data: Path | None, output_format: str,
             plot: Path | None) -> None:
    """Hold the models against published figures: claim by claim, the error and whether it stays in its tolerance.

    Without a SUITE, all of them; `cascadesim list suites` names them. Exit code 1 if a claim does not hold.
    """
    from cascadesim.validation.records import divided, not_judged, verdicts_of_records

    published, recorded = divided(names)
    verdicts = verdicts_of(published, data) if published or not names else ()
    for name in recorded:
        found = verdicts_of_records(name)
        if not found:
            complain("validate", not_judged(name))
        verdicts += found
    if not verdicts:
        context.exit(A_CLAIM_FAILS)  # nothing was judged: that must not look like success
    if plot is not None:
        from cascadesim.validation.scatter import draw

        draw(verdicts, plot)
    _print(verdicts, output_format)
    if not all(verdict.holds for verdict in verdicts):
        context.exit(A_CLAIM_FAILS)


def suite_names() -> tuple[str, ...]:
    """What `list suites` prints."""
    from cascadesim.validation import suites
    from cascadesim.validation.records import RECORD_SUITES

    return (*suites.suite_names(), *RECORD_SUITES)


def verdicts_of(names: tuple[str, ...], data: Path | None = None) -> tuple[Verdict, ...]:
    """Every claim of the named suites judged. Raises CascadeSimError on an unknown suite or an unusable file."""
    from cascadesim.validation import suites
    from cascadesim.validation.compare import compare

    if data is not None and not names:
        raise CascadeSimError(f"--data needs a suite, whose claims are held against the file; "
                              f"known: {', '.join(suites.suite_names())}")
    chosen = suites.find_suites(names)
    tables = [suites.own_data(suite) if data is None else suites.other_data(suite, data) for suite in chosen]
    _name_unread(tables, data)
    for suite, table in zip(chosen, tables, strict=True):
        _name_left_out(suite.name, table)
    return tuple(verdict for suite, table in zip(chosen, tables, strict=True)
                 for verdict in compare(suite, table, suites.cited_source(suite, table, data),
                                        suites.calibrations(suite, table)))


def _name_unread(tables: Sequence[Table], data: Path | None) -> None:
    """A column that no suite reads may be a misspelt one."""
    unread = [set(table.unread_columns) for table in tables]
    if data is not None and (names := set.intersection(*unread)):
        complain("validate", f"{data.name}: no suite reads the columns {', '.join(sorted(names))}")


def _name_left_out(suite: str, table: Table) -> None:
    """Rows that the suite cannot judge are counted, never dropped in silence."""
    if table.left_out:
        reasons = "; ".join(f"{rows} ({why})" for why, rows in table.left_out)
        total = sum(rows for _, rows in table.left_out)
        complain("validate", f"{suite}: {total} rows left out: {reasons}")


def _print(verdicts: tuple[Verdict, ...], output_format: str) -> None:
    from cascadesim.validation.render import as_json, print_table

    if output_format == "json":
        click.echo(as_json(verdicts))
        return
    print_table(verdicts, sys.stdout)
