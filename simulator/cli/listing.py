"""The command `list`: everything that can be named, with a line on each.

Sections of layers above the simulator come through the entry-point group `cascadesim.listings`: section -> a
function that returns names. A section that nobody fills says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TypeAlias

import click

from cascadesim.simulator.cli.options import one_of
from cascadesim.simulator.views.output import count, length

ENTRY_POINTS = "cascadesim.listings"
Entries: TypeAlias = Iterator[tuple[str, str]]  # (name, what it is)
SECTIONS = ("architectures", "workloads", "cascades", "spaces", "kernels", "devices", "suites")


@click.command("list", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("section", type=one_of(*SECTIONS), required=False, metavar="[SECTION]")
def list_names(section: str | None) -> None:
    """What can be named: architectures, workloads, cascades, spaces, kernels, devices, suites.

    One SECTION, or all of them.
    """
    for position, name in enumerate(SECTIONS if section is None else (section,)):
        if section is None:
            click.echo(f"{chr(10) * (position > 0)}{name}")
        if name in _OWN:
            entries = list(_OWN[name]())
        else:
            fillers = [point.load() for point in entry_points(group=ENTRY_POINTS) if point.name == name]
            entries = [(str(found), "") for names_of in fillers for found in names_of()]
        width = max((len(entry) for entry, _ in entries), default=0)
        for entry, remark in entries:
            click.echo(f"  {entry:{width}}  {remark}".rstrip())
        if not entries:
            click.echo("  none yet")


def _architectures() -> Entries:
    """Each preset with its first line, which says what it is."""
    from cascadesim.accelerators.catalogue import preset_names, presets

    short = set(preset_names())
    for full, path in presets().items():
        name, first = full.split("/")[1], path.read_text(encoding="utf-8").partition("\n")[0]
        yield name if name in short else full, first.removeprefix("#").strip() if first.startswith("#") else ""


def _workloads() -> Entries:
    from cascadesim.einsum_cascades.models.workload import ALIASES, load_workload, workload_names

    for name in workload_names():
        model = load_workload(name)
        aliases = [alias for alias, target in ALIASES.items() if target == name]
        also = f" (also {', '.join(aliases)})" if aliases else ""
        size = f"{count(model.parameters())} parameters, {model.batch} x {length(model.sequence_length)} tokens"
        yield name, f"{model.kind}, {size}{also}"


def _cascades() -> Entries:
    from cascadesim.einsum_cascades.analysis.passes import pass_class
    from cascadesim.einsum_cascades.texts.catalogue import cascade_names, find

    for each in map(find, cascade_names()):
        yield each.name, f"{pass_class(each)}, {', '.join(each.inputs)} -> {', '.join(each.outputs)}"


def _spaces() -> Entries:
    from cascadesim.simulator.explore.space import read_space, space_names

    return ((name, read_space(name)[0].question) for name in space_names())


_OWN: Mapping[str, Callable[[], Entries]] = {
    "architectures": _architectures, "workloads": _workloads, "cascades": _cascades, "spaces": _spaces,
}  # fmt: skip
