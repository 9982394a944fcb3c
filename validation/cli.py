"""`cascadesim validate`: every claim with its error; exit code 1 if one does not hold. And `cascadesim measure`.

Found by the simulator's command line through the entry-point group `cascadesim.commands`. Importing it is cheap:
models and tables are read when a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.commands import complain
from cascadesim.validation.measure.command import (
    ABOUT_COUNTERS,
    ABOUT_OUTPUT,
    ABOUT_SECONDS,
    SECONDS,
    Request,
    measured,
)

if TYPE_CHECKING:
    from cascadesim.validation.compare import Verdict
    from cascadesim.validation.table import Table

A_CLAIM_FAILS = 1


@click.command()
@click.argument("names", nargs=-1, metavar="[SUITE]...")
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE",
              help="Compare with the rows of this CSV file instead of the suite's own; a suite of measurements takes "
                   "records, FILE.jsonl or a folder of them.")
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png|.svg",
              help="Draw predicted against measured, suite by suite.")
@click.pass_context
def validate(context: click.Context, names: tuple[str, ...], data: Path | None, output_format: str,
             plot: Path | None) -> None:
    """Hold the models against published figures: claim by claim, the error and whether it stays in its tolerance.

    Without a SUITE, all of them; `cascadesim list suites` names them. Exit code 1 if a claim does not hold.
    """
    from cascadesim.validation.kernels.records import divided, own_records, records_of

    published, recorded = divided(names)
    if data is not None and published and recorded:
        raise CascadeSimError(f"--data: {published[0]} compares a table and {recorded[0]} records: name one kind")
    verdicts = verdicts_of(published, data) if published or not names else ()
    records = own_records() if data is None else records_of(data)
    for line in records.complaints if recorded else ():
        complain("validate", line)
    for name in recorded:
        found = records.verdicts(name)
        if not found:
            complain("validate", records.not_judged(name))
        verdicts += found
    if not verdicts:
        context.exit(A_CLAIM_FAILS)  # nothing was judged: that must not look like success
    if plot is not None:
        from cascadesim.validation.scatter import draw

        draw(verdicts, plot)
    _print(verdicts, output_format)
    if not all(verdict.holds for verdict in verdicts):
        context.exit(A_CLAIM_FAILS)


@click.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
              help=ABOUT_OUTPUT)
@click.option("--seconds", type=click.FloatRange(min=1), default=SECONDS, show_default=True, help=ABOUT_SECONDS)
@click.option("--counters", is_flag=True, help=ABOUT_COUNTERS)
def measure(suites: tuple[str, ...], output: Path, seconds: float, counters: bool) -> None:
    """Measure the kernels on this machine's GPU; exit code 2 where there is none.

    Suites: microbenchmarks, attention, decode, neighborhood, pruned; all of them if none is named. --counters is a
    pass of its own, without the microbenchmarks, into DIR/<device>-<kind>.counters.jsonl.
    """
    for line in measured(Request(suites, output, seconds, counters)):
        click.echo(line, err=True)


def suite_names() -> tuple[str, ...]:
    """What `list suites` prints."""
    from cascadesim.validation import suites
    from cascadesim.validation.kernels.records import RECORD_SUITES

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
