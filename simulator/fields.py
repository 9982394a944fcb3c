"""The fields of an architecture or a workload as rows: dotted name, value, unit, and the source that its file states.

Knows specs and the comments of YAML files; changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.notation.errors import shortened
from cascadesim.einsum_cascades.notation.schema import read_text, yaml_nodes
from cascadesim.einsum_cascades.notation.units import unit_of


class FieldRow(NamedTuple):
    """One field; `remark`: its source as the file says, or the words that it may be."""

    field: str
    value: str
    unit: str
    remark: str


def rows_of(text: str, source: str, spec: BaseModel | None) -> Iterator[FieldRow]:
    """Every single value of a spec, as the text of its file writes it where it does, and what the text has beside."""
    rows = {field: (value, f"one of {', '.join(words)}" * bool(words)) for field, value, words in values_of(spec)}
    rows |= {field: (shortened(value), remark)
             for field, value, remark in _given(yaml_nodes(text, source), text.splitlines())}  # fmt: skip
    return (FieldRow(field, value, unit_of(field) or "", remark) for field, (value, remark) in rows.items())


def why_unread(field: str, unread: Mapping[str, str]) -> str | None:
    """Say why no figure depends on a field; None for one that the model reads."""
    return next((why for group, why in unread.items() if f"{field}.".startswith(f"{group}.")), None)


def constants_of(accelerator: Accelerator) -> tuple[FieldRow, ...]:
    """List the fields that the model of a machine reads, with the values that it has and the sources of its preset."""
    spec = getattr(accelerator, "spec", None)
    own = {field: value for field, value, _ in values_of(spec)}
    path = next((path for full, path in catalogue.presets().items() if path.stem == accelerator.name), None)
    stated = {} if path is None else {row.field: row for row in rows_of(read_text(path), path.name, None)}
    unread = accelerator.capabilities.unread
    return tuple(
        FieldRow(field, value, unit_of(field) or "", _source(value, stated.get(field)))
        for field, value in own.items() if value != "none" and why_unread(field, unread) is None
    )  # fmt: skip


def _source(value: str, stated: FieldRow | None) -> str:
    """What the preset says of a value; one that is not the preset's was set."""
    if stated is None:
        return ""
    return stated.remark if _number(value) == _number(stated.value) else f"set; the preset has {stated.value}"


def _number(text: str) -> float | str:
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return text.lower()


def values_of(spec: object, above: str = "") -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every single value of a spec by its dotted field, with the words that it may be where there are few."""
    for name, field in type(spec).model_fields.items() if isinstance(spec, BaseModel) else ():
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            yield from values_of(value, f"{above}{name}.")
        elif isinstance(value, str | int | float | None):
            words = tuple(str(word) for each in _literals(field.annotation) for word in get_args(each))
            yield f"{above}{name}", "none" if value is None else str(value), words


def _literals(annotation: Any) -> list[Any]:
    """The Literals within an annotation."""
    if get_origin(annotation) is Literal:
        return [annotation]
    return [found for inner in get_args(annotation) for found in _literals(inner)]


def _given(node: yaml.Node | None, lines: list[str], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Each field of a file by its dotted path: its value as it is written, and the comment on its line."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        field = f"{above}{key.value}"
        if isinstance(value, yaml.MappingNode):
            yield from _given(value, lines, f"{field}.")
            continue
        comment = re.search(r"\s#\s*(.*)$", lines[key.end_mark.line])
        parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
        yield field, ", ".join(str(each.value) for each in parts), comment[1] if comment else ""
