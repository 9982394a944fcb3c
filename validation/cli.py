"""`cascadesim validate`: every claim with its error; exit code 1 if one does not hold. `claims` and `measure`.

Found by the simulator's command line through the entry-point group `cascadesim.commands`. Importing it is cheap:
models and tables are read when a command runs.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadesim import validation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.commands import complain
from cascadesim.simulator.cli.options import new_file
from cascadesim.simulator.result import Result, say_panels
from cascadesim.simulator.views.output import pending_files
from cascadesim.validation import kernels, systems
from cascadesim.validation.measure import command

if TYPE_CHECKING:
    from cascadesim.validation.claim import Verdict
    from cascadesim.validation.systems.ledger import Entry

A_CLAIM_FAILS = 1


@click.command()
@click.argument("names", nargs=-1, metavar="[SUITE]...")
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE",
              help="Compare with the rows of this CSV file instead of the suite's own; a suite of measurements takes "
                   "records, FILE.jsonl or a folder of them.")
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Draw predicted against measured, suite by suite.")
def validate(
    names: tuple[str, ...], data: Path | None, output_format: str, plot: Path | None
) -> Result[tuple[Verdict, ...]]:
    """Hold the models against published figures: claim by claim, the error and whether it stays in its tolerance.

    Without a SUITE, all of them; `cascadesim list suites` names them. Exit code 1 if a claim does not hold.
    """
    render = validation.render
    with pending_files((plot,)) as (picture,):
        verdicts = _judged(names, data)
        holds = bool(verdicts) and all(verdict.holds for verdict in verdicts)  # nothing judged is no success
        result = Result(verdicts, partial(render.document, verdicts), partial(render.rows, verdicts),
                        partial(render.print_table, verdicts), partial(render.draw, verdicts),
                        exit_code=0 if holds else A_CLAIM_FAILS)  # fmt: skip
        panels = result.drawn(picture)
    if verdicts:
        result.write(sys.stdout, output_format)
    say_panels(plot, panels)
    return result


def _judged(names: tuple[str, ...], data: Path | None) -> tuple[Verdict, ...]:
    """Judge suites of published figures and suites of records, and say which records could not be judged."""
    suites, record_claims, records = validation.suites, kernels.record_claims, kernels.records
    published, recorded = records.divided(names)
    if data is not None and published and recorded:
        raise CascadeSimError(f"--data: {published[0]} compares a table and {recorded[0]} records: name one kind")
    verdicts = suites.verdicts_of(published, data) if published or not names else ()
    measurements = records.records_of(data)
    for line in measurements.complaints if recorded else ():
        complain("validate", line)
    for name in recorded:
        found = record_claims.judged(name, measurements.records)
        if not found:
            complain("validate", measurements.not_judged(name))
        verdicts += found
    return verdicts


@click.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
              help=command.ABOUT_OUTPUT)
@click.option("--seconds", type=click.FloatRange(min=1), default=command.SECONDS, show_default=True,
              help=command.ABOUT_SECONDS)
@click.option("--counters", is_flag=True, help=command.ABOUT_COUNTERS)
def measure(suites: tuple[str, ...], output: Path, seconds: float, counters: bool) -> None:
    """Measure the kernels on this machine's GPU; exit code 2 where there is none.

    Suites: microbenchmarks, attention, decode, neighborhood, pruned; all of them if none is named. --counters is a
    pass of its own, without the microbenchmarks, into DIR/<device>-<kind>.counters.jsonl.
    """
    for line in command.measured(suites, output, seconds, counters):
        click.echo(line, err=True)


@click.command()
@click.argument("system", required=False, metavar="[SYSTEM]")
@click.option("--data", type=click.Path(path_type=Path), metavar="FILE",
              help="Predict the rows of this CSV file, of the collected columns or of ours, instead.")
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Draw predicted and published figures against the length; of all systems, their ratios.")
def claims(system: str | None, data: Path | None, output_format: str, plot: Path | None) -> Result[tuple[Entry, ...]]:
    """Published figures of attention systems beside our predictions, and what each prediction is made of.

    Without a SYSTEM, a line for each; `cascadesim validate claims` judges them.
    """
    ledger, views = systems.ledger, systems.views
    with pending_files((plot,)) as (picture,):
        entries = ledger.ledger(system, data)
        shown = partial(views.print_system, entries[0]) if system else partial(views.print_summary, entries)
        drawn = partial(views.draw_system, entries[0]) if system else partial(views.draw_summary, entries)
        result = Result(entries, partial(ledger.document, entries), partial(ledger.rows, entries), shown, drawn)
        panels = result.drawn(picture)
    result.write(sys.stdout, output_format)
    say_panels(plot, panels)
    return result


def suite_names() -> tuple[str, ...]:
    """What `list suites` prints."""
    return (*validation.suites.suite_names(), *kernels.records.RECORD_SUITES)
