"""The command `rewrite`: another text of the same cascade, in the notation, ready to be saved as `.cascade`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cascadesim.simulator.views.output import printable


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
    from cascadesim.einsum_cascades.analysis.online import rewritten_to
    from cascadesim.einsum_cascades.notation.notation import to_text
    from cascadesim.einsum_cascades.texts.catalogue import find

    found = find(cascade)
    for step in steps:
        found = rewritten_to(found, step)
    click.echo(printable(to_text(found)))
