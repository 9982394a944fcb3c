"""The command `show`: all there is to know of one name, and what may be changed of it, as `list` says what there is.

An architecture or a workload is a table of its fields with values, units and sources (the comments of its file); a
cascade, a mapping or a pattern is its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import resources
from os.path import isfile
from pathlib import Path

import click
from pydantic import BaseModel

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.mapping.text import find_mapping, shipped_mappings
from cascadesim.einsum_cascades.analysis.passes import pass_class
from cascadesim.einsum_cascades.models.configurations import workload_yaml
from cascadesim.einsum_cascades.models.workload import ALIASES, DESCRIPTION, load_workload, workload_names
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.notation.notation import to_text
from cascadesim.einsum_cascades.notation.schema import read_text, read_yaml
from cascadesim.einsum_cascades.sparsity.pattern_names import pattern_fields
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator.cli.options import completing
from cascadesim.simulator.fields import FieldRow, rows_of, why_unread
from cascadesim.simulator.result import Result, delivered, write_lines
from cascadesim.simulator.views.output import aligned

SHOWN = ("architectures", "workloads", "cascades", "mappings", "patterns")
_SETTABLE = "change with `simulate --set FIELD=VALUE`, also with units: 8MiB, 6.7TB/s, 1.83GHz, 5us"
_NOT_READ = "not read by the model, so that setting them is refused:"
_WORKLOADS = resources.files("cascadesim.einsum_cascades.models") / "workloads"
Lines = Iterator[str]
Described = tuple[str, tuple[str, ...], Callable[[str], Lines]]  # what it is, names, and what there is to say


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="NAME", shell_complete=completing(*SHOWN))
def show(name: str) -> Result[tuple[str, ...]]:
    """One architecture, workload, cascade, mapping or pattern: its fields, values, units, sources, or its text.

    \b
    cascadesim show h100-sxm
    cascadesim show attention-1pass
    """

    def found() -> Result[tuple[str, ...]]:
        lines = tuple(lines_of(name))
        return Result(lines, lambda: {"lines": list(lines)}, lambda: ({"line": line} for line in lines),
                      partial(write_lines, lines))  # fmt: skip

    return delivered(found, "table")


def lines_of(name: str) -> Lines:
    """Describe what `name` names, each thing if there are several, or a file. Raises UnknownNameError."""
    known: tuple[Described, ...] = (
        ("architecture", (*catalogue.preset_names(), *catalogue.presets()), _architecture),
        ("workload", (*workload_names(), *ALIASES), _workload), ("cascade", tuple(cascade_names()), _cascade),
        ("mapping", tuple(shipped_mappings()), _mapping), ("pattern", tuple(pattern_fields()), _pattern),
    )  # fmt: skip
    described = [(what, describe) for what, names, describe in known if what == _kind(name) or name in names]
    if not described:
        raise UnknownNameError("such name", name, dict.fromkeys(each for _, names, _ in known for each in names))
    for number, (what, describe) in enumerate(described):
        yield from [""] * (number > 0)
        lines = describe(name)
        yield f"{what} {next(lines)}"
        yield from lines


def _kind(name: str) -> str | None:
    """What a file holds; None where the name is no file's."""
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "architecture" if "architecture" in read_yaml(path) else "workload"
    if isfile(path / "config.json"):
        return "workload"
    return {".json": "workload", ".cascade": "cascade", ".mapping": "mapping"}.get(suffix)


def _architecture(name: str) -> Lines:
    path, found = catalogue.find_file(name), catalogue.load(name)
    text = read_text(path)
    first = text.partition("\n")[0]
    yield f"{name}: {first.removeprefix('#').strip()}" if first.startswith("#") else name
    yield ""
    spec = getattr(found, "spec", None)
    yield from _table(text, path.name, spec if isinstance(spec, BaseModel) else None, found.capabilities.unread)


def _workload(name: str) -> Lines:
    model = load_workload(name)
    yield f"{name}: {model.kind}, {model.parameters():,} parameters"
    yield ""
    if _kind(name) is None:
        text = (_WORKLOADS / f"{model.name}.yaml").read_text(encoding="utf-8")
    else:
        text = read_text(name) if name.lower().endswith((".yaml", ".yml")) else workload_yaml(Path(name))
    yield from _table(text, name, model, dict.fromkeys(DESCRIPTION, "it only describes"))


def _cascade(name: str) -> Lines:
    text = find(name)
    heading = f"{name}: {pass_class(text)}, {', '.join(text.inputs)} -> {', '.join(text.outputs)}"
    yield from _text(heading, to_text(text),
                     f"simulate --attention {name}`; sizes: `cascadesim passes {name} --set EXTENT=N")  # fmt: skip


def _mapping(name: str) -> Lines:
    found = find_mapping(name)
    yield from _text(f"{name}: for {found.cascade}", str(found), f"simulate --mapping {name}")


def _text(heading: str, text: str, command: str) -> Lines:
    yield heading
    yield ""
    yield from text.splitlines()
    yield ""
    yield f"run it with `{command}`"


def _pattern(name: str) -> Lines:
    fields = {field: "N" if value is None else f"{value:g}" for field, value in pattern_fields()[name].items()}
    given = ",".join(f"{field}={value}" for field, value in fields.items())
    yield from _text(name, "\n".join(aligned([("field", "value"), *fields.items()], names=2)),
                     f"cascadesim gna --pattern {name}{':' * bool(given)}{given}")  # fmt: skip


def _table(text: str, source: str, spec: BaseModel | None, unread: Mapping[str, str]) -> Lines:
    """What can be set, each field with value, unit and source or choices; then what is not read, and why."""
    cells = [FieldRow("field", "value", "unit", "source")]
    useless = [FieldRow("", "", "", "")]
    for row in rows_of(text, source, spec):
        why = why_unread(row.field, unread)
        (cells if why is None else useless).append(row._replace(remark=why or row.remark))
    yield from aligned(cells, names=4)
    yield ""
    yield _SETTABLE
    if len(useless) > 1:
        yield ""
        yield _NOT_READ
        yield from aligned(useless[1:], names=4)
