"""The command `passes`: what can be said of a cascade before any hardware, as text or as `cascadesim.passes/1`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadesim.simulator.cli.options import alternatives, extent, mask, new_file, one_of
from cascadesim.simulator.views.output import json_text, pending_files, printable

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.analysis.passes import Analysis
    from cascadesim.einsum_cascades.sparsity.masks import KeyInterval

FORMATS = ("table", "json")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("cascade", metavar="CASCADE|FILE.cascade")
@click.option("--rank", metavar="RANK", help="Only this rank; a partitioned one goes by the name of the whole.")
@click.option("--set", "sizes", type=extent, multiple=True, metavar="EXTENT=N",
              help="Bind an extent, such as M0=256 (lengths may be 64K); several times. Counts become numbers.")
@click.option("--mask", type=mask, metavar="MASK",
              help="Count under a mask: full, causal, window:N or chunk:N. Without P, as many queries as keys.")
@click.option("--format", "format_", type=one_of(*FORMATS), default="table", metavar=alternatives(*FORMATS),
              show_default=True, help="How the result is printed.")
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Also draw the Einsums and what they read of each other, in rows of their passes.")
def passes(
    cascade: str,
    rank: str | None,
    sizes: tuple[tuple[str, int], ...],
    mask: KeyInterval | None,
    format_: str,
    plot: Path | None,
) -> None:
    """Passes over each rank, live footprint, operations and least traffic of a cascade.

    `cascadesim list cascades` names those that come along.
    """
    from cascadesim.einsum_cascades.analysis.passes import analyse
    from cascadesim.einsum_cascades.sparsity.masks import FULL
    from cascadesim.einsum_cascades.texts.catalogue import find

    with pending_files((plot,)) as (picture,):
        found = analyse(find(cascade), rank, dict(sizes), FULL if mask is None else mask)
        if picture is not None:
            from cascadesim.simulator.views.graph_plot import draw

            draw(found.cascade, found.main, picture)
        click.echo(json_text(found.to_dict()).rstrip() if format_ == "json" else printable("\n".join(table(found))))


def table(found: Analysis) -> Iterator[str]:
    over = f" over {found.main.over.name}" if found.main.passes > 1 else ""
    yield f"{found.cascade.name}: {found.pass_class}{over}"
    yield ""
    yield from _aligned([("rank", "passes", "live footprint", ""), *_ranks(found)])
    yield ""
    yield from _aligned([("Einsum", "pass", "operations"), *_einsums(found)])
    yield ""
    yield f"least traffic to and from memory: {found.minimum_words} words"


def _ranks(found: Analysis) -> Iterator[tuple[str, ...]]:
    for over, footprint in zip(found.traversals, found.footprints, strict=True):
        grows = "constant" if footprint.constant_in_rank else f"grows with {footprint.rank}"
        yield (over.over.name, str(over.passes), str(footprint.elements), grows)


def _einsums(found: Analysis) -> Iterator[tuple[str, ...]]:
    """The last Einsum of each name: an initial state is written before its update and costs nothing."""
    counts = dict(found.operations)
    last = {einsum.name: number for number, einsum in enumerate(found.cascade.einsums)}
    for name, number in last.items():
        work = " + ".join(f"{count} {kind}" for kind, count in counts.get(name, {}).items())
        yield (name, str(found.main.pass_of(number)), work or "none: a copy or an initial state")


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
