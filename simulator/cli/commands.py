"""The shell: `cascadesim` with its sub-commands, and `simulate` for the one that is typed most.

A sub-command is imported when it is asked for. Layers above the simulator add theirs through the entry-point group
`cascadesim.commands`; nothing here knows them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

import click

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, suggestion
from cascadesim.simulator.cli.shell import program_exit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "cascadesim.commands"
OWN = {
    "simulate": "cascadesim.simulator.cli.simulate:simulate",
    "passes": "cascadesim.simulator.cli.passes:passes",
    "rewrite": "cascadesim.simulator.cli.rewrite:rewrite",
    "gna": "cascadesim.simulator.cli.gna:gna",
    "explore": "cascadesim.simulator.cli.explore:explore",
    "list": "cascadesim.simulator.cli.listing:list_names",
}


class Commands(click.Group):
    """Sub-commands of this layer and those that installed packages register."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*OWN, *sorted(set(_registered()) - set(OWN))]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in OWN:
            module, _, attribute = OWN[name].partition(":")
            return cast("click.Command", getattr(import_module(module), attribute))
        return _load(_registered()[name]) if name in _registered() else None

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in OWN and not name.startswith("-") and name not in _registered():
            raise click.UsageError(f"no command '{name}'{suggestion(name, self.list_commands(context))}", context)
        return super().resolve_command(context, arguments)


@cache
def _registered() -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # scans all installed packages: not for `simulate`

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _load(point: EntryPoint) -> click.Command:
    try:
        return cast("click.Command", point.load())
    except (ImportError, AttributeError) as error:
        raise CascadeSimError(f"command '{point.name}' ({point.value}) cannot be loaded: {error}") from error


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cascadesim(context: click.Context) -> None:
    """How long attention and whole transformers take on an accelerator, and what bounds them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """The program `cascadesim`."""
    sys.exit(program_exit(cascadesim, "cascadesim", sys.argv[1:] if arguments is None else arguments))


def simulate_main(arguments: Sequence[str] | None = None) -> None:
    """The program `simulate`, which is `cascadesim simulate`."""
    from cascadesim.simulator.cli.simulate import simulate

    sys.exit(program_exit(simulate, "simulate", sys.argv[1:] if arguments is None else arguments))
