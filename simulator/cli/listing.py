"""What the command `list` prints: everything that can be named, with a line on each.

Sections of layers above the simulator come through the entry-point group `cascadesim.listings`: section -> a
function that returns names. A section that nobody fills is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from math import prod
from pathlib import Path
from typing import TypeAlias

from cascadesim.accelerators.catalogue import preset_names, presets
from cascadesim.accelerators.mapping.text import shipped_mappings
from cascadesim.einsum_cascades.analysis.passes import pass_class
from cascadesim.einsum_cascades.models.workload import ALIASES, load_workload, workload_names
from cascadesim.einsum_cascades.notation.schema import dotted, read_yaml
from cascadesim.einsum_cascades.sparsity.pattern_names import pattern_fields
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator.explore.space import read_space, space_names
from cascadesim.simulator.uncertainty import validated_rows
from cascadesim.simulator.views.output import bytes_of, count, hertz, length, rate

ENTRY_POINTS = "cascadesim.listings"
Entries: TypeAlias = Iterator[tuple[str, str]]  # (name, what it is)


def entries_of(section: str) -> list[tuple[str, str]]:
    """List the names of a section and what each of them is."""
    if section in _OWN:
        return list(_OWN[section]())
    fillers = [point.load() for point in entry_points(group=ENTRY_POINTS) if point.name == section]
    files = {path.stem: path for path in presets().values()}
    names = [str(found) for names_of in fillers for found in names_of()]
    machines = files.keys() >= set(names)
    return [(name, _machine(files[name]) if machines else "") for name in names]


def _architectures() -> Entries:
    """Each preset with its figures, and its first line, which says what it is."""
    short = set(preset_names())
    for full, path in presets().items():
        name, first = full.split("/")[1], path.read_text(encoding="utf-8").partition("\n")[0]
        what = first.removeprefix("#").strip() if first.startswith("#") else ""
        yield name if name in short else full, "; ".join(filter(None, (_machine(path), what)))


def _machine(path: Path) -> str:
    """Say in figures what a preset's file states of a machine, and whether suites hold the model against it."""
    fields = dict(dotted(read_yaml(path)))
    found = [next((words(factor * prod(map(fields.__getitem__, names))) for factor, names, words in ways
                   if all(isinstance(fields.get(name), int | float) for name in names)), None)
             for ways in _FIGURES]  # fmt: skip
    rows = validated_rows(path.stem)
    return ", ".join(filter(None, (*found, f"validated on {rows:,} published rows" if rows else "not validated")))


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


def _tflops(words: str) -> Callable[[float], str]:
    return lambda amount: f"{rate(amount)} TFLOPS{words}"


def _bandwidth(bytes_per_s: float) -> str:
    return f"{rate(bytes_per_s / 1e12)} TB/s" if bytes_per_s >= 1e12 else f"{rate(bytes_per_s / 1e9)} GB/s"


_ARRAY_TFLOPS = 2e-12  # a multiply-accumulate is two operations
# Each figure of a machine: the ways in which files state it, as a factor and the fields whose product it is.
_FIGURES: Sequence[Sequence[tuple[float, tuple[str, ...], Callable[[float], str]]]] = (
    (*((1.0, (f"datasheet.tensor_tflops.{dtype}",), _tflops(f" {dtype}")) for dtype in ("bf16", "fp16")),
     (1.0, ("datasheet.fp32_tflops",), _tflops(" fp32")),
     (_ARRAY_TFLOPS, ("pe_array.rows", "pe_array.columns", "clock_hz"), _tflops("")),
     (2 * _ARRAY_TFLOPS, ("multipliers", "clock_hz"), _tflops(""))),  # of two arrays of multipliers
    ((1.0, ("dram_bytes",), lambda size: f"{size / 1e9:.3g} GB"),
     (1.0, ("global_buffer.capacity_bytes",), lambda size: f"{bytes_of(size)} buffer"),
     (2 / 8, ("buffer_lines", "multipliers", "element_bits"), lambda size: f"{bytes_of(size)} buffers")),
    ((1.0, ("datasheet.dram_bytes_per_s",), _bandwidth), (1.0, ("dram.bandwidth_bytes_per_s",), _bandwidth),
     (1.0, ("dram.channels",), lambda channels: f"{channels:.0f} HBM channels")),
    ((1.0, ("sms",), lambda sms: f"{sms:.0f} SM{'s' * (sms > 1)}"), (1.0, ("clock_hz",), hertz)),
)  # fmt: skip
_OWN: Mapping[str, Callable[[], Entries]] = {
    "architectures": _architectures, "workloads": _workloads, "cascades": _cascades,
    "mappings": _mappings, "patterns": _patterns,
    "spaces": lambda: ((name, read_space(name)[0].question) for name in space_names()),
}  # fmt: skip
