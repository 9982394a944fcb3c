"""What the command `list` prints: everything that can be named, with a line on each.

Sections of layers above the simulator come through the entry-point group `cascadesim.listings`: section -> a
function that returns names. A section that nobody fills is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TypeAlias

from cascadesim.accelerators.catalogue import preset_names, presets
from cascadesim.accelerators.mapping.text import shipped_mappings
from cascadesim.einsum_cascades.analysis.passes import pass_class
from cascadesim.einsum_cascades.models.workload import ALIASES, load_workload, workload_names
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator.explore.space import read_space, space_names
from cascadesim.simulator.gna.pattern_report import pattern_fields
from cascadesim.simulator.views.output import count, length

ENTRY_POINTS = "cascadesim.listings"
Entries: TypeAlias = Iterator[tuple[str, str]]  # (name, what it is)


def entries_of(section: str) -> list[tuple[str, str]]:
    """List the names of a section and what each of them is."""
    if section in _OWN:
        return list(_OWN[section]())
    fillers = [point.load() for point in entry_points(group=ENTRY_POINTS) if point.name == section]
    return [(str(found), "") for names_of in fillers for found in names_of()]


def _architectures() -> Entries:
    """Each preset with its first line, which says what it is."""
    short = set(preset_names())
    for full, path in presets().items():
        name, first = full.split("/")[1], path.read_text(encoding="utf-8").partition("\n")[0]
        yield name if name in short else full, first.removeprefix("#").strip() if first.startswith("#") else ""


def _workloads() -> Entries:
    for name in workload_names():
        model = load_workload(name)
        aliases = [alias for alias, target in ALIASES.items() if target == name]
        also = f" (also {', '.join(aliases)})" if aliases else ""
        size = f"{count(model.parameters())} parameters, {model.batch} x {length(model.sequence_length)} tokens"
        yield name, f"{model.kind}, {size}{also}"


def _cascades() -> Entries:
    for each in map(find, cascade_names()):
        yield each.name, f"{pass_class(each)}, {', '.join(each.inputs)} -> {', '.join(each.outputs)}"


def _mappings() -> Entries:
    for name, mapping in shipped_mappings().items():
        groups = f"{len(mapping.groups)} groups" if len(mapping.groups) > 1 else "one group"
        yield name, f"for {mapping.cascade}, {groups}"


def _patterns() -> Entries:
    """Each pattern of `gna --pattern` with the fields that it takes."""
    for name, fields in pattern_fields().items():
        yield name, f"{name}:{','.join(f'{field}=…' for field in fields)}" if fields else "takes no field"


_OWN: Mapping[str, Callable[[], Entries]] = {
    "architectures": _architectures, "workloads": _workloads, "cascades": _cascades,
    "mappings": _mappings, "patterns": _patterns,
    "spaces": lambda: ((name, read_space(name)[0].question) for name in space_names()),
}  # fmt: skip
