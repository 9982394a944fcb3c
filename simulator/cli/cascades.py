"""The commands `passes`, `rewrite`, `import` and `workload`: cascades and models before any hardware, as texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadesim import einsum_cascades
from cascadesim.simulator import views
from cascadesim.simulator.cli.options import extent, mask, new_file, output_format
from cascadesim.simulator.result import Result, delivered, write_lines
from cascadesim.simulator.views.output import aligned, printable

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.sparsity.masks import KeyInterval



@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("cascade", metavar="CASCADE|FILE.cascade")
@click.option("--rank", metavar="RANK", help="Only this rank; a partitioned one goes by the name of the whole.")
@click.option("--set", "sizes", type=extent, multiple=True, metavar="EXTENT=N",
              help="Bind an extent, such as M0=256 (lengths may be 64K); several times. Counts become numbers.")
@click.option("--mask", type=mask, default="full", metavar="MASK",
              help="Count under a mask: full, causal, window:N or chunk:N. Without P, as many queries as keys.")
@output_format("table", "json")
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Also draw the Einsums and what they read of each other, in rows of their passes.")
def passes(
    cascade: str, rank: str | None, sizes: tuple[tuple[str, int], ...], mask: KeyInterval, format_: str,
    plot: Path | None,
) -> Result[einsum_cascades.Analysis]:  # fmt: skip
    """Passes over each rank, live footprint, operations and least traffic of a cascade.

    `cascadesim list cascades` names those that come along.
    """
    def found() -> Result[einsum_cascades.Analysis]:
        analysis = einsum_cascades.analyse(einsum_cascades.find(cascade), rank, dict(sizes), mask)
        return Result(analysis, analysis.to_dict, lambda: rows(analysis), partial(write_lines, tuple(table(analysis))),
                      draw=partial(_draw, analysis))  # fmt: skip

    return delivered(found, format_, plot=plot)


def _draw(found: einsum_cascades.Analysis, target: Path) -> int:
    return views.graph_plot.draw(found.cascade, found.main, target)


def rows(found: einsum_cascades.Analysis) -> Iterator[dict[str, object]]:
    """One row for each Einsum: its pass, and its operations by class as text, or numbers where extents are bound."""
    for number, einsum in enumerate(found.cascade.einsums):
        yield {"name": einsum.name, "pass": found.main.pass_of(number),
               **{kind: str(amount) for kind, amount in found.operations.get(einsum.name, {}).items()}}


def table(found: einsum_cascades.Analysis) -> Iterator[str]:
    """The lines of the analysis as a person reads it."""
    over = f" over {found.main.over.name}" if found.main.passes > 1 else ""
    ranks = [("rank", "passes", "live footprint", "")]
    for each, footprint in zip(found.traversals, found.footprints, strict=True):
        grows = "constant" if footprint.constant_in_rank else f"grows with {footprint.rank}"
        ranks.append((each.over.name, str(each.passes), str(footprint.elements), grows))
    einsums = [("Einsum", "pass", "operations")]
    # the last Einsum of each name: an initial state is written before its update and costs nothing
    for name, number in {einsum.name: number for number, einsum in enumerate(found.cascade.einsums)}.items():
        work = " + ".join(f"{count} {kind}" for kind, count in found.operations.get(name, {}).items())
        einsums.append((name, str(found.main.pass_of(number)), work or "none: a copy or an initial state"))
    yield f"{found.cascade.name}: {found.pass_class}{over}"
    yield ""
    yield from aligned(ranks, names=4)
    yield ""
    yield from aligned(einsums, names=3)
    yield ""
    yield f"least traffic to and from memory: {found.minimum_words} words"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("cascade", metavar="CASCADE|FILE.cascade")
@click.option("--to", "steps", multiple=True, metavar="REWRITE",
              help="defer-division: divide sums instead of their terms. split:RANK=EXTENT: tiles, such as split:m=M0. "
                   "online[:RANK]: running maximum and sums, in one pass. Several times: one after another.")
def rewrite(cascade: str, steps: Sequence[str]) -> None:
    """Print a cascade rewritten into another that computes the same.

    \b
    cascadesim rewrite attention-3pass --to defer-division --to split:m=M0 --to online > mine.cascade
    """
    found = einsum_cascades.find(cascade)
    for step in steps:
        found = einsum_cascades.rewritten_to(found, step)
    click.echo(printable(einsum_cascades.to_text(found)))


@click.command("import", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", metavar="FILE.yaml")
def import_cascade(file: str) -> None:
    """Print the Einsums of a TeAAL or AccelForge file as a cascade in our notation.

    \b
    cascadesim import their.yaml > mine.cascade
    """
    click.echo(printable(einsum_cascades.to_text(einsum_cascades.read_foreign(file))))


@click.command("workload", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", metavar="config.json|FOLDER")
def print_workload(file: str) -> None:
    """Print a model's config.json (Hugging Face) as the YAML of a workload, to be changed by hand.

    \b
    cascadesim workload Qwen3-8B/config.json > mine.yaml
    simulate --arch h100-sxm --workload Qwen3-8B/config.json
    """
    click.echo(printable(einsum_cascades.workload_yaml(Path(file))), nl=False)
