"""The command `list`: everything that can be named, with a line on each.

Sections of layers above the simulator come through the entry-point group `cascadesim.listings`: section -> a
function that returns names. A section that nobody fills says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import TypeAlias

import click

from cascadesim.simulator.cli.options import one_of

ENTRY_POINTS = "cascadesim.listings"
Entries: TypeAlias = Sequence[tuple[str, str]]  # (name, what it is)
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
        entries = _entries(name)
        width = max((len(entry) for entry, _ in entries), default=0)
        for entry, remark in entries:
            click.echo(f"  {entry:{width}}  {remark}".rstrip())
        if not entries:
            click.echo("  none yet")


def _entries(section: str) -> Entries:
    if section in _OWN:
        return _OWN[section]()
    fillers = [point.load() for point in entry_points(group=ENTRY_POINTS) if point.name == section]
    return [(str(name), "") for names_of in fillers for name in names_of()]


def _architectures() -> Entries:
    from cascadesim.accelerators.catalogue import preset_names, presets

    short = set(preset_names())
    found = [(name.split("/")[1] if name.split("/")[1] in short else name, path) for name, path in presets().items()]
    return [(name, _first_comment(path.read_text(encoding="utf-8"))) for name, path in found]


def _first_comment(text: str) -> str:
    """The first line of a preset says what it is."""
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _workloads() -> Entries:
    from cascadesim.einsum_cascades.models.workload import ALIASES, load_workload, workload_names
    from cascadesim.simulator.views.formatting import count, length

    entries = []
    for name in workload_names():
        model = load_workload(name)
        aliases = [alias for alias, target in ALIASES.items() if target == name]
        also = f" (also {', '.join(aliases)})" if aliases else ""
        size = f"{count(model.parameters())} parameters, {model.batch} x {length(model.sequence_length)} tokens"
        entries.append((name, f"{model.kind}, {size}{also}"))
    return entries


def _cascades() -> Entries:
    from cascadesim.einsum_cascades.analysis.passes import pass_class
    from cascadesim.einsum_cascades.texts.catalogue import cascade_names, find

    cascades = [find(name) for name in cascade_names()]
    return [(each.name, f"{pass_class(each)}, {', '.join(each.inputs)} -> {', '.join(each.outputs)}")
            for each in cascades]


def _spaces() -> Entries:
    from cascadesim.simulator.explore.space import read_space, space_names

    return [(name, read_space(name)[0].question) for name in space_names()]


_OWN: Mapping[str, Callable[[], Entries]] = {
    "architectures": _architectures, "workloads": _workloads, "cascades": _cascades, "spaces": _spaces,
}  # fmt: skip
